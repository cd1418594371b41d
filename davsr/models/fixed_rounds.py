"""The rounds along the motion where nothing in them is learned: one function with a derivative of its own.

Autograd of its parts keeps as much and takes fresh memory for every step back; here two volumes go back through all
rounds. With a the frames ahead, m the momentum:

    a_k = z_{k-1} + m (z_{k-1} - z_{k-2}),    z_k = data step(flatten(average(a_k)))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from davsr.models.grouped_rounds import Averaging
from davsr.ops import AverageKept, flatten, flatten_gradient, motion_average_gradient, motion_average_kept
from davsr.physics.degradation import Degradation


def fixed_rounds(
    z: Tensor,  # [b, c, T, H, W]
    y: Tensor,  # [b, c, t, h, w]
    motion: Tensor,  # [b, T, 2, H, W]
    alphas: Tensor,  # [rounds, b]
    momenta: Tensor,  # [rounds]
    flattening: Tensor,  # [rounds]
    degradation: Degradation,
    averaging: Averaging,
) -> Tensor:
    """The rounds of `MotionPrior` after its first data step, one for each of the momenta; differentiable in z and y."""
    made: Tensor = _FixedRounds.apply(z, y, motion, alphas, momenta, flattening, degradation, averaging)
    return made


class _FixedRounds(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        y: Tensor,
        motion: Tensor,
        alphas: Tensor,
        momenta: Tensor,
        flattening: Tensor,
        degradation: Degradation,
        how: Averaging,
    ) -> Tensor:
        kept: list[Tensor] = []
        cell = degradation.scale[1:]
        previous = z = first
        for k, weight in enumerate(1 + momenta):
            # From the third round on in the memory of the frames before the last, which is then ours.
            ahead = first if k == 0 else torch.lerp(first, z, weight) if k == 1 else previous.lerp_(z, weight)
            average = motion_average_kept(
                ahead, motion, cell=cell, steps=how.steps, mismatch=how.mismatch, reach=how.reach
            )
            kept += [ahead, *average]
            settled = flatten(average.mean, flattening[k], flat=how.flat)
            previous, z = z, degradation.data_step(settled, y, alphas[k], out=settled)
        ctx.save_for_backward(motion, alphas, momenta, flattening, *kept)
        ctx.degradation, ctx.how = degradation, how
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        motion, alphas, momenta, flattening, *kept = ctx.saved_tensors
        how: Averaging = ctx.how
        cell = ctx.degradation.scale[1:]
        of_last, of_previous, of_y = grad.clone(memory_format=torch.contiguous_format), torch.zeros_like(grad), None
        for k in reversed(range(len(momenta))):
            ahead, *average = kept[4 * k : 4 * k + 4]
            kept_average = AverageKept(*average)
            back, step = ctx.degradation.data_step_gradient(of_last, alphas[k], out=of_last)
            of_y = step if of_y is None else of_y.add_(step)
            of_mean = flatten_gradient(back, kept_average.mean, flattening[k], flat=how.flat)
            of_ahead = motion_average_gradient(
                of_mean, ahead, motion, kept_average, cell=cell, steps=how.steps, mismatch=how.mismatch
            )
            of_last, of_previous = of_previous.addcmul_(of_ahead, 1 + momenta[k]), of_ahead.mul_(-momenta[k])
        return of_last.add_(of_previous), of_y, *[None] * 6
