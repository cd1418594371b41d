"""The learned parts of a round along the motion with what their gradients need, and those, on a CPU in float32.

``trusted_average_kept`` and ``trusted_average_gradient`` are one average and its derivative, ``flatten_with_detail``
and ``flatten_with_detail_gradient`` the step down its total variation with what the network of detail adds,
``momentum_gradient`` the derivative of a step ahead. Elsewhere `davsr.models.round_networks` composes the same of
differentiable operations, to which the tests compare them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._extension import dense


class TrustedKept(NamedTuple):
    """What a trusted average made, for its gradient."""

    mean: Tensor  # [b, c, T, H, W]
    support: Tensor  # [b, T, H, W]
    weight: Tensor  # [b, steps, T, h, w]
    root: Tensor  # of the mismatch, like weight
    texture: Tensor  # [b, T, h, w]


def trusted_average_kept(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    speed: Tensor,  # [b, T, h, w]
    trust: Sequence[Tensor],
    *,
    cell: tuple[int, int],
    steps: Sequence[int],
    mismatch: float,
    reach: float,
    bounds: tuple[float, float],
) -> TrustedKept:
    """``motion_average`` whose weights a network multiplies by exp(what it makes of cells, held within `bounds`).

    And what its gradient needs.

    Args:
        a, motion, cell, steps, mismatch, reach: as of ``motion_average``.
        speed: length of the motion in cells, in the unit that the network takes.
        trust: the network as ``pack_trust`` makes it.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    return TrustedKept(
        *torch.ops.davsr.trusted_average_kept(
            a, motion, speed, trust, list(cell), list(steps), mismatch, reach, *bounds
        )
    )


def samples_memory(a: Tensor, steps: Sequence[int]) -> Tensor:
    """Memory in which ``trusted_average_gradient`` keeps what it samples of a: four volumes for four neighbours.

    Where many gradients are taken in turn, fresh memory for each costs as much as the samples.
    """
    b, c, T, H, W = a.shape
    return a.new_empty(b * T * len(steps) * c * H * (W + 48))


def trusted_average_gradient(
    d_mean: Tensor,  # [b, c, T, H, W]
    d_support: Tensor | None,  # [b, T, H, W]
    a: Tensor,
    motion: Tensor,
    speed: Tensor,
    kept: TrustedKept,
    trust: Sequence[Tensor],
    *,
    cell: tuple[int, int],
    steps: Sequence[int],
    mismatch: float,
    bounds: tuple[float, float],
    samples: Tensor,
) -> tuple[Tensor, Tensor]:
    """The gradients of a and of the network, for those of the mean and the support (None: zero).

    Args:
        samples: memory, see ``samples_memory``.

    Returns:
        That of a; those of `trust`, one tensor after the other, see ``split_like``.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    of_a, of_trust = torch.ops.davsr.trusted_average_backward_(
        samples, d_mean, d_support, a, motion, speed, *kept, trust, list(cell), list(steps), mismatch, *bounds
    )
    return of_a, of_trust


def split_like(numbers: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Numbers of all tensors, one after the other, as tensors of their shapes."""
    parts = numbers.split([v.numel() for v in tensors])
    return [part.view(v.shape) for part, v in zip(parts, tensors, strict=True)]


