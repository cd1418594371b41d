"""Convolutions as all networks here use them: channels-last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from davsr.ops import conv3x3


class Conv3x3(nn.Conv2d):
    """3x3 convolution padded by zeros, and what follows it (`davsr.ops.conv3x3`)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, slope: float = 1.0, residual: Tensor | None = None) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h, w], negative values times `slope`, then plus `residual`."""
        assert self.bias is not None
        return conv3x3(x, self.weight, self.bias, slope=slope, residual=residual)


def weights_channels_last(module: nn.Module) -> None:
    """Keep the weights of convolutions channels-last, like what they are shown.

    They would else be converted at every call.
    """
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def upsample(conv: Conv3x3, x: Tensor) -> Tensor:
    """Convolution to 4c channels, pixel shuffle, LeakyReLU: [b, m, h, w] -> [b, c, 2h, 2w].

    The convolution's channels are put in the order (row, column, c) first, in which `conv3x3` puts runs of them to
    their pixels.
    """
    c = conv.out_channels // 4
    weight = conv.weight.unflatten(0, (c, 4)).transpose(0, 1).flatten(0, 1)
    assert conv.bias is not None
    return conv3x3(x, weight, conv.bias.view(c, 4).t().flatten(), slope=0.1, shuffle=True)


class ResidualBlocks(nn.Module):
    """A convolution to `channels`, LeakyReLU, then `count` residual blocks."""

    def __init__(self, inputs: int, channels: int, count: int) -> None:
        super().__init__()
        self.entry = Conv3x3(inputs, channels)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, channels, h, w]; the last inputs may be left out where they are zero."""
        if x.shape[1] == self.entry.in_channels:
            return self.blocks(self.entry(x, slope=0.1))
        weight, bias = self.entry.parameters()
        return self.blocks(conv3x3(x, weight[:, : x.shape[1]], bias, slope=0.1))


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))). Weights start at a tenth of Kaiming's, so that a long chain starts near the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(channels, channels)
        self.conv2 = Conv3x3(channels, channels)
        for conv in (self.conv1, self.conv2):
            weight, bias = conv.parameters()
            nn.init.kaiming_normal_(weight)
            nn.init.zeros_(bias)
            with torch.no_grad():
                weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels, h, w] -> the same."""
        return self.conv2(self.conv1(x, slope=0.0), residual=x)
