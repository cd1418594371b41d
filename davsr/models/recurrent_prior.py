"""The learned prior in two halves and their fusion with what the rounds along the motion gathered.

Everything is done on the LR grid, in cells of 4x4 HR pixels. The *picture trunk* (`davsr.models.trunk`) sees every LR
frame by itself, resized and in agreement with the data; the *recurrence* carries what it found through the clip, both
ways, along the motion: so they know what is sharp at the t LR times. The *fusion* brings their pictures to each of the
s_t t HR times along the motion, and decides from place to place how much of their detail the frames of the rounds lack,
and where the pictures themselves are to be trusted more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from davsr.models.layers import Conv3x3, ResidualBlocks, weights_channels_last
from davsr.models.motion import Motion, frames_at_lr_times
from davsr.models.precision import like_weights, needs_gradient
from davsr.models.prior import Observation, Prior
from davsr.models.prior_in_parts import enhance_in_parts
from davsr.models.shown import Seen, Shown, restore_pictures, shown_at
from davsr.models.trunk import CELL, GAIN, PictureTrunk
from davsr.models.warp import warp
from davsr.ops import cell_deviations, fusion_cells, fusion_pixels, mean_around
from davsr.options import EnhancementOptions
from davsr.physics.operator import Operator

# Where the shipped prior was seen to help or to do no harm beyond 0.06 dB (docs/results.md).
LONGEST_STEP = 8  # s_t
PSFS = ("bicubic", "gaussian", "box")
MOST_NOISE = 0.01
HALF = 0.5  # of the detail is added where nothing is known yet: by hand the best share on real clips
# Motion, LR pixels between two LR frames, up to which it enhances fully; from UNKNOWN_SPEED on the rounds' frames stay.
LEARNED_SPEED, UNKNOWN_SPEED = 8.0, 16.0
# Root mean square of 12x12 added pixels up to which an answer counts fully; from twice as much on the network answers
# about what it never learned, and the rounds' frames stay. On clips that it knows nothing comes near.
USUAL_DETAIL = 0.05
MOST_CORRECTION = 2.0  # of the flow by the recurrence, LR pixels
PIXELS = 2**17  # HR pixels of one pass: more are not faster, and 2**19 take 80 MB more


class RecurrentPrior(Prior):
    """Enhances the frames z of the rounds by what the LR frames show.

    Before training it adds half of the trunk's detail.

    Of the options, `channels` and `blocks` are those of the picture trunk; the recurrence has the same width.
    """

    takes_half = True

    def __init__(self, options: EnhancementOptions) -> None:
        super().__init__()
        self.trunk = PictureTrunk(options.channels, options.blocks)
        self.recurrence = None
        if options.recurrent_blocks:
            self.recurrence = Recurrence(options.channels, options.recurrent_blocks, options.alignment_groups)
        self.fusion = Fusion(options.channels, options.fusion_channels, options.fusion_blocks)

    def forward(
        self,
        z: Tensor,
        beta: Tensor | None,
        alpha: Tensor,
        clip: Observation,
        *,
        chosen: Sequence[int] | None = None,
    ) -> Tensor:
        """Enhance a clip.

        Args:
            z: frames [b, 3, T, H, W] in agreement with the data.
            beta: takes no part.
            alpha: of the data step that made z, [b].
            clip: with LR frames [b, t, 3, H / 4, W / 4].
            chosen: only these HR frames; None: all.

        Returns:
            [b, 3, T or len(chosen), H, W] in the dtype of z.
        """
        frames = range(z.shape[2]) if chosen is None else chosen
        n = max(1, PIXELS // (len(z) * z.shape[3] * z.shape[4]))
        if clip.kept is None and not needs_gradient(self, z, clip.lq) and not torch.compiler.is_compiling():
            return enhance_in_parts(self, z, alpha, clip, frames, n, in_place=clip.in_place and chosen is None)
        seen = self.look(z, alpha, clip)
        if clip.kept is not None:
            clip.kept["pictures"] = seen.fine[:, :, :3]
        parts = []
        for first in range(0, len(frames), n):
            some = list(frames[first : first + n])
            shown = shown_at(clip.motion.times[some], seen, clip.lq, clip.motion)
            parts.append(self.fuse(z[:, :, some], shown, clip.sigma))
        return torch.cat(parts, dim=2)

    def fuse(self, z: Tensor, shown: Shown, sigma: Tensor) -> Tensor:
        """Frames z [b, 3, n, H, W] with what is shown of them, noise [b] -> like z."""
        b, n = z.shape[0], z.shape[2]
        noise = sigma.to(z).view(b, 1).expand(b, n).flatten()
        return self.fusion(z.transpose(1, 2).flatten(0, 1), shown, noise).unflatten(0, (b, n)).transpose(1, 2)

    def look(self, z: Tensor, alpha: Tensor, clip: Observation) -> Seen:
        """What the LR frames of a clip show, each at its own time; arguments as of `forward`."""
        b, t = clip.lq.shape[:2]
        pictures = restore_pictures(clip.lq, clip.operator, alpha, clip.sigma)
        features = self.trunk(pictures.flatten(0, 1))
        if self.recurrence is not None:
            sharp = z[:, :, frames_at_lr_times(clip.motion.times, t)].transpose(1, 2).flatten(0, 1)
            features = self.recurrence(features, sharp, clip.motion, b)
        detail = self.trunk.detail(features).to(z.dtype).unflatten(0, (b, t))
        fine = torch.cat([pictures + detail, detail], dim=2)
        return Seen(fine, self.fusion.shrink(features.unflatten(0, (b, t))))

    def applies(self, operator: Operator, sigma: float | Tensor) -> bool:
        """It takes part where it helps; while it learns, it learns from whatever it is shown."""
        return operator.scale[1:] == (CELL, CELL) if self.training else helps(operator, sigma)


def helps(degradation: Operator, sigma: float | Tensor) -> bool:
    """Whether what the prior learned serves such observations too; sigma: noise, a number or [b]."""
    s_t, s_h, s_w = degradation.scale
    noise = float(sigma.max()) if isinstance(sigma, Tensor) else sigma
    return (
        (s_h, s_w) == (CELL, CELL)
        and s_t <= LONGEST_STEP
        and 1 <= degradation.exposure <= s_t
        and degradation.psf in PSFS
        and noise <= MOST_NOISE * (1 + 1e-6)  # levels come in float32
    )


class Recurrence(nn.Module):
    """Features of LR frames, carried backwards and then forwards through the clip along the motion.

    What is carried is moved by the motion and, with `groups`, by what each of so many groups of its channels corrects
    of it: flow that is found on blurred LR frames is off by parts of a pixel. Starts as the identity.
    """

    def __init__(self, channels: int, blocks: int, groups: int = 0) -> None:
        super().__init__()
        self.sharp = Conv3x3(3 * CELL**2, channels)
        self.backward_branch = ResidualBlocks(2 * channels, channels, blocks)
        self.forward_branch = ResidualBlocks(2 * channels, channels, blocks)
        self.merge = Conv3x3(2 * channels, channels)
        self.correction = Conv3x3(2 * channels, 2 * groups) if groups else None
        for part in (self.merge, self.correction):
            for parameter in part.parameters() if part is not None else ():
                nn.init.zeros_(parameter)
        weights_channels_last(self)

    def forward(self, features: Tensor, sharp: Tensor, motion: Motion, b: int) -> Tensor:
        """Features [b t, c, h, w] of LR frames, the rounds' frames at their times [b t, 3, H, W] -> features."""
        own = self.own(features, sharp).unflatten(0, (b, -1))
        t = own.shape[1]
        merged = self.carry([features[j::t] for j in range(t)], lambda j: own[:, j], motion)
        return torch.stack(merged, dim=1).flatten(0, 1)

    def own(self, features: Tensor, sharp: Tensor) -> Tensor:
        """Features [n, c, h, w] of LR frames with what the rounds' frames at their times [n, 3, H, W] add to them."""
        cells = like_weights(cell_deviations(sharp, GAIN), self).contiguous(memory_format=torch.channels_last)
        return features + self.sharp(cells)

    def carry(
        self,
        features: Sequence[Tensor],
        own: Callable[[int], Tensor],
        motion: Motion,
        memory: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
    ) -> list[Tensor]:
        """Features of every LR frame [b, c, h, w] with what is carried to it.

        Args:
            own: of a frame, its features with what the rounds' frame adds to them; asked for twice.
            memory: where no gradient is wanted, for what comes from behind, and for the result; that may be `features`.
        """
        t = len(features)
        after, merged = (list(part) for part in memory) if memory else ([features[0].new_empty(0)] * t for _ in "ab")

        def put(place: list[Tensor], j: int, made: Tensor) -> None:
            place[j] = made if memory is None else place[j].copy_(made)

        hidden = torch.zeros_like(features[0])
        for j in reversed(range(t)):
            here = own(j)
            if motion.there is not None and j + 1 < t:
                hidden = self._carried(hidden, motion.there[:, j], here)
            hidden = self.backward_branch(_joined(here, hidden))
            put(after, j, hidden)
        hidden = torch.zeros_like(hidden)
        for j in range(t):
            here = own(j)
            if motion.back is not None and j:
                hidden = self._carried(hidden, motion.back[:, j - 1], here)
            hidden = self.forward_branch(_joined(here, hidden))
            put(merged, j, self.merge(_joined(hidden, after[j]), residual=features[j]))
        return merged

    def _carried(self, hidden: Tensor, flow: Tensor, own: Tensor) -> Tensor:
        """The state [b, c, h, w] of a neighbour brought along the flow [b, 2, h, w] to a frame of features `own`."""
        moved = warp(hidden, flow, padding="border")
        if self.correction is None:
            return moved
        more = MOST_CORRECTION * torch.tanh(self.correction(_joined(own, moved)).to(flow.dtype))
        groups = more.shape[1] // 2
        flows = flow.repeat_interleave(groups, dim=0) + more.unflatten(1, (groups, 2)).flatten(0, 1)
        parts = hidden.unflatten(1, (groups, -1)).flatten(0, 1)
        return warp(parts, flows, padding="border").unflatten(0, (-1, groups)).flatten(1, 2)


