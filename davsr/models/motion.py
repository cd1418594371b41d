"""Restoration along the motion, without weights: data steps in alternation with averages over trajectories.

A sharp frame is what its neighbours show, moved. Exposure hides that: the data step alone cannot tell the few frames apart that
one LR frame sums. Asking neighbours to agree along the motion does, and gathers the detail that each of them samples elsewhere
(multi-frame super-resolution: Elad and Feuer, 1997; Liu and Sun, 2011).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.degradation import Degradation
from davsr.models.flow import resize_flow
from davsr.models.warp import warp

# Found by hand on a few real clips; results change slowly around them.
ALPHA = 0.16  # of the data step, times the largest eigenvalue of A A^T
MOMENTUM = 0.9
REACH = 2  # frames to each side that take part in an average
MISMATCH = 0.15  # root mean square difference at which a neighbour, moved, counts e times less
NOISE = 0.1  # the noise at which the data step takes a value's own error for as large as the noise's
_PIXELS = 2**18  # of one pass


def motion_between(
    times: npt.NDArray[np.float64], scale: tuple[int, int, int], flow_01: Tensor, flow_10: Tensor
) -> Tensor:
    """Motion of every HR frame, HR pixels per HR frame [b, T, 2, H, W], from the flows between LR frames [b, t - 1, 2, h, w].

    Motion is uniform between two LR frames: at time f the two flows, each moved there along itself, are blended.
    """
    s_t, s_h, s_w = scale
    h, w = flow_01.shape[3:]
    motion = []
    for time in times:
        j = min(int(time), flow_01.shape[1] - 1)
        f = float(time) - j
        forward, backward = flow_01[:, j], -flow_10[:, j]
        there = warp(forward, -f * forward, padding="border"), warp(backward, (1 - f) * backward, padding="border")
        motion.append(resize_flow(torch.lerp(*there, f) / s_t, (h * s_h, w * s_w)))
    return torch.stack(motion, dim=1)


@torch.no_grad()
def refine_along_motion(
    x: Tensor, y: Tensor, motion: Tensor, degradation: Degradation, rounds: int, sigma: Tensor | None = None
) -> Tensor:
    """`rounds` of: average along the motion, go on in the direction of the last change, data step.

    Args:
        x: estimate [b, c, T, H, W].
        y: observed video [b, c, t, h, w].
        motion: [b, T, 2, H, W], HR pixels per HR frame.
        sigma: noise of y [b]; None: none.

    Returns:
        The refined estimate, like x; without gradient.
    """
    alpha = torch.full_like(x[:, 0, 0, 0, 0], ALPHA * degradation.largest_eigenvalue())
    if sigma is not None:
        alpha = alpha + (sigma / NOISE) ** 2
    z = previous = degradation.data_step(x, y, alpha)
    for _ in range(rounds):
        ahead = z + MOMENTUM * (z - previous)
        previous, z = z, degradation.data_step(average_along_motion(ahead, motion, degradation.scale[1:]), y, alpha)
    return z


def average_along_motion(x: Tensor, motion: Tensor, cell: tuple[int, int]) -> Tensor:
    """Every frame of x [b, c, T, H, W] averaged with its neighbours, moved to it by `motion` [b, T, 2, H, W].

    A neighbour at a distance of d frames has the weight exp(-d^2 / (2 REACH^2)) times exp(-e / MISMATCH^2), e its mean squared
    difference in a cell of `cell` pixels: it loses its say where the motion is wrong or something is covered.
    """
    b, _, T, H, W = x.shape
    frames = x.transpose(1, 2).contiguous()
    result = torch.empty_like(frames)
    n = max(1, _PIXELS // (b * H * W))
    for first in range(0, T, n):
        last = min(first + n, T)
        total, weights = frames[:, first:last].clone(), frames.new_ones(b, last - first, 1, H, W)
        for step in (step for step in range(-REACH, REACH + 1) if step):
            low, high = max(first, -step), min(last, T - step)  # frames that have this neighbour
            if low >= high:
                continue
            here = frames[:, low:high].flatten(0, 1)
            neighbour = warp(
                frames[:, low + step : high + step].flatten(0, 1),
                step * motion[:, low:high].flatten(0, 1),
                padding="border",
            )
            error = F.avg_pool2d((neighbour - here).square_().mean(dim=1, keepdim=True), cell)
            weight = torch.exp(error / -(MISMATCH**2)) * math.exp(-(step**2) / (2 * REACH**2))
            weight = F.interpolate(weight, size=(H, W), mode="bilinear", align_corners=False)
            part = slice(low - first, high - first)
            total[:, part] += (weight * neighbour).unflatten(0, (b, -1))
            weights[:, part] += weight.unflatten(0, (b, -1))
        torch.div(total, weights, out=result[:, first:last])
    return result.transpose(1, 2)
