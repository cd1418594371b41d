"""The ends of the learned prior's fusion: frames to cells of 4x4 pixels and what is known of them, and back to frames.

On a CPU in float32, where no derivative is wanted, both are one compiled pass; else PyTorch's own operations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension

_CELL = 4


def fusion_cells(z: Tensor, picture: Tensor, detail: Tensor, known: Tensor, *, gain: float) -> Tensor:
    """Cells [n, 144 + k, h, w], channels-last, of frames [n, 3, 4 h, 4 w] and of what is known of cells [n, k, h, w].

    gain times: z and the detail as deviations from the mean of the cells around, then, behind what is known, picture
    minus z.

    Raises:
        ValueError: the shapes do not belong together.
    """
    _check("fusion_cells", z, picture, detail)
    if _extension.serves_without_gradient(z, picture, detail, known):
        cells: Tensor = torch.ops.davsr.fusion_cells(z, picture, detail, known, gain)
        return cells.permute(0, 3, 1, 2)
    return fusion_cells_reference(z, picture, detail, known, gain=gain)


def fusion_cells_reference(z: Tensor, picture: Tensor, detail: Tensor, known: Tensor, *, gain: float) -> Tensor:
    """``fusion_cells`` in plain PyTorch, differentiable by autograd."""
    _check("fusion_cells", z, picture, detail)
    parts = [
        cell_deviations(z, gain),
        cell_deviations(detail, gain),
        known,
        gain * F.pixel_unshuffle(picture - z, _CELL),
    ]
    return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)


def fusion_pixels(
    z: Tensor, picture: Tensor, detail: Tensor, cells: Tensor, trust: Tensor, *, half: float, gain: float
) -> Tensor:
    """z + trust (half detail + share (picture - z) + added / gain), like z.

    Args:
        cells: [n, 64, h, w]: 48 that are added, and a share of each pixel, which is bounded to 0 to 1.
        trust: of cells [n, 1, h, w], raised bilinearly.

    Raises:
        ValueError: the shapes do not belong together.
    """
    _check("fusion_pixels", z, picture, detail)
    if _extension.serves_without_gradient(z, picture, detail, cells, trust):
        made: Tensor = torch.ops.davsr.fusion_pixels(z, picture, detail, cells.permute(0, 2, 3, 1), trust, half, gain)
        return made
    return fusion_pixels_reference(z, picture, detail, cells, trust, half=half, gain=gain)


def fusion_pixels_reference(
    z: Tensor, picture: Tensor, detail: Tensor, cells: Tensor, trust: Tensor, *, half: float, gain: float
) -> Tensor:
    """``fusion_pixels`` in plain PyTorch, differentiable by autograd."""
    _check("fusion_pixels", z, picture, detail)
    added, share = cells.split([3 * _CELL**2, _CELL**2], dim=1)
    share = F.pixel_shuffle(share, _CELL).clamp(0, 1)
    enhancement = half * detail + share * (picture - z) + F.pixel_shuffle(added, _CELL) / gain
    return z + F.interpolate(trust, z.shape[2:], mode="bilinear", align_corners=False) * enhancement


def cell_deviations(frames: Tensor, gain: float) -> Tensor:
    """Frames [n, 3, H, W] -> cells [n, 48, H / 4, W / 4], gain times as deviations from the mean of the cells around.

    So what a network sees does not depend on the shade of a place, yet it sees how one cell differs from the next.
    """
    level = mean_around(F.avg_pool2d(frames, _CELL))
    return gain * (F.pixel_unshuffle(frames, _CELL) - level.repeat_interleave(_CELL**2, dim=1))


def mean_around(cells: Tensor) -> Tensor:
    """Means of [n, c, h, w] over 3x3 neighbours, those inside."""
    return F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)


def _check(op: str, z: Tensor, picture: Tensor, detail: Tensor) -> None:
    if z.dim() != 4 or z.shape[1] != 3 or any(side % _CELL or side == 0 for side in z.shape[2:]):
        raise ValueError(f"{op}: z must be [n, 3, 4 h, 4 w], got {list(z.shape)}")
    for name, frames in (("picture", picture), ("detail", detail)):
        if frames.shape != z.shape:
            raise ValueError(f"{op}: {name} must be {list(z.shape)} like z, got {list(frames.shape)}")


def _register() -> None:
    @torch.library.register_fake("davsr::fusion_cells")
    def _(z: Tensor, picture: Tensor, detail: Tensor, known: Tensor, gain: float, level: str | None = None) -> Tensor:
        n, k, h, w = known.shape
        return z.new_empty(n, h, w, 9 * _CELL**2 + k)

    @torch.library.register_fake("davsr::fusion_pixels")
    def _(
        z: Tensor,
        picture: Tensor,
        detail: Tensor,
        cells: Tensor,
        trust: Tensor,
        half: float,
        gain: float,
        level: str | None = None,
    ) -> Tensor:
        return _extension.dense(z)


_extension.when_loaded(_register)
