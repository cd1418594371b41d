"""Cells of 4x4 pixels whose numbers lie side by side, for small networks at a quarter of the side, and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 4


def to_cells(x: Tensor, support: Tensor, *, frames: slice, level: float) -> Tensor:
    """Cells [b * n, h, w, 16 c + 1] of n `frames` of x [b, c, T, H, W].

    The pixels of every colour, row by row, then the mean of support [b, T, H, W] less `level`. Cells that reach over
    the frame's end repeat its last pixels.

    Raises:
        ValueError: the shapes do not belong together.
    """
    _check(x, support)
    x, support = x[:, :, frames], support[:, frames]
    b, c, n, H, W = x.shape
    mean = F.avg_pool2d(support.reshape(b * n, 1, H, W), CELL, ceil_mode=True) - level
    if H % CELL or W % CELL:
        x = F.pad(x, (0, -W % CELL, 0, -H % CELL, 0, 0), mode="replicate")
    h, w = mean.shape[2:]
    cells = x.reshape(b, c, n, h, CELL, w, CELL).permute(0, 2, 3, 5, 1, 4, 6).reshape(b * n, h, w, CELL**2 * c)
    return torch.cat([cells, mean.view(b * n, h, w, 1)], dim=3)


def add_cells(x: Tensor, cells: Tensor, *, frames: slice) -> Tensor:
    """x [b, c, T, H, W] with cells [b * n, h, w, 16 c] added to n `frames`; differentiable, in fresh memory."""
    b, c, T, H, W = x.shape
    first, stop, _ = frames.indices(T)
    h, w = cells.shape[1:3]
    pixels = cells.reshape(b, stop - first, h, w, c, CELL, CELL).permute(0, 4, 1, 2, 5, 3, 6)
    pixels = pixels.reshape(b, c, stop - first, CELL * h, CELL * w)[..., :H, :W]
    return x + F.pad(pixels, (0, 0, 0, 0, first, T - stop))


def _check(x: Tensor, support: Tensor) -> None:
    if x.dim() != 5 or x.shape[1] == 0:
        raise ValueError(f"to_cells: x must be [b, c, T, H, W], got {list(x.shape)}")
    b, _, T, H, W = x.shape
    if support.shape != (b, T, H, W):
        raise ValueError(f"to_cells: support must be [b, T, H, W] = {[b, T, H, W]}, got {list(support.shape)}")
