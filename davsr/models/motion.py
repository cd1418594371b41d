"""Restoration along the motion, without weights: data steps in alternation with averages over trajectories.

A sharp frame is what its neighbours show, moved. Exposure hides that: the data step alone cannot tell the few frames apart that
one LR frame sums. Asking neighbours to agree along the motion does, and gathers the detail that each of them samples elsewhere
(multi-frame super-resolution: Elad and Feuer, 1997; Liu and Sun, 2011). What they leave open, total variation settles: among the
frames that explain the data, flat ones with sharp edges (Rudin, Osher and Fatemi, 1992).
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
from davsr.models.warp import sampling_grid, warp

# Found by hand on cuts of the film and of the validation clips; results change slowly around them.
ALPHA = 0.08  # of the data step, times the largest eigenvalue of A A^T
MOMENTUM = 0.9
REACH = 2  # frames to each side that take part in an average
MISMATCH = 0.11  # root mean square difference at which a neighbour, moved, counts e times less
STEPS = tuple(step for step in range(-REACH, REACH + 1) if step)
FLATTENING = 0.005  # step down the total variation
FLAT = 0.02  # gradient up to which total variation counts quadratically
NOISE = 0.1  # the noise at which the data step takes a value's own error for as large as the noise's
_PIXELS = 2**16  # of one pass


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
    """`rounds` of: average along the motion, flatten, go on in the direction of the last change, data step.

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
    paths = {step: sampling_grid(step * motion.flatten(0, 1)).unflatten(0, motion.shape[:2]) for step in STEPS}
    cell = degradation.scale[1:]
    z = degradation.data_step(x, y, alpha).contiguous()
    previous, agreed = z.clone(), torch.empty_like(z)  # three volumes take turns: fresh memory costs more than the sums
    for _ in range(rounds):
        ahead = previous.mul_(-MOMENTUM).add_(z, alpha=1 + MOMENTUM)
        agree_along_motion(ahead, paths, cell, out=agreed)
        previous, z, agreed = z, degradation.data_step(agreed, y, alpha, out=agreed), ahead
    return z


def agree_along_motion(x: Tensor, paths: dict[int, Tensor], cell: tuple[int, int], out: Tensor) -> None:
    """Every frame of x [b, c, T, H, W] averaged with its neighbours, moved to it, and flattened; written to `out`, like x.

    A neighbour at a distance of d frames has the weight exp(-d^2 / (2 REACH^2)) times exp(-e / MISMATCH^2), e its mean squared
    difference in a cell of `cell` pixels: it loses its say where the motion is wrong or something is covered.

    Args:
        paths: where to sample, for each distance a grid [b, T, H, W, 2] (`sampling_grid`).
    """
    b, _, T, H, W = x.shape
    frames, into = x.transpose(1, 2), out.transpose(1, 2)
    n = max(1, _PIXELS // (b * H * W))
    for first in range(0, T, n):
        last = min(first + n, T)
        total, weights = frames[:, first:last].clone(), frames.new_ones(b, last - first, 1, H, W)
        for step, path in paths.items():
            low, high = max(first, -step), min(last, T - step)  # frames that have this neighbour
            if low >= high:
                continue
            here = frames[:, low:high].flatten(0, 1)
            neighbour = F.grid_sample(
                frames[:, low + step : high + step].flatten(0, 1),
                path[:, low:high].flatten(0, 1),
                padding_mode="border",
                align_corners=False,
            )
            error = F.avg_pool2d((neighbour - here).square_().mean(dim=1, keepdim=True), cell)
            weight = torch.exp(error / -(MISMATCH**2)) * math.exp(-(step**2) / (2 * REACH**2))
            weight = F.interpolate(weight, size=(H, W), mode="bilinear", align_corners=False)
            part = slice(low - first, high - first)
            total[:, part] += neighbour.mul_(weight).unflatten(0, (b, -1))
            weights[:, part] += weight.unflatten(0, (b, -1))
        into[:, first:last] = flatten(total.div_(weights).flatten(0, 1)).unflatten(0, (b, -1))


def flatten(x: Tensor) -> Tensor:
    """A step down the total variation of every image of x [n, c, H, W], colours coupled; smooth below gradients of `FLAT`."""
    dx, dy = torch.diff(x, dim=3), torch.diff(x, dim=2)
    square = F.pad(dx.square().sum(dim=1, keepdim=True), (0, 1)) + F.pad(
        dy.square().sum(dim=1, keepdim=True), (0, 0, 0, 1)
    )
    weight = square.add_(FLAT**2).rsqrt_().mul_(FLATTENING)
    dx.mul_(weight[..., :-1])
    dy.mul_(weight[..., :-1, :])
    x = x.clone()
    x[..., :-1] += dx
    x[..., 1:] -= dx
    x[..., :-1, :] += dy
    x[..., 1:, :] -= dy
    return x
