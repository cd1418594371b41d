"""RVE: recurrent video enhancement, the learned prior x_k = RVE(z_k, beta_k).

Second-order grid propagation with flow-guided deformable alignment (BasicVSR++: Chan et al., CVPR 2022) at a quarter of
the size. Inside, frames lie time first, [T*b, c, h, w] channels-last: what is not recurrent runs over many frames at
once, and the frame of one step is a view.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from davsr.models.alignment import FlowGuidedAlignment
from davsr.models.flow import SPyNet
from davsr.models.layers import Conv3x3, ResidualBlocks, upsample, weights_channels_last
from davsr.models.precision import like_weights
from davsr.models.prior import Observation, Prior
from davsr.models.warp import warp
from davsr.ops import weights_stay
from davsr.options import EnhancementOptions

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
_PIXELS = 2**16  # HR pixels of one pass: enough to keep every core busy, few enough to stay near the caches


def _weights_stay() -> AbstractContextManager[None]:
    return nullcontext() if torch.compiler.is_compiling() else weights_stay()


class StepFlows(NamedTuple):
    """Flows [b, 2, h, w] from the frame of a step to those one and two steps ago; None where there is no such frame."""

    flow_1: Tensor | None
    flow_2: Tensor | None


class RVE(Prior):
    """The enhancement network; the same weights serve all K rounds.

    `gradient_checkpointing` keeps only the results of branch steps and of chunks of frames for the backward pass, and
    computes the rest again: same gradients, less memory, about a third more time.
    """

    def __init__(self, options: EnhancementOptions | None = None) -> None:
        super().__init__()
        self.options = o = options or EnhancementOptions()
        m = o.channels
        self.gradient_checkpointing = False
        self.features = nn.Sequential(
            nn.Conv2d(3 + o.beta_channel, m, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(m, m, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            ResidualBlocks(m, m, o.feature_blocks),
        )
        self.flow = SPyNet.from_options(o.flow)
        self.alignment = nn.ModuleDict(
            {name: FlowGuidedAlignment(m, o.groups, o.max_residue, o.order) for name in BRANCHES}
        )
        self.propagation = nn.ModuleDict(
            {name: ResidualBlocks((2 + i) * m, m, o.blocks) for i, name in enumerate(BRANCHES)}
        )
        self.reconstruction = ResidualBlocks((1 + len(BRANCHES)) * m, m, o.reconstruction_blocks)
        self.upsample1 = Conv3x3(m, 4 * m)
        self.upsample2 = Conv3x3(m, 4 * o.hr_channels)
        self.conv_hr = Conv3x3(o.hr_channels, o.hr_channels)
        self.conv_last = Conv3x3(o.hr_channels, 3)
        with torch.no_grad():
            for parameter in self.conv_last.parameters():
                parameter.mul_(0.1)  # training starts near the identity: what the data step made
        weights_channels_last(self)

    def forward(
        self, z: Tensor, beta: Tensor | None = None, alpha: Tensor | None = None, clip: Observation | None = None
    ) -> Tensor:
        """Enhance z [b, 3, T, H, W] of any size, with beta [b] where there is a beta channel.

        Returns its shape and dtype.

        Raises:
            ValueError: z has no three channels, or beta is missing.
        """
        if z.dim() != 5 or z.shape[1] != 3:
            raise ValueError(f"RVE: z must be [b, 3, T, H, W], got {list(z.shape)}")
        if self.options.beta_channel and (beta is None or beta.shape != z.shape[:1]):
            raise ValueError(f"RVE: beta must be [{z.shape[0]}], got {None if beta is None else list(beta.shape)}")
        b, _, T, H, W = z.shape
        frames = z.permute(2, 0, 1, 3, 4).reshape(T * b, 3, H, W)
        if H % 4 or W % 4:
            frames = F.pad(frames, (0, -W % 4, 0, -H % 4), mode="replicate")
        height, width = frames.shape[2:]

        features = self._chunked(self._features, height * width // 4, frames, self._per_frame(beta, T))
        # Frames by themselves come from split: its gradient is one cat, that of slices is one sum over the clip for
        # each.
        scans: list[Sequence[Tensor]] = [features.split(b)]
        flows_of = dict(zip(("backward", "forward"), self._branch_flows(frames, b), strict=True))
        for name in BRANCHES:
            with _weights_stay():
                scans.append(self._scan(name, scans, flows_of[name.split("_")[0]]))
        n = self._at_once(b * height * width, T)
        with _weights_stay():
            enhanced = [
                self._saving_memory(self._reconstruct, x, *(scan[j] for j in range(i, min(i + n, T)) for scan in scans))
                for i, x in zip(range(0, T, n), frames.split(n * b), strict=True)
            ]
        return torch.cat([part.unflatten(0, (-1, b))[..., :H, :W].permute(1, 2, 0, 3, 4) for part in enhanced], dim=2)

    def _per_frame(self, beta: Tensor | None, T: int) -> Tensor | None:
        return beta.repeat(T) if self.options.beta_channel and beta is not None else None

    def _features(self, frames: Tensor, beta: Tensor | None) -> Tensor:
        """[n, 3, H, W], [n] -> [n, m, H/4, W/4]."""
        if beta is not None:
            n, _, height, width = frames.shape
            frames = torch.cat([frames, beta.to(frames.dtype).view(n, 1, 1, 1).expand(n, 1, height, width)], dim=1)
        return self.features(like_weights(frames, self.features).contiguous(memory_format=torch.channels_last))

    def _branch_flows(self, frames: Tensor, b: int) -> tuple[list[StepFlows], list[StepFlows]]:
        """Where a backward and a forward scan look, at each of their steps but the first, which looks nowhere."""
        height, width = frames.shape[2:]
        size = (height // 4, width // 4)
        if len(frames) == b:
            return [], []
        small = F.interpolate(frames, size=size, mode="bicubic", align_corners=False)
        before, after = small[:-b], small[b:]
        references, supports = torch.cat([before, after]), torch.cat([after, before])
        to_next, to_previous = self._chunked(self.flow, size[0] * size[1], references, supports).chunk(2)
        to_next = to_next.unflatten(0, (-1, b)).flip(0).flatten(0, 1)  # a backward scan begins at the last frame
        return self._step_flows(to_next, b), self._step_flows(to_previous, b)

    def _step_flows(self, flow_1: Tensor, b: int) -> list[StepFlows]:
        """Flows [n*b, 2, h, w] of n steps, each to the step before -> those one and two steps back (None at the
        first).
        """
        if self.options.order == 1 or len(flow_1) == b:
            return [StepFlows(flow, None) for flow in flow_1.split(b)]
        flow_2 = flow_1[b:] + warp(flow_1[:-b], flow_1[b:])
        return [StepFlows(*both) for both in zip(flow_1.split(b), [None, *flow_2.split(b)], strict=True)]

    def _scan(self, name: str, inputs: list[Sequence[Tensor]], flows_of_steps: list[StepFlows]) -> list[Tensor]:
        """One branch over the clip.

        Features and outputs of earlier branches, frames [b, m, h, w] each -> its output, so too.
        """
        order = range(len(inputs[0]))
        if name.startswith("backward"):
            order = order[::-1]
        outputs: list[Tensor] = []
        for step, i in enumerate(order):
            p1 = outputs[-1] if step >= 1 else None
            p2 = outputs[-2] if step >= 2 and self.options.order == 2 else None
            flows = flows_of_steps[step - 1] if step >= 1 else StepFlows(None, None)
            outputs.append(self._saving_memory(self._step, name, p1, p2, *flows, *(x[i] for x in inputs)))
        return outputs[::-1] if name.startswith("backward") else outputs

    def _step(
        self,
        name: str,
        p1: Tensor | None,
        p2: Tensor | None,
        flow_1: Tensor | None,
        flow_2: Tensor | None,
        *current: Tensor,
    ) -> Tensor:
        """Output of a branch at one frame.

        `current` are the features and the earlier branches there, all [b, m, h, w].
        """
        features = current[0]
        if p1 is None or flow_1 is None:  # nothing to align yet: zeros, without the work on them
            return self.propagation[name](torch.cat(current, dim=1))
        cond = [warp(p1, flow_1), features]
        if self.options.order == 2:
            cond.append(torch.zeros_like(features) if p2 is None or flow_2 is None else warp(p2, flow_2))
        aligned = self.alignment[name](p1, p2, cond, flow_1, flow_2)
        return self.propagation[name](torch.cat([*current, aligned], dim=1)).add_(aligned)

    def _reconstruct(self, frames: Tensor, *scans: Tensor) -> Tensor:
        """Frames [n*b, 3, H, W].

        Features and four branches [b, m, H/4, W/4] of each of n steps, in turn -> [n*b, 3, H, W].
        """
        count = 1 + len(BRANCHES)
        steps = [torch.cat(scans[i : i + count], dim=1) for i in range(0, len(scans), count)]
        x = self.reconstruction(steps[0] if len(steps) == 1 else torch.cat(steps))
        x = upsample(self.upsample2, upsample(self.upsample1, x))
        return self.conv_last(self.conv_hr(x, slope=0.1), residual=frames)

    def _chunked(self, function: Callable[..., Tensor], pixels: int, *inputs: Tensor | None) -> Tensor:
        """`function` over as many frames (dimension 0) at a time as keep `pixels` of each within the bound."""
        first = inputs[0]
        assert first is not None
        n = self._at_once(pixels, len(first))
        parts = [itertools.repeat(None) if x is None else x.split(n) for x in inputs]
        chunks = [self._saving_memory(function, *part) for part in zip(*parts, strict=False)]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _at_once(self, pixels: int, count: int) -> int:
        """How many of `count` frames of so many pixels go through a layer together."""
        n = max(1, _PIXELS // max(pixels, 1))
        if self.gradient_checkpointing and torch.is_grad_enabled():
            n = min(n, -(-count // 8))  # what is computed again at once is a fraction of the whole
        return n

    def _saving_memory(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return function(*inputs)
