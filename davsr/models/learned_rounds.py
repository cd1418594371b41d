"""The rounds along the motion with learned parts: one function with a derivative of its own, on a CPU in float32.

As `fixed_rounds`, in the same names; here the sizes of the steps and the weights of both small networks have gradients
too. What a round keeps for them is where it came from, its average, and what the networks saw on the way: a third of
what autograd of its parts keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from davsr.models.grouped_rounds import Averaging
from davsr.ops import (
    TrustedKept,
    flatten_with_detail,
    flatten_with_detail_gradient,
    momentum_gradient,
    samples_memory,
    split_like,
    trusted_average_gradient,
    trusted_average_kept,
)
from davsr.physics.degradation import Degradation


@dataclass(frozen=True)
class _Plan:
    degradation: Degradation
    averaging: Averaging
    bounds: tuple[float, float]
    level: float

    @property
    def average(self) -> dict[str, Any]:
        """How frames are averaged, as the average and its gradient take it."""
        return {
            "cell": self.degradation.scale[1:],
            "steps": self.averaging.steps,
            "mismatch": self.averaging.mismatch,
            "bounds": self.bounds,
        }

    @property
    def detail(self) -> dict[str, Any]:
        """How averages are flattened, and what detail sees of their support."""
        return {"flat": self.averaging.flat, "level": self.level}


_TRUST, _DETAIL = 6, 4  # weights and biases of the two networks


def learned_rounds(
    z: Tensor,  # [b, c, T, H, W]
    y: Tensor,  # [b, c, t, h, w]
    motion: Tensor,  # [b, T, 2, H, W]
    speed: Tensor,  # [b, T, h, w]
    alphas: Tensor,  # [rounds, b]
    momenta: Tensor,  # [rounds]
    flattening: Tensor,  # [rounds]
    trust: list[Tensor],
    detail: list[Tensor],
    degradation: Degradation,
    averaging: Averaging,
    *,
    bounds: tuple[float, float],
    level: float,
) -> Tensor:
    """The rounds of `MotionPrior` after its first data step, one for each of the momenta.

    Differentiable in all but the motion.

    Args:
        trust: the network as `pack_trust` makes it.
        detail: layers as `Detail.of_rounds` has them, the last weight and bias for every round.
        bounds: of the logarithm of a factor, see `learned_round`.
        level: of support, see `learned_round`.
    """
    plan = _Plan(degradation, averaging, bounds, level)
    made: Tensor = _LearnedRounds.apply(plan, motion, speed, z, y, alphas, momenta, flattening, *trust, *detail)
    return made


class _LearnedRounds(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: _Plan,
        motion: Tensor,
        speed: Tensor,
        first: Tensor,
        y: Tensor,
        alphas: Tensor,
        momenta: Tensor,
        flattening: Tensor,
        *layers: Tensor,
    ) -> Tensor:
        trust, detail = layers[:_TRUST], layers[_TRUST:]
        frames, kept = [first], []
        ahead = torch.empty_like(first)
        for k, weight in enumerate((1 + momenta).tolist()):
            ahead = first if k == 0 else torch.lerp(frames[k - 1], frames[k], weight, out=_apart(ahead, first))
            average = trusted_average_kept(ahead, motion, speed, trust, reach=plan.averaging.reach, **plan.average)
            settled, hidden = flatten_with_detail(*average[:2], flattening[k], _of_round(detail, k), **plan.detail)
            z, misfit = plan.degradation.data_step_kept(settled, y, alphas[k], out=settled)
            kept += [*average, hidden, misfit]
            frames.append(z)
        ctx.save_for_backward(motion, speed, alphas, momenta, flattening, *layers, *frames[:-1], *kept)
        ctx.plan = plan
        return frames[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        motion, speed, alphas, momenta, flattening, *saved = ctx.saved_tensors
        plan: _Plan = ctx.plan
        rounds = len(momenta)
        trust, detail, saved = saved[:_TRUST], saved[_TRUST : _TRUST + _DETAIL], saved[_TRUST + _DETAIL :]
        frames, kept = saved[:rounds], saved[rounds:]
        of_trust, of_alphas, of_momenta, of_flattening = ([] for _ in range(4))  # of the rounds, the last one first
        of_detail: list[list[Tensor]] = []
        of_last = grad.clone(memory_format=torch.contiguous_format)
        of_previous = torch.zeros_like(of_last)
        of_y: Tensor | None = None
        between = torch.empty_like(of_last)
        samples = samples_memory(of_last, plan.averaging.steps)
        for k, momentum in reversed(list(enumerate(momenta.tolist()))):
            *parts, hidden, misfit = kept[7 * k : 7 * k + 7]
            average = TrustedKept(*parts)
            back, step = plan.degradation.data_step_gradient(of_last, alphas[k], out=of_last)
            of_alphas.append((step * misfit).sum(dim=(1, 2, 3, 4)))
            of_y = step if of_y is None else of_y.add_(step)
            of_mean, of_support, of_step, of_layers = flatten_with_detail_gradient(
                back, *average[:2], hidden, flattening[k], _of_round(detail, k), **plan.detail
            )
            of_flattening.append(of_step)
            of_detail.append(of_layers)
            ahead = frames[0]
            if k:
                ahead = torch.lerp(frames[k - 1], frames[k], 1 + momentum, out=between)
            of_ahead, of_network = trusted_average_gradient(
                of_mean, of_support, ahead, motion, speed, average, trust, samples=samples, **plan.average
            )
            of_trust.append(of_network)
            if k:
                of_momenta.append(momentum_gradient(of_previous, of_ahead, frames[k], frames[k - 1], momentum))
                of_last, of_previous = of_previous, of_ahead
            else:  # there the first frames are what is ahead
                of_momenta.append(torch.zeros_like(momenta[0]))
                of_last = of_previous.add_(of_ahead)
        of_first, of_first_bias, *of_lasts = (torch.stack(parts[::-1]) for parts in zip(*of_detail, strict=True))
        return (
            *[None] * 3,
            of_last,
            of_y,
            -torch.stack(of_alphas[::-1]),
            *(torch.stack(of_each[::-1]) for of_each in (of_momenta, of_flattening)),
            *split_like(torch.stack(of_trust).sum(dim=0), trust),
            of_first.sum(dim=0),
            of_first_bias.sum(dim=0),
            *of_lasts,
        )


def _apart(memory: Tensor, first: Tensor) -> Tensor:
    """Memory for what is ahead, which is not that of the first frames."""
    return torch.empty_like(first) if memory is first else memory


def _of_round(detail: list[Tensor] | tuple[Tensor, ...], k: int) -> list[Tensor]:
    first, first_bias, lasts, last_biases = detail
    return [first, first_bias, lasts[k], last_biases[k]]