def flatten_with_detail(
    mean: Tensor,  # [b, c, T, H, W]
    support: Tensor,  # [b, T, H, W]
    step: Tensor,
    layers: Sequence[Tensor],
    *,
    flat: float,
    level: float,
) -> tuple[Tensor, Tensor]:
    """``flatten(mean, step)`` and what a network makes of ``to_cells(mean, support, level)``, added to its cells.

    Args:
        layers: as ``pack_detail`` takes them.
        flat: as of ``flatten``.

    Returns:
        The sum, like mean; and the hidden layer [b T, h, w, hidden], which the gradient needs.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    made, hidden = torch.ops.davsr.flatten_with_detail(mean, support, step, *layers, flat, level)
    return made, hidden


class DetailGradients(NamedTuple):
    """Of what ``flatten_with_detail`` takes, in the same shapes."""

    mean: Tensor
    support: Tensor
    step: Tensor
    layers: list[Tensor]


def flatten_with_detail_gradient(
    grad: Tensor,  # [b, c, T, H, W]
    mean: Tensor,
    support: Tensor,
    hidden: Tensor,
    step: Tensor,
    layers: Sequence[Tensor],
    *,
    flat: float,
    level: float,
) -> DetailGradients:
    """The gradients for that of the sum.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    first, _, last, _ = layers
    given = (grad, mean, support, hidden, step, first, last, flat, level)
    of_mean, of_support, of_step, *of_layers = torch.ops.davsr.flatten_with_detail_backward(*given)
    return DetailGradients(of_mean, of_support, of_step, of_layers)


def momentum_gradient(d_z: Tensor, d_ahead: Tensor, z: Tensor, before: Tensor, momentum: float) -> Tensor:
    """The gradient of `momentum` in ahead = z + momentum (z - before), a number; all tensors are alike and dense.

    Those of the others: (1 + momentum) d_ahead is added to `d_z`, -momentum d_ahead, that of `before`, takes the place
    of `d_ahead`.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    of_momentum: Tensor = torch.ops.davsr.momentum_backward_(d_z, d_ahead, z, before, momentum)
    return of_momentum


def _register() -> None:
    @torch.library.register_fake("davsr::momentum_backward_")
    def _(d_z: Tensor, d_ahead: Tensor, z: Tensor, before: Tensor, momentum: float, level: str | None = None) -> Tensor:
        return d_z.new_empty(())

    @torch.library.register_fake("davsr::trusted_average_kept")
    def _(
        a: Tensor,
        motion: Tensor,
        speed: Tensor,
        trust: Sequence[Tensor],
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        reach: float,
        low: float,
        high: float,
        level: str | None = None,
    ) -> tuple[Tensor, ...]:
        b, _, T, H, W = a.shape
        cells = a.new_empty(b, len(steps), T, H // cell[0], W // cell[1])
        return dense(a), a.new_empty(b, T, H, W), cells, dense(cells), dense(speed)

    @torch.library.register_fake("davsr::trusted_average_backward_")
    def _(
        samples: Tensor,
        d_mean: Tensor,
        d_support: Tensor | None,
        a: Tensor,
        motion: Tensor,
        speed: Tensor,
        mean: Tensor,
        support: Tensor,
        weight: Tensor,
        root: Tensor,
        texture: Tensor,
        trust: Sequence[Tensor],
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        low: float,
        high: float,
        level: str | None = None,
    ) -> tuple[Tensor, ...]:
        return dense(a), a.new_empty(sum(v.numel() for v in trust))

    @torch.library.register_fake("davsr::flatten_with_detail")
    def _(
        mean: Tensor,
        support: Tensor,
        step: Tensor,
        first: Tensor,
        first_bias: Tensor,
        last: Tensor,
        last_bias: Tensor,
        flat: float,
        support_level: float,
        level: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        b, _, T, H, W = mean.shape
        return dense(mean), mean.new_empty(b * T, -(-H // 4), -(-W // 4), len(first))

    @torch.library.register_fake("davsr::flatten_with_detail_backward")
    def _(
        grad: Tensor,
        mean: Tensor,
        support: Tensor,
        hidden: Tensor,
        step: Tensor,
        first: Tensor,
        last: Tensor,
        flat: float,
        support_level: float,
        level: str | None = None,
    ) -> tuple[Tensor, ...]:
        layers = (first.shape, first.shape[:1], last.shape, last.shape[:1])
        return dense(mean), dense(support), dense(step), *(first.new_empty(shape) for shape in layers)


_extension.when_loaded(_register)
