"""Clips made of other clips: a cropped stretch, and what a camera would have seen of a sharp one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from davsr.data.clips import Clip
from davsr.data.frames import crop_frames
from davsr.physics.degradation import Degradation
from davsr.pixels import to_uint8, to_unit

_RECENT = 64  # LR frames that are kept


class MemoryClip:
    """Frames that are in memory, uint8 [n, 3, h, w]."""

    rate: Fraction | None = None

    def __init__(self, name: str, frames: torch.Tensor) -> None:
        self.name, self.path = name, Path(name)
        self.size: tuple[int, int] = (frames.shape[2], frames.shape[3])
        self._frames = frames.permute(0, 2, 3, 1).cpu().numpy()

    def __len__(self) -> int:
        return len(self._frames)

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        return self._frames[start:stop:step]

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        return crop_frames(self, indices, top, left, height, width)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """See `Clip.check`."""


class Part:
    """Frames start..stop of a clip, cut to their top left `size`."""

    def __init__(
        self, clip: Clip, start: int = 0, stop: int | None = None, size: tuple[int, int] | None = None
    ) -> None:
        self.clip, self.name, self.path = clip, clip.name, clip.path
        self.size = size or clip.size
        self.rate: Fraction | None = clip.rate
        self.chosen = range(len(clip))[start:stop]

    def __len__(self) -> int:
        return len(self.chosen)

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        inside = self.chosen[start:stop:step]
        frames = self.clip.frames(inside.start, inside.stop, step) if len(inside) else self.clip.frames(0, 0)
        return frames[:, : self.size[0], : self.size[1]]

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        return crop_frames(self, indices, top, left, height, width)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """See `Clip.check`."""
        inside = self.chosen[start:stop]
        self.clip.check(inside.start, inside.stop)


class Degraded:
    """y = A x + n of a sharp clip, rounded to 8 bits; every stretch equals that of the whole clip.

    Args:
        truth: sharp frames; the scale must divide their number and sides.
        degradation: A.
        sigma: standard deviation of the noise n, fraction of full scale; a function of (seed, frame).
    """

    def __init__(self, truth: Clip, degradation: Degradation, *, sigma: float = 0.0, seed: int = 0) -> None:
        self.truth, self.name, self.path = truth, truth.name, truth.path
        self.degradation, self.sigma, self.seed = degradation, sigma, seed
        s_t, s_h, s_w = degradation.scale
        self.size = (truth.size[0] // s_h, truth.size[1] // s_w)
        self.rate: Fraction | None = None if truth.rate is None else truth.rate / s_t
        self._reach = temporal_reach(degradation)
        self._recent: dict[int, np.ndarray] = {}  # the model, the baseline and the consistency check ask for the same

    def __len__(self) -> int:
        return len(self.truth) // self.degradation.scale[0]

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        wanted = range(len(self))[start:stop:step]
        out = np.empty((len(wanted), *self.size, 3), np.uint8)
        for n, j in enumerate(wanted):
            if j not in self._recent:
                self._recent[j] = self.observe(j, j + 1)[0]
                if len(self._recent) > _RECENT:
                    del self._recent[next(iter(self._recent))]
            out[n] = self._recent[j]
        return out

    def observe(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) computed at once, none of them kept; several threads may call it."""
        s_t, t = self.degradation.scale[0], len(self)
        first, last = start - self._reach, stop + self._reach
        if self.degradation.boundary == "circular" and self._reach:
            # With `reach` frames on both sides the wrap of this stretch does not touch what is kept.
            indices = np.arange(s_t * first, s_t * last) % (s_t * t)
            sharp = np.concatenate([self.truth.frames(i, i + 1) for i in indices.tolist()])
        else:
            first, last = max(first, 0), min(last, t)
            sharp = self.truth.frames(s_t * first, s_t * last)
        x = to_unit(torch.from_numpy(sharp).permute(3, 0, 1, 2)[None])
        y = self.degradation.apply(x)[0, :, start - first : stop - first]
        if self.sigma:
            y = y + self.sigma * torch.stack([self._noise(j, y[:, 0].shape) for j in range(start, stop)], dim=1)
        return to_uint8(y).permute(1, 2, 3, 0).numpy()

    def _noise(self, j: int, shape: torch.Size) -> torch.Tensor:
        values = np.random.default_rng((self.seed, j)).standard_normal(tuple(shape), dtype=np.float32)
        return torch.from_numpy(values)

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        return crop_frames(self, indices, top, left, height, width)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """See `Clip.check`."""
        s_t = self.degradation.scale[0]
        self.truth.check(s_t * start, None if stop is None else s_t * stop)


def temporal_reach(degradation: Degradation) -> int:
    """LR frames on either side whose HR frames an LR frame may integrate.

    0 for exposures within the frame's own time.
    """
    s_t = degradation.scale[0]
    before, after = -degradation.phase, degradation.phase + degradation.exposure - s_t
    return max(math.ceil(max(before, after) / s_t), 0)
