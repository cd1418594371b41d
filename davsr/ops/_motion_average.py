"""The average of every frame with its neighbours, moved to it along the motion.

With m the motion at pixel q of frame p (HR pixels a frame), for every step s:

    n_s(q) = a_{p+s}(q + s m(q))                            bilinear; outside the frame its border goes on
    e_s    = mean of |n_s - a_p|^2 over the colours and pixels of a cell
    w_s    = exp(-e_s / M^2 - s^2 / (2 R^2) + trust_s)      of cells, raised bilinearly to pixels
    mean   = (a_p + sum_s w_s n_s) / (1 + sum_s w_s)        support = 1 + sum_s w_s

``motion_average`` is one pass: every neighbour is sampled once. ``motion_mismatch`` is e, ``motion_blend`` the last
line: between them a caller may weigh neighbours as it likes. A neighbour before the first or after the last frame has
no mismatch and no weight. All are compiled, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._extension import dense
from davsr.ops._motion_parts import (
    check,
    check_cell,
    motion_blend,
    motion_blend_reference,
    motion_mismatch,
    motion_mismatch_reference,
)


def motion_average(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    trust: Tensor | None = None,  # [b, steps, T, h, w]
    *,
    cell: tuple[int, int],
    mismatch: float,
    reach: float,
    steps: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Mean [b, c, T, H, W] of every frame and its neighbours, and the support [b, T, H, W], the sum of their weights.

    Args:
        a: frames, float32 or float64.
        motion: (dx, dy) in pixels a frame.
        trust: added to the logarithm of every neighbour's weight, in cells; None: nothing.
        cell: height and width of a cell in pixels; h = H // height. Pixels beyond the last whole cell count in no
            mismatch.
        mismatch: M, the root mean square difference at which a neighbour counts e times less.
        reach: R, the distance in frames at which it counts exp(1/2) times less.
        steps: distances of the neighbours, frames.

    Raises:
        ValueError: a shape, dtype or device does not fit, or M or R is not positive.
    """
    _check_scales(mismatch, reach)
    if trust is not None or not _extension.available(a.device.type):
        error = motion_mismatch(a, motion, cell=cell, steps=steps)
        return motion_blend(a, motion, _weigh(error, trust, mismatch, reach, steps), steps=steps)
    check("motion_average", a, motion, steps)
    check_cell("motion_average", a, cell)
    mean, support, _ = torch.ops.davsr.motion_average(a, motion, list(cell), list(steps), mismatch, reach)
    return mean, support


class AverageKept(NamedTuple):
    """What an average made, for its gradient."""

    mean: Tensor  # [b, c, T, H, W]
    support: Tensor  # [b, T, H, W]
    weight: Tensor  # [b, steps, T, h, w]


def motion_average_kept(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    *,
    cell: tuple[int, int],
    mismatch: float,
    reach: float,
    steps: Sequence[int],
) -> AverageKept:
    """``motion_average`` without trust, and the weights of the neighbours, where the op is compiled."""
    _check_scales(mismatch, reach)
    check("motion_average", a, motion, steps)
    check_cell("motion_average", a, cell)
    return AverageKept(*torch.ops.davsr.motion_average(a, motion, list(cell), list(steps), mismatch, reach))


def motion_average_gradient(
    d_mean: Tensor,  # [b, c, T, H, W]
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    kept: AverageKept,
    *,
    cell: tuple[int, int],
    mismatch: float,
    steps: Sequence[int],
) -> Tensor:
    """The gradient of a for that of the mean, of what ``motion_average_kept`` made."""
    given: Tensor = torch.ops.davsr.motion_average_backward(
        d_mean, None, a, motion, kept.weight, kept.mean, kept.support, list(cell), list(steps), mismatch
    )
    return given


