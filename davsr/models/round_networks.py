"""The two small networks of a learned round along the motion: the say of a neighbour, and detail that is put back.

Both see cells of 4x4 pixels. Where no derivative is wanted they run inside of compiled passes (`davsr.ops`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.layers import Conv3x3, weights_channels_last
from davsr.models.precision import like_weights
from davsr.ops import conv3x3, to_cells

REACH = 2  # frames to each side that take part in an average
STEPS = tuple(step for step in range(-REACH, REACH + 1) if step)
SUPPORT = 3.0  # about what the weights of a frame and its neighbours sum to
# Units in which the small networks see, so that what is usual is about 1, and in which they answer.
_CONTRAST = 4  # differences and textures are about a quarter of full scale at most
_FAR = 50  # pixels from frame to frame: fast motion
_TRUST = 0.3  # of the logarithm of a factor, so that Adam's first steps change weights by tens of percent
TRUSTED = (-24 * _TRUST, 6 * _TRUST)  # a neighbour counts 1300 times less or 6 times more at most
_DETAIL = 0.01  # of full scale, a few levels: Adam's first steps, as large in every weight, would else add too much
_CELLS = 2**16  # of one pass of the small networks: their activations stay in the cache


class Trust(nn.Module):
    """How much more or less a neighbour counts than its mismatch alone would let it; starts at no difference."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv3x3(4, channels),
            nn.ReLU(inplace=True),
            Conv3x3(channels, channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 1, 1),
        )
        start_at_zero(self.layers[-1])
        weights_channels_last(self)

    def in_units(self) -> list[Tensor]:
        """Weights and biases for what is seen, and for a logarithm, without their units: see `pack_trust`."""
        first, first_bias, second, second_bias, last, last_bias = self.layers.parameters()
        units = first.new_tensor([_CONTRAST, _CONTRAST, 1 / _FAR, 1 / REACH])[:, None, None]
        return [units * first, first_bias, second, second_bias, _TRUST * last, _TRUST * last_bias]

    def forward(self, error: Tensor, texture: Tensor, speed: Tensor) -> Tensor:
        """Mean squared difference [b, steps, T, h, w], texture and speed [b, T, h, w] of cells -> log of a factor, like
        error.
        """
        b, _, T, h, w = error.shape
        factors = [
            self._factor(error[:, :, part], texture[:, part], speed[:, part])
            for part in parts(T, b * len(STEPS) * h * w)
        ]
        return torch.cat(factors, dim=2)

    def _factor(self, error: Tensor, texture: Tensor, speed: Tensor) -> Tensor:
        distance = error.new_tensor(STEPS).abs()[:, None, None, None]
        features = torch.stack(
            [
                _CONTRAST * (error + 1e-8).sqrt(),  # the root's slope stays finite
                (_CONTRAST * texture)[:, None].expand_as(error),
                distance * (speed / _FAR)[:, None],
                (distance / REACH).expand_as(error),
            ],
            dim=-1,
        )
        hidden = like_weights(features, self).flatten(0, 2).permute(0, 3, 1, 2)
        for layer in (self.layers[0], self.layers[2]):
            hidden = layer(hidden, slope=0.0)
        weight, bias = self.layers[-1].parameters()  # a 1x1 convolution to one channel: ten times as fast as a product
        factor = F.linear(hidden.permute(0, 2, 3, 1), weight.flatten(1), bias)
        return (_TRUST * factor.to(error.dtype).view(error.shape)).clamp(*TRUSTED)


class Detail(nn.Module):
    """What the average along the motion lacks, from cells of 4x4 pixels; starts at nothing."""

    def __init__(self, channels: int, rounds: int, colours: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv3x3(16 * colours + 1, channels),
            nn.ReLU(inplace=True),
            Conv3x3(channels, 16 * colours),
        )
        self.strength = nn.Parameter(torch.ones(rounds + 1))
        start_at_zero(self.layers[-1])
        weights_channels_last(self)

    def forward(self, mean: Tensor, support: Tensor, frames: slice, k: int) -> Tensor:
        """Cells [b * n, h, w, 16 c] to add to n frames of mean [b, c, T, H, W] in round k.

        Support [b, T, H, W]: its weights.
        """
        inputs = like_weights(to_cells(mean, support, frames=frames, level=SUPPORT), self).permute(0, 3, 1, 2)
        first, first_bias, last, last_bias = self.in_units(k)
        hidden = conv3x3(inputs, first, first_bias, slope=0.0)
        return conv3x3(hidden, last, last_bias).to(mean.dtype).permute(0, 2, 3, 1)

    def in_units(self, k: int) -> list[Tensor]:
        """Weights and biases of round k for cells as they are, and for detail, without their units: see `pack_detail`.

        The network sees _CONTRAST (pixels - their mean): linear, so the first layer's weights do it.
        """
        first, first_bias, lasts, last_biases = self.of_rounds(slice(k, k + 1))
        return [first, first_bias, lasts[0], last_biases[0]]

    def of_rounds(self, rounds: slice) -> list[Tensor]:
        """`in_units` of several rounds: the last weight and bias have one more dimension, in front."""
        first, first_bias, last, last_bias = self.layers.parameters()
        of_cells, of_count = first.split([first.shape[1] - 1, 1], dim=1)
        centred = torch.cat([_CONTRAST * (of_cells - of_cells.mean(dim=1, keepdim=True)), of_count], dim=1)
        units = _DETAIL * self.strength[rounds, None]
        return [centred, first_bias, units[..., None, None, None] * last, units * last_bias]


def parts(frames: int, cells: int) -> list[slice]:
    """Frames in parts of about `_CELLS` cells, at least one; `cells` has each frame."""
    n = max(1, _CELLS // cells)
    return [slice(first, first + n) for first in range(0, frames, n)]


def start_at_zero(layer: nn.Module) -> None:
    """Before training, a layer that adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def in_cells(x: Tensor, cell: tuple[int, int]) -> Tensor:
    """Means of x [b, T, H, W] over cells: [b, T, H / cell, W / cell]."""
    return F.avg_pool2d(x, cell)


def texture(x: Tensor, cell: tuple[int, int]) -> Tensor:
    """Standard deviation of the brightness of x [b, c, T, H, W] in cells: [b, T, H / cell, W / cell]."""
    grey = x.mean(dim=1)
    square = in_cells(grey.square(), cell) - in_cells(grey, cell).square()
    return (
        square.clamp(min=0) + 1e-6
    ).sqrt()  # a quarter of an 8-bit level where nothing is: the root's slope stays finite
