"""The learned prior where no gradient is wanted: of the whole clip only features are held, a quarter of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from davsr.models.motion import Motion, frames_at_lr_times
from davsr.models.prior import Observation
from davsr.models.shown import Seen, restore_pictures, shown_at

if TYPE_CHECKING:
    from davsr.models.recurrent_prior import RecurrentPrior


def enhance_in_parts(
    prior: RecurrentPrior,
    z: Tensor,  # [b, 3, T, H, W]
    alpha: Tensor,
    clip: Observation,
    frames: Sequence[int],
    n: int,
    in_place: bool,
) -> Tensor:
    """`RecurrentPrior.forward`: pictures of LR frames are made where they are looked at.

    Args:
        frames: which HR frames.
        n: frames of one pass.
        in_place: z's memory takes the result.
    """
    b, t = clip.lq.shape[:2]
    look = _Look(prior, z, alpha, clip, n)
    whole = z if in_place else z.new_empty(b, z.shape[1], len(frames), *z.shape[3:])
    for begin in range(0, len(frames), n):
        some = list(frames[begin : begin + n])
        times = clip.motion.times[some]
        low = min(max(int(times.min()), 0), max(t - 2, 0))
        stop = min(int(times.max()) + 2, t)
        there, back = (
            None if flow is None else flow[:, low : stop - 1] for flow in (clip.motion.there, clip.motion.back)
        )
        shown = shown_at(times - low, look.at(low, stop), clip.lq[:, low:stop], Motion(times - low, there, back))
        whole[:, :, begin : begin + len(some)] = prior.fuse(z[:, :, some].to(clip.lq.dtype), shown, clip.sigma)
    return whole


class _Look:
    """What the LR frames show, from features that know of the whole clip."""

    def __init__(self, prior: RecurrentPrior, z: Tensor, alpha: Tensor, clip: Observation, n: int) -> None:
        self.prior, self.alpha, self.clip = prior, alpha, clip
        b, t = clip.lq.shape[:2]
        features: list[Tensor] = []
        for first in range(0, t, n):
            pictures = self._pictures(first, first + n)
            made = prior.trunk(pictures.flatten(0, 1))
            features = features or _features(made, b, t)
            for j, part in enumerate(made.unflatten(0, pictures.shape[:2]).unbind(dim=1), first):
                features[j].copy_(part)
        recurrence = prior.recurrence
        if recurrence is not None:
            at = frames_at_lr_times(clip.motion.times, t)
            memory = _features(features[0], b, t), features
            features = recurrence.carry(
                features, lambda j: recurrence.own(features[j], z[:, :, at[j]].to(clip.lq.dtype)), clip.motion, memory
            )
        self.features = features
        self.first, self.seen = 0, self._made(0, min(2, t))

    def at(self, low: int, stop: int) -> Seen:
        """What LR frames low, ..., stop - 1 show."""
        if low < self.first or low >= self.first + self.seen.fine.shape[1]:
            self.first, self.seen = low, self._made(low, stop)
            return self.seen
        known = Seen(*(part[:, low - self.first :][:, : stop - low] for part in self.seen))
        more = low + known.fine.shape[1]
        if more < stop:
            known = Seen(*(torch.cat(parts, dim=1) for parts in zip(known, self._made(more, stop), strict=True)))
        if more < stop or low > self.first:
            self.first, self.seen = low, known
        return Seen(*(part[:, : stop - low] for part in self.seen))

    def _made(self, low: int, stop: int) -> Seen:
        deep = torch.stack(self.features[low:stop], dim=1)
        detail = self.prior.trunk.detail(deep.flatten(0, 1)).to(self.clip.lq.dtype).unflatten(0, deep.shape[:2])
        fine = torch.cat([self._pictures(low, stop) + detail, detail], dim=2)
        return Seen(fine, self.prior.fusion.shrink(deep))

    def _pictures(self, low: int, stop: int) -> Tensor:
        return restore_pictures(self.clip.lq[:, low:stop], self.clip.operator, self.alpha, self.clip.sigma)


def _features(like: Tensor, b: int, t: int) -> list[Tensor]:
    """Memory for the features [b, c, h, w] of t LR frames, in one piece: many would leave holes between them."""
    _, c, h, w = like.shape
    return list(like.new_empty(t, b, h, w, c).permute(0, 1, 4, 2, 3))
