"""A round along the motion with its two small networks, where no derivative is wanted, on a CPU in float32.

One compiled pass, in which averages and activations stay in the cache. Elsewhere `davsr.models.rounds` composes the
same of differentiable operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension

_BLOCK = 8  # channels that a compiled pass makes at a time


class RoundNetworks(NamedTuple):
    """The two networks as the compiled pass takes them."""

    trust: list[Tensor]
    detail: list[Tensor]


def pack_trust(layers: Sequence[Tensor]) -> list[Tensor]:
    """The network of ``learned_round`` that changes weights.

    Args:
        layers: weight and bias of two 3x3 convolutions with ReLU, [hidden, 4, 3, 3] and [hidden, hidden, 3, 3], and of
            a sum over channels [1, hidden, 1, 1]. They see sqrt(e + 1e-8), e the mean squared difference of a frame
            and its neighbour; the standard deviation of the brightness; distance times speed; and distance, in frames.
    """
    first, first_bias, second, second_bias, last, last_bias = layers
    more = -len(first) % _BLOCK
    return [
        _padded(first.permute(2, 3, 1, 0), 0, more),
        _padded(first_bias, more),
        _padded(second.permute(2, 3, 1, 0), more, more),
        _padded(second_bias, more),
        _padded(last.flatten(), more),
        last_bias,
    ]


def pack_detail(layers: Sequence[Tensor]) -> list[Tensor]:
    """The network of ``learned_round`` that finds detail.

    Args:
        layers: weight and bias of two 3x3 convolutions, the first with ReLU: [hidden, 16 c + 1, 3, 3] and
            [16 c, hidden, 3, 3]. They see ``to_cells(mean, support, level)``; what they make is added to the cells.
    """
    first, first_bias, last, last_bias = layers
    more = -len(first) % _BLOCK
    return [
        _padded(_of_tiles(first), 0, more),
        _padded(first_bias, more),
        _padded(_of_tiles(last), more, 0),
        last_bias.contiguous(),
    ]


def _of_tiles(weight: Tensor) -> Tensor:
    """A 3x3 convolution [made, seen, 3, 3] in products of a tile of 4x4, [6, 6, seen, made]: Winograd's F(4x4, 3x3)."""
    taps = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
    points = weight.new_tensor(taps) / 24
    return (points @ weight @ points.T).permute(2, 3, 1, 0)


def _padded(weight: Tensor, seen: int, made: int = 0) -> Tensor:
    """With zeros after the last channels; dense. Of one dimension, `seen` of them."""
    pads = (0, seen) if weight.dim() == 1 else (0, made, 0, seen)
    return F.pad(weight, pads).contiguous()


def learned_round(
    a: Tensor,  # [b, c, held, H, W]
    motion: Tensor,  # [b, n, 2, h, w]
    speed: Tensor,  # [b, n, h, w]
    step: Tensor,
    networks: RoundNetworks,
    *,
    first: int,
    frames: int,
    cell: tuple[int, int],
    steps: Sequence[int],
    mismatch: float,
    reach: float,
    bounds: tuple[float, float],
    flat: float,
    level: float,
    out: Tensor,  # [b, c, n, H, W]
) -> Tensor:
    """``motion_round`` with learned parts, float32 on a CPU, where the extension is there.

    A network multiplies the weights of neighbours by exp(what it makes of cells, held within `bounds`); another adds
    detail to the flattened mean.

    Args:
        a, motion, step, first, frames, cell, steps, mismatch, reach, flat, out: as of ``motion_round``.
        speed: length of the motion in cells, in the unit that the network takes.
        networks: see ``pack_trust`` and ``pack_detail``.
        level: what the support is less of, in the eyes of the second network.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    scales = (mismatch, reach, *bounds, flat, level)
    torch.ops.davsr.learned_round_(
        out, a, motion, speed, step, *networks, first, frames, list(cell), list(steps), *scales
    )
    return out


def _register() -> None:
    @torch.library.register_fake("davsr::learned_round_")
    def _(
        out: Tensor,
        a: Tensor,
        motion: Tensor,
        speed: Tensor,
        step: Tensor,
        trust: Sequence[Tensor],
        detail: Sequence[Tensor],
        first: int,
        total: int,
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        reach: float,
        low: float,
        high: float,
        flat: float,
        support_level: float,
        level: str | None = None,
    ) -> None:
        return None


_extension.when_loaded(_register)
