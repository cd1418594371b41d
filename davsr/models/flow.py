"""Optical flow by a spatial pyramid network (SPyNet: Ranjan and Black, CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.precision import like_weights, working_dtype
from davsr.models.warp import warp
from davsr.ops import resize_flow
from davsr.options import FlowNetOptions

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SPyNet(nn.Module):
    """Residual flow from coarse to fine; every level sees the reference, the warped other image and the flow so far.

    With `matching` it also sees how well every shift of up to so many pixels would match (cost volume: Sun et al., CVPR
    2018), which it then need not learn to compute: small networks learn many times faster. Where a level looks is then
    taken as given (RAFT: Teed and Deng, ECCV 2020): gradients reach the flow through the sum of the corrections alone,
    at half the time.

    Args:
        levels: number of scales, each half as large as the next; input sides are resized to a multiple of
            2^(levels - 1).
        channels: widths of the hidden convolutions of a level.
        kernel: odd side of the convolutions.
        matching: radius of the search, pixels of the level; 0: none, as published.
        shared: whether all levels have the same weights.
        passes: how often a level corrects the flow.
        dilated: the taps of hidden convolution n = 0, 1, ... lie 2^n pixels apart (context network: Sun et al., CVPR
            2018), so that a level sees beyond places without texture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        levels: int = 6,
        channels: Sequence[int] = (32, 64, 32, 16),
        kernel: int = 7,
        *,
        matching: int = 0,
        shared: bool = False,
        passes: int = 1,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        self.scales, self.matching, self.passes = levels, matching, passes
        inputs = 8 + ((2 * matching + 1) ** 2 if matching else 0)
        self.levels = nn.ModuleList(_level(inputs, channels, kernel, dilated) for _ in range(1 if shared else levels))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    @classmethod
    def from_options(cls, options: FlowNetOptions) -> SPyNet:
        """The network that `options` describe, with its initial weights."""
        o = options
        return cls(
            o.levels, o.channels, o.kernel, matching=o.matching, shared=o.shared, passes=o.passes, dilated=o.dilated
        )

    def forward(self, reference: Tensor, support: Tensor) -> Tensor:
        """Flow [b, 2, h, w] in pixels (dx, dy) such that `warp(support, flow)` looks like `reference` [b, 3, h, w].

        Only the convolutions run in the precision of the weights, or of autocast: the flow is summed, and images are
        sampled, in float32, or float64 where the images are.
        """
        return resize_flow(self.coarse_to_fine(reference, support)[-1], reference.shape[2:])

    def coarse_to_fine(self, reference: Tensor, support: Tensor) -> list[Tensor]:
        """The flow after every pass of every level, in that level's own pixels, from coarse to fine; for training."""
        h, w = reference.shape[2:]
        multiple = 2 ** (self.scales - 1)
        size = (-(-h // multiple) * multiple, -(-w // multiple) * multiple)
        references = self._pyramid(reference, size)
        supports = self._pyramid(support, size)
        flow = references[0].new_zeros(references[0].shape[0], 2, *references[0].shape[2:])
        flows: list[Tensor] = []
        for n, (ref, supp) in enumerate(zip(references, supports, strict=True)):
            level = self.levels[min(n, len(self.levels) - 1)]
            if n:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            for _ in range(self.passes):
                given = flow.detach() if self.matching else flow
                moved = warp(supp, given, padding="border") if flows else supp
                seen = [ref, moved, given]
                if self.matching:
                    seen.append(matching_cost(ref, moved, self.matching))
                flow = flow + level(_channels_last(like_weights(torch.cat(seen, dim=1), level))).to(flow.dtype)
                flows.append(flow)
        return flows

    def _pyramid(self, image: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Normalised images from coarse to fine."""
        dtype = working_dtype(image)
        image = (image.to(dtype) - self.mean.to(dtype)) / self.std.to(dtype)
        if image.shape[2:] != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        images = [image]
        for _ in range(self.scales - 1):
            images.append(F.avg_pool2d(images[-1], 2))
        return images[::-1]


def matching_cost(reference: Tensor, support: Tensor, radius: int) -> Tensor:
    """How badly support [b, c, h, w], shifted by up to `radius` pixels, matches: [b, (2 radius + 1)^2, h, w].

    The mean absolute difference around a pixel, 3x3, less that of the best shift, over what the mean shift has: from 0
    up, 1 on average, whatever the contrast. Channel (radius + dy) (2 radius + 1) + radius + dx belongs to the flow
    (dx, dy).
    """
    h, w = reference.shape[2:]
    padded = F.pad(support, (radius,) * 4, mode="replicate")
    shifts = range(2 * radius + 1)
    costs = [
        (padded[:, :, y : y + h, x : x + w] - reference).abs().mean(dim=1, keepdim=True) for y in shifts for x in shifts
    ]
    cost = F.avg_pool2d(torch.cat(costs, dim=1), 3, stride=1, padding=1, count_include_pad=False)
    cost = cost - cost.amin(dim=1, keepdim=True)
    return cost / (cost.mean(dim=1, keepdim=True) + 0.03)


def _level(inputs: int, channels: Sequence[int], kernel: int, dilated: bool) -> nn.Sequential:
    widths = [inputs, *channels, 2]
    layers: list[nn.Module] = []
    for n, (before, after) in enumerate(pairwise(widths)):
        apart = 2**n if dilated and n < len(channels) else 1
        conv = nn.Conv2d(before, after, kernel, padding=apart * (kernel // 2), dilation=apart)
        weight, bias = conv.parameters()
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        nn.init.zeros_(bias)
        layers += [conv, nn.ReLU(inplace=True)]
    nn.init.normal_(weight, std=1e-3)  # of the last one: flow starts near zero, the identity warp
    return nn.Sequential(*layers[:-1])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