def motion_mean(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    *,
    cell: tuple[int, int],
    mismatch: float,
    reach: float,
    steps: Sequence[int],
    out: Tensor,  # [b, c, T, H, W]
) -> Tensor:
    """The mean of ``motion_average`` alone, in memory that is there, where no derivative is wanted.

    Args:
        out: memory for the mean, none of a's.
    """
    _check_scales(mismatch, reach)
    check("motion_average", a, motion, steps)
    check_cell("motion_average", a, cell)
    if not _extension.available(a.device.type):
        return out.copy_(motion_average(a, motion, cell=cell, mismatch=mismatch, reach=reach, steps=steps)[0])
    torch.ops.davsr.motion_average_(out, a, motion, list(cell), list(steps), mismatch, reach)
    return out


def motion_average_reference(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    trust: Tensor | None = None,  # [b, steps, T, h, w]
    *,
    cell: tuple[int, int],
    mismatch: float,
    reach: float,
    steps: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """``motion_average`` in plain PyTorch, differentiable by autograd."""
    _check_scales(mismatch, reach)
    error = motion_mismatch_reference(a, motion, cell=cell, steps=steps)
    return motion_blend_reference(a, motion, _weigh(error, trust, mismatch, reach, steps), steps=steps)


def _weigh(error: Tensor, trust: Tensor | None, mismatch: float, reach: float, steps: Sequence[int]) -> Tensor:
    far = error.new_tensor([step**2 / (2 * reach**2) for step in steps])
    log_weight = error / -(mismatch**2) - far[:, None, None, None]
    if trust is not None:
        if trust.shape != error.shape:
            raise ValueError(f"motion_average: trust must be {list(error.shape)}, got {list(trust.shape)}")
        log_weight = log_weight + trust
    return log_weight.exp()


def _check_scales(mismatch: float, reach: float) -> None:
    for name, value in (("mismatch", mismatch), ("reach", reach)):
        if not value > 0:
            raise ValueError(f"motion_average: {name} must be above 0, got {value}")


def _register() -> None:
    """Shapes for tracing, and the derivative. Called once, after the extension has been loaded."""

    @torch.library.register_fake("davsr::motion_average")
    def _(
        a: Tensor,
        motion: Tensor,
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        reach: float,
        level: str | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        b, _, T, H, W = a.shape
        cells = a.new_empty(b, len(steps), T, H // cell[0], W // cell[1])
        return dense(a), a.new_empty(b, T, H, W), cells

    @torch.library.register_fake("davsr::motion_average_backward")
    def _(
        d_mean: Tensor,
        d_support: Tensor | None,
        a: Tensor,
        motion: Tensor,
        weight: Tensor,
        mean: Tensor,
        support: Tensor,
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        level: str | None = None,
    ) -> Tensor:
        return dense(a)

    @torch.library.register_fake("davsr::motion_average_")
    def _(
        out: Tensor,
        a: Tensor,
        motion: Tensor,
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        reach: float,
        level: str | None = None,
    ) -> None:
        return None

    def keep_for_average(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        a, motion, ctx.cell, ctx.steps, ctx.mismatch, ctx.reach, ctx.level = inputs
        ctx.save_for_backward(a, motion, *output)
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)

    def average_backward(
        ctx: Any, d_mean: Tensor | None, d_support: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """In one op; where the motion's gradient is wanted, through the blend and the mismatch."""
        a, motion, mean, support, weight = ctx.saved_tensors
        ops, rest = torch.ops.davsr, [None] * 5
        d_mean = torch.zeros_like(mean) if d_mean is None else d_mean
        if not ctx.needs_input_grad[1]:
            given = (d_mean, d_support, a, motion, weight, mean, support, ctx.cell, ctx.steps, ctx.mismatch, ctx.level)
            return ops.motion_average_backward(*given), None, *rest
        d_support = torch.zeros_like(support) if d_support is None else d_support
        d_a, d_weight, d_motion = ops.motion_blend_backward(
            d_mean, d_support, a, motion, weight, mean, support, ctx.steps, True, ctx.level
        )
        d_error = d_weight * weight / -(ctx.mismatch**2)
        of_a, of_motion = ops.motion_mismatch_backward(d_error, a, motion, ctx.cell, ctx.steps, True, ctx.level)
        return d_a + of_a, d_motion + of_motion, *rest

    torch.library.register_autograd("davsr::motion_average", average_backward, setup_context=keep_for_average)


_extension.when_loaded(_register)
