"""The two small networks of a learned round along the motion, where no derivative is wanted, on a CPU in float32.

Each is part of a compiled pass over rows of cells, whose activations stay in the cache. Elsewhere
`davsr.models.round_networks` composes the same of differentiable operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from davsr.ops import _extension


def trusted_average(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    speed: Tensor,  # [b, T, h, w]
    layers: Sequence[Tensor],
    *,
    cell: tuple[int, int],
    steps: Sequence[int],
    mismatch: float,
    reach: float,
    bounds: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """``motion_average`` whose weights a network multiplies by exp(what it makes of cells, held within `bounds`).

    Args:
        a, motion, cell, steps, mismatch, reach: as of ``motion_average``.
        speed: length of the motion in cells, in the unit that the network takes.
        layers: weight and bias of two 3x3 convolutions with ReLU, [hidden, 4, 3, 3] and [hidden, hidden, 3, 3], and of
            a sum over channels [1, hidden, 1, 1]. They see sqrt(e + 1e-8), e the mean squared difference of a frame
            and its neighbour; the standard deviation of the brightness; distance times speed; and distance, in frames.

    Returns:
        Mean [b, c, T, H, W] and support [b, T, H, W].

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    mean, support = torch.ops.davsr.trusted_average(
        a, motion, speed, *layers, list(cell), list(steps), mismatch, reach, *bounds
    )
    return mean, support


def flatten_with_detail(
    mean: Tensor,  # [b, c, T, H, W]
    support: Tensor,  # [b, T, H, W]
    step: Tensor,
    layers: Sequence[Tensor],
    *,
    flat: float,
    level: float,
    out: Tensor,
) -> Tensor:
    """``flatten`` of the mean, and what a network makes of ``to_cells(mean, support, level)``, in cells, added to it.

    Args:
        step, flat, out: as of ``flatten``.
        layers: weight and bias of two 3x3 convolutions, the first with ReLU: [hidden, 16 c + 1, 3, 3] and
            [16 c, hidden, 3, 3].

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    torch.ops.davsr.flatten_with_detail_(out, mean, support, step, *layers, flat, level)
    return out


def _register() -> None:
    @torch.library.register_fake("davsr::trusted_average")
    def _(
        a: Tensor,
        motion: Tensor,
        speed: Tensor,
        first: Tensor,
        first_bias: Tensor,
        second: Tensor,
        second_bias: Tensor,
        last: Tensor,
        last_bias: Tensor,
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        reach: float,
        low: float,
        high: float,
        level: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        b, _, T, H, W = a.shape
        return torch.empty_like(a, memory_format=torch.contiguous_format), a.new_empty(b, T, H, W)

    @torch.library.register_fake("davsr::flatten_with_detail_")
    def _(
        out: Tensor,
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
    ) -> None:
        return None


_extension.when_loaded(_register)
