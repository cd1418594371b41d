"""Motion of a clip: flows between LR frames that are neighbours, and from them to any time in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from davsr.models.precision import empty_volume
from davsr.models.warp import warp
from davsr.ops import resize_flow

Times = npt.NDArray[np.float64]  # of HR frames, in LR frames from the first


@dataclass(frozen=True)
class Motion:
    """The times of the HR frames, and flows [b, t - 1, 2, h, w] from every LR frame but the last to the next one, and
    back.

    Flows are None where nothing estimates them, or there is one LR frame: all stands still.
    """

    times: Times
    there: Tensor | None = None
    back: Tensor | None = None

    def of_hr_frames(self, scale: tuple[int, int, int], lq: Tensor) -> Tensor:
        """Motion of every HR frame of the LR frames lq [b, t, c, h, w]: [b, T, 2, H, W], HR pixels per HR frame."""
        if self.there is None or self.back is None:
            return lq.new_zeros(len(lq), len(self.times), 2, lq.shape[3] * scale[1], lq.shape[4] * scale[2])
        return motion_between(self.times, scale, self.there, self.back)


def frames_at_lr_times(times: Times, t: int) -> list[int]:
    """Numbers of the HR frames that are nearest to the t LR frames in time."""
    return [int(np.abs(times - j).argmin()) for j in range(t)]


def motion_between(times: Times, scale: tuple[int, int, int], flow_01: Tensor, flow_10: Tensor) -> Tensor:
    """Motion of every HR frame, HR pixels per HR frame [b, T, 2, H, W], from the flows between LR frames
    [b, t - 1, 2, h, w].

    Motion is uniform between two LR frames: at time f the two flows, each moved there along itself, are blended.
    """
    s_t, s_h, s_w = scale
    h, w = flow_01.shape[3:]

    def at(time: float) -> Tensor:
        j = min(int(time), flow_01.shape[1] - 1)
        moved = uniform_motion(flow_01[:, j], flow_10[:, j], time - j)
        return resize_flow(moved / s_t, (h * s_h, w * s_w))

    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.stack([at(float(time)) for time in times], dim=1)
    motion = empty_volume(flow_01, len(flow_01), len(times), 2, h * s_h, w * s_w)
    for p, time in enumerate(times):  # at once in its place: the parts and their union would be as much again
        motion[:, p] = at(float(time))
    return motion


def uniform_motion(flow_01: Tensor, flow_10: Tensor, f: float | Tensor) -> Tensor:
    """Motion at the time f between two frames, pixels from one to the other, from their flows there and back
    [n, 2, h, w].

    f: a number, or [n, 1, 1, 1].
    """
    forward, backward = flow_01, -flow_10
    return torch.lerp(
        warp(forward, -f * forward, padding="border"), warp(backward, (1 - f) * backward, padding="border"), f
    )


def length(vectors: Tensor, dim: int) -> Tensor:
    """Of vectors whose two components lie along `dim`, which stays, with a size of 1."""
    if vectors.requires_grad:  # a slope of zero where nothing moves
        return vectors.norm(dim=dim, keepdim=True)
    return torch.hypot(*vectors.split(1, dim=dim))  # ten times as fast
