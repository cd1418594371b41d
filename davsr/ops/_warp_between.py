"""Frames between two others: both neighbours, moved to it along the motion, and blended.

With q a pixel, f the time since the frame before and F the flows to both neighbours, raised to its grid:

    x(q) = (1 - f) v_j(q + F_before(q)) + f v_{j+1}(q + F_after(q))        bilinear; outside the border goes on

Where no derivative is wanted, on a CPU in float32, it is one compiled pass; else PyTorch's own operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._grid import resize_flow, sample, sampling_grid


def warp_between(
    video: Tensor,  # [b, t, c, H, W]
    before: Tensor,  # [b, n, 2, h, w]
    after: Tensor,  # [b, n, 2, h, w]
    *,
    low: Sequence[int],
    share: Sequence[float],
    out: Tensor | None = None,  # [b, n, c, H, W]
) -> Tensor:
    """n frames [b, n, c, H, W], the i-th between frame low[i] of a video and the next one.

    Args:
        video: any number of channels. After its last frame that one stays.
        before: flows from the new frames to the frames before, (dx, dy) in pixels of their own grid, which may be
            coarser than the video's.
        after: flows to the frames after.
        low: numbers of the frames before.
        share: f, of the frames after, from 0 to 1.
        out: memory for the result, where no derivative is wanted; it may be a part of a larger tensor.

    Raises:
        ValueError: the shapes do not belong together, or a frame does not exist.
    """
    _check(video, before, after, low, share)
    if not _extension.serves_without_gradient(video, before, after):
        made = warp_between_reference(video, before, after, low=low, share=share)
        return made if out is None else out.copy_(made)
    if out is None:
        out = video.new_empty(len(video), len(low), *video.shape[2:])
    torch.ops.davsr.warp_between_(out, video, before, after, list(low), list(share))
    return out


def warp_between_reference(
    video: Tensor, before: Tensor, after: Tensor, *, low: Sequence[int], share: Sequence[float]
) -> Tensor:
    """``warp_between`` in plain PyTorch, differentiable by autograd."""
    _check(video, before, after, low, share)
    b, t, _, H, W = video.shape

    def moved(frames: list[int], flow: Tensor) -> Tensor:
        grid = sampling_grid(resize_flow(flow.flatten(0, 1), (H, W)))
        with torch.autocast(video.device.type, enabled=False):
            return sample(video[:, frames].flatten(0, 1).to(grid.dtype), grid, padding="border")

    near, far = moved(list(low), before), moved([min(j + 1, t - 1) for j in low], after)
    f = near.new_tensor(list(share)).repeat(b).view(-1, 1, 1, 1)
    return torch.lerp(near, far, f).unflatten(0, (b, len(low)))


def _check(video: Tensor, before: Tensor, after: Tensor, low: Sequence[int], share: Sequence[float]) -> None:
    if video.dim() != 5 or min(video.shape[1:]) == 0:
        raise ValueError(f"warp_between: video must be [b, t, c, H, W], got {list(video.shape)}")
    b, t = video.shape[:2]
    for name, flow in (("before", before), ("after", after)):
        if flow.dim() != 5 or flow.shape[:3] != (b, len(low), 2) or min(flow.shape[3:]) == 0:
            expected = f"[b, n, 2, h, w] with b = {b} and n = {len(low)}"
            raise ValueError(f"warp_between: {name} must be {expected}, got {list(flow.shape)}")
    if after.shape != before.shape:
        raise ValueError(f"warp_between: after must be like before, {list(before.shape)}, got {list(after.shape)}")
    if len(share) != len(low):
        raise ValueError(f"warp_between: share must have a number for each of low, got {len(share)} for {len(low)}")
    if not all(0 <= j < t for j in low):
        raise ValueError(f"warp_between: low must be frames of the {t} of video, got {list(low)}")
