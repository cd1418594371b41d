"""Flow-guided deformable alignment (BasicVSR++: Chan et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from davsr.models.layers import Conv3x3
from davsr.ops import conv3x3, deform_align, one_source_channels


class FlowGuidedAlignment(nn.Module):
    """Deformable convolution whose offsets are the flow plus a learned, bounded residue.

    With `order` 2 half of the groups sample p1 along flow_1, the other half p2 along flow_2. With `order` 1 there is p1
    alone, and `groups / 2` groups, so that a group keeps its number of channels.

    Args:
        channels: m, of each source and of the output.
        groups: deformable groups G of the two-source form; even, divides 2 m.
        max_residue: bound of the learned residue, in feature pixels.
        order: number of sources.
    """

    _one_source: Tensor

    def __init__(self, channels: int, groups: int = 16, max_residue: float = 10.0, order: Literal[1, 2] = 2) -> None:
        super().__init__()
        if groups % 2 or (2 * channels) % groups:
            raise ValueError(
                f"FlowGuidedAlignment: groups must be even and divide 2 * channels = {2 * channels}, got {groups}"
            )
        self.order, self.max_residue = order, max_residue
        self.groups = groups if order == 2 else groups // 2
        self.weight = nn.Parameter(torch.empty(channels, order * channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        offset: list[nn.Module] = []
        for inputs in (order * (channels + 2) + channels, channels, channels):
            offset += [Conv3x3(inputs, channels), nn.LeakyReLU(0.1, inplace=True)]
        last = Conv3x3(channels, 27 * self.groups)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)  # starts as plain sampling along the flow
        self.offset = nn.Sequential(*offset, last)
        if order == 2:
            self.register_buffer("_one_source", one_source_channels(groups), persistent=False)

    def forward(
        self,
        p1: Tensor,  # [b, m, h, w]
        p2: Tensor | None,  # [b, m, h, w]
        cond: Sequence[Tensor],  # each [b, ., h, w], (order + 1) m channels together
        flow_1: Tensor,  # [b, 2, h, w]
        flow_2: Tensor | None,  # [b, 2, h, w]
    ) -> Tensor:
        """Align p1 and p2 to the current frame; returns [b, m, h, w] in the dtype of p1.

        Args:
            p1, p2: features one and two steps ago. `p2=None` with order 2 stands for zeros, at half the work.
            cond: p1 warped, current features, p2 warped (order 2); what the offsets are computed from, beside the
                flows.
            flow_1, flow_2: in pixels (dx, dy), from the current frame to those of p1 and p2. `flow_2=None` stands for
                zeros.
        """
        flows = [flow_1]
        if self.order == 2:
            flows.append(torch.zeros_like(flow_1) if flow_2 is None else flow_2)
        # One cat of tensors that lie channels-last is a copy of rows; any other memory format makes the convolution
        # convert.
        inputs = [x.to(p1.dtype, memory_format=torch.channels_last) for x in (*cond, *flows)]
        hidden = torch.cat(inputs, dim=1)
        *first, last = (part for part in self.offset if isinstance(part, Conv3x3))
        for conv in first:
            hidden = conv(hidden, slope=0.1)
        features, groups = p1, self.groups
        weight: Tensor = self.weight
        if self.order == 2 and p2 is None:  # zeros sample to zero: the groups of p2 and their offsets are not needed
            offset_weight, offset_bias = (parameter[self._one_source] for parameter in last.parameters())
            raw = conv3x3(hidden, offset_weight, offset_bias)
            weight, groups, flow_2 = self.weight[:, : p1.shape[1]], groups // 2, None
        else:
            raw = last(hidden)
            if p2 is not None and self.order == 2:
                features = torch.cat([p1, p2], dim=1)
        return deform_align(
            features,
            raw,
            flow_1,
            flow_2 if self.order == 2 else None,
            weight,
            self.bias,
            groups=groups,
            max_residue=self.max_residue,
        )
