"""Optical flow by a spatial pyramid network (SPyNet: Ranjan and Black, CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.warp import warp
from davsr.options import FlowNetOptions

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SPyNet(nn.Module):
    """Residual flow from coarse to fine; every level sees the reference, the warped other image and the flow so far.

    Args:
        levels: number of scales, each half as large as the next; input sides are resized to a multiple of 2^(levels - 1).
        channels: widths of the hidden convolutions of a level.
        kernel: odd side of the convolutions.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, levels: int = 6, channels: Sequence[int] = (32, 64, 32, 16), kernel: int = 7) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(channels, kernel) for _ in range(levels))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    @classmethod
    def from_options(cls, options: FlowNetOptions) -> SPyNet:
        """The network that `options` describe, with its initial weights."""
        return cls(options.levels, options.channels, options.kernel)

    def forward(self, reference: Tensor, support: Tensor) -> Tensor:
        """Flow [b, 2, h, w] in pixels (dx, dy), float32, such that `warp(support, flow)` looks like `reference` [b, 3, h, w].

        Under autocast only the convolutions run in the lower precision: the flow is summed, and images are sampled, in float32.
        """
        return resize_flow(self.coarse_to_fine(reference, support)[-1], reference.shape[2:])

    def coarse_to_fine(self, reference: Tensor, support: Tensor) -> list[Tensor]:
        """The flow of every level in that level's own pixels, from coarse to fine; for training."""
        h, w = reference.shape[2:]
        multiple = 2 ** (len(self.levels) - 1)
        size = (-(-h // multiple) * multiple, -(-w // multiple) * multiple)
        references = self._pyramid(reference, size)
        supports = self._pyramid(support, size)
        flow = references[0].new_zeros(references[0].shape[0], 2, *references[0].shape[2:])
        flows: list[Tensor] = []
        for level, ref, supp in zip(self.levels, references, supports, strict=True):
            if flows:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
                supp = warp(supp, flow, padding="border")
            flow = flow + level(_channels_last(torch.cat([ref, supp, flow], dim=1))).to(flow.dtype)
            flows.append(flow)
        return flows

    def _pyramid(self, image: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Normalised images from coarse to fine."""
        dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
        image = (image.to(dtype) - self.mean.to(dtype)) / self.std.to(dtype)
        if image.shape[2:] != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        images = [image]
        for _ in range(len(self.levels) - 1):
            images.append(F.avg_pool2d(images[-1], 2))
        return images[::-1]


def resize_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """A flow [b, 2, h, w] on another grid, its components scaled to the new pixels."""
    h, w = flow.shape[2:]
    if (h, w) == tuple(size):
        return flow
    flow = F.interpolate(flow, size=tuple(size), mode="bilinear", align_corners=False)
    return flow * flow.new_tensor([size[1] / w, size[0] / h]).view(1, 2, 1, 1)


def _level(channels: Sequence[int], kernel: int) -> nn.Sequential:
    widths = [8, *channels, 2]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        weight, bias = conv.parameters()
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        nn.init.zeros_(bias)
        layers += [conv, nn.ReLU(inplace=True)]
    nn.init.normal_(weight, std=1e-3)  # of the last one: flow starts near zero, the identity warp
    return nn.Sequential(*layers[:-1])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
