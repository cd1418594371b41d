"""Where samples lie, as torch's `grid_sample` counts, and sampling there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sampling_grid(flow: Tensor) -> Tensor:
    """Positions p + flow of a flow [b, 2, h, w] in pixels (dx, dy).

    A grid [b, h, w, 2] for `grid_sample`, align_corners=False.

    Normalised so that pixel x lies at (2x + 1)/w - 1 (half-pixel form). It samples exactly where the form with aligned
    corners does, and unlike that one it is defined for a side of one pixel.
    """
    _, _, h, w = flow.shape
    flow = flow if flow.dtype == torch.float64 else flow.float()  # coordinates never lose bits to a lower precision
    x = torch.arange(w, dtype=flow.dtype, device=flow.device)
    y = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None]
    return torch.stack([(2 * (x + flow[:, 0]) + 1) / w - 1, (2 * (y + flow[:, 1]) + 1) / h - 1], dim=-1)


def resize_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """A flow [b, 2, h, w] on another grid, its components scaled to the new pixels."""
    h, w = flow.shape[2:]
    if (h, w) == tuple(size):
        return flow
    flow = F.interpolate(flow, size=tuple(size), mode="bilinear", align_corners=False)
    return flow * flow.new_tensor([size[1] / w, size[0] / h]).view(1, 2, 1, 1)


def sample(x: Tensor, grid: Tensor, *, padding: Literal["zeros", "border"]) -> Tensor:
    """x [b, c, h, w] at the positions of a grid of `sampling_grid`, bilinear.

    Outside lie zeros, or the border goes on.
    """
    if padding == "border" and x.device.type == "mps":  # which knows no such padding
        grid, padding = clamped_to_border(grid, x.shape[2], x.shape[3]), "zeros"
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def clamped_to_border(grid: Tensor, h: int, w: int) -> Tensor:
    """The positions of a grid, those outside an image [h, w] moved to its nearest border pixel.

    None is left to be padded.
    """
    limit = grid.new_tensor([1 - 1 / w, 1 - 1 / h])
    return torch.maximum(torch.minimum(grid, limit), -limit)