class Fusion(nn.Module):
    """Frames of the rounds, and what LR frames show of their times -> the frames enhanced."""

    def __init__(self, features: int, channels: int, blocks: int) -> None:
        super().__init__()
        cells = 3 * CELL**2
        self.shrink_features = nn.Conv2d(features, channels, 1)
        self.body = ResidualBlocks(3 * cells + channels + 4, channels, blocks)
        self.last = Conv3x3(channels, cells + CELL**2)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        weights_channels_last(self)

    def shrink(self, features: Tensor) -> Tensor:
        """Features of LR frames [b, t, c, h, w], narrower, before they are moved."""
        return self.shrink_features(features.flatten(0, 1)).unflatten(0, features.shape[:2]).contiguous()

    def forward(self, z: Tensor, shown: Shown, sigma: Tensor) -> Tensor:
        """z [n, 3, H, W], sigma [n] -> [n, 3, H, W]."""
        n, _, h, w = shown.speed.shape
        constants = torch.stack([2 * shown.distance, 100 * sigma], dim=1).view(n, 2, 1, 1).expand(n, 2, h, w)
        parts = [shown.features, shown.speed / 4, 8 * shown.mismatch, constants]
        known = torch.cat([part.to(z.dtype) for part in parts], dim=1)
        x = like_weights(fusion_cells(z, shown.picture, shown.detail, known, gain=GAIN), self)
        # What is added, and how much of the picture that the LR frames show, pixel by pixel; that is bounded: motion
        # may be faster than any it learned from.
        x = self.last(self.body(x.contiguous(memory_format=torch.channels_last))).to(z.dtype)
        slow = ((UNKNOWN_SPEED - shown.speed) / (UNKNOWN_SPEED - LEARNED_SPEED)).clamp(0, 1)
        square = mean_around(x[:, : 3 * CELL**2].square().mean(dim=1, keepdim=True)) / GAIN**2
        trust = slow * ((4 - square / USUAL_DETAIL**2) / 3).clamp(0, 1)
        return fusion_pixels(z, shown.picture, shown.detail, x, trust, half=HALF, gain=GAIN)


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)
