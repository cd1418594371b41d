"""Rounds along the motion where no gradient is wanted: a few frames at a time, in the memory of two videos.

A round takes every frame from its few neighbours in time, and a data step from the frames of one exposure. So a round
goes through the clip by LR frames: what it goes on from is made for the frames around one, and what it makes of them
takes the place of what the frames were before the last round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from davsr.models.precision import empty_volume
from davsr.ops import RoundNetworks, learned_round, motion_round
from davsr.physics.operator import Operator


@dataclass(frozen=True)
class Averaging:
    """How frames are averaged: see `motion_round`."""

    steps: tuple[int, ...]
    mismatch: float
    reach: float
    flat: float


@dataclass(frozen=True)
class Learned:
    """The learned parts of all rounds: see `learned_round`."""

    networks: list[RoundNetworks]  # of every round
    speed: Tensor  # [b, T, h, w], length of the motion in cells
    bounds: tuple[float, float]
    level: float


def refine_in_groups(
    start: Iterator[Tensor],
    y: Tensor,
    motion: Tensor,
    degradation: Operator,
    alphas: Tensor,
    momenta: Tensor,
    flattening: Tensor,
    how: Averaging,
    dtype: torch.dtype,
    learned: Learned | None = None,
    stages: dict[str, Tensor] | None = None,
) -> Tensor:
    """A first data step and then rounds: go on in the direction of the last change, average, flatten, data step.

    Args:
        start: the estimate, [b, c, s_t, H, W] of every LR frame.
        y: observed video [b, c, t, h, w].
        motion: [b, T, 2, h, w], LR pixels per HR frame, or [b, T, 2, H, W], HR pixels.
        alphas: of the data steps [rounds + 1, b].
        momenta, flattening: of the rounds [rounds + 1], from 1 on.
        dtype: in which frames wait for the next round.
        learned: the rounds' learned parts, where they have some.
        stages: takes what the first data step made, as r_0.

    Returns:
        [b, c, T, H, W] of this dtype.
    """
    s_t = degradation.scale[0]
    by_itself = exposed_by_itself(degradation)
    frames = s_t * y.shape[2]
    z: Tensor | None = None
    for part in parts_in_time(frames, s_t):
        x = next(start)
        if z is None:
            z = empty_volume(y, *x.shape[:2], frames, *x.shape[3:], dtype=dtype)
        if by_itself:
            degradation.data_step(x, y[:, :, part.start // s_t : part.stop // s_t], alphas[0], out=x)
        z[:, :, part] = x
        del x  # before the next one takes memory
    if z is None or next(start, None) is not None:  # its end is asked for: it would hold memory until then
        raise ValueError(f"rounds: x must have parts of the {y.shape[2]} LR frames of y, and those have frames")
    if not by_itself:
        degradation.data_step(z, y, alphas[0], out=z)
    if stages is not None:
        stages["r_0"] = z.clone()
    previous = empty_volume(z, *z.shape).copy_(z)
    around = max(how.steps)
    ring = y.new_empty(*z.shape[:2], s_t + 2 * around, *z.shape[3:])
    made = y.new_empty(*z.shape[:2], s_t, *z.shape[3:])
    for k in range(1, len(momenta)):
        filled = 0
        for part in parts_in_time(frames, s_t):
            stop = min(part.stop + around, frames)
            go_on(previous, z, 1 + float(momenta[k]), ring, range(filled, stop))
            filled = stop
            _round_of(ring, motion, flattening[k], part, frames, degradation.scale[1:], how, learned, k - 1, made)
            if by_itself:
                degradation.data_step(made, y[:, :, part.start // s_t : part.stop // s_t], alphas[k], out=made)
            previous[:, :, part] = made
        if not by_itself:
            degradation.data_step(previous, y, alphas[k], out=previous)
        previous, z = z, previous
    return z


def _round_of(
    ring: Tensor,
    motion: Tensor,
    step: Tensor,
    part: slice,
    frames: int,
    cell: tuple[int, int],
    how: Averaging,
    learned: Learned | None,
    k: int,
    made: Tensor,
) -> None:
    """The frames of a part in round k (from 0 on), into `made`."""
    average = {"steps": how.steps, "mismatch": how.mismatch, "reach": how.reach, "flat": how.flat}
    common: dict[str, Any] = {"first": part.start, "frames": frames, "cell": cell, "out": made, **average}
    if learned is None:
        motion_round(ring, motion[:, part], step, **common)
    else:
        networks, speed = learned.networks[k], learned.speed[:, part]
        common |= {"bounds": learned.bounds, "level": learned.level}
        learned_round(ring, motion[:, part], speed, step, networks, **common)


def go_on(previous: Tensor, z: Tensor, share: float, ring: Tensor, frames: range) -> None:
    """previous + share (z - previous) of these frames of [b, c, T, H, W], into their places of the ring."""
    for p in frames:
        torch.lerp(
            previous[:, :, p].to(ring.dtype), z[:, :, p].to(ring.dtype), share, out=ring[:, :, p % ring.shape[2]]
        )


def exposed_by_itself(degradation: Operator) -> bool:
    """Whether no exposure reaches beyond its LR frame's own HR frames: each may have its data step alone."""
    phase = degradation.centre - (degradation.exposure - 1) / 2
    return phase >= 0 and phase + degradation.exposure <= degradation.scale[0]


def step_by_parts(
    degradation: Operator, x: Tensor, y: Tensor, alpha: Tensor, working: Callable[[Tensor], Tensor] = Tensor.float
) -> Tensor:
    """A data step of frames that wait in half precision, [b, c, T, H, W], in their place: one LR frame at a time."""
    s_t = degradation.scale[0]
    for part in parts_in_time(x.shape[2], s_t):
        some = working(x[:, :, part])
        x[:, :, part] = degradation.data_step(some, y[:, :, part.start // s_t : part.stop // s_t], alpha, out=some)
    return x


def parts_in_time(frames: int, s_t: int) -> list[slice]:
    """The HR frames of every LR frame."""
    return [slice(first, first + s_t) for first in range(0, frames, s_t)]
