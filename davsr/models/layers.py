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
    """Keep the weights of convolutions channels-last, like what they are shown: they would else be converted at every call."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
