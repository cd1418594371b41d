"""Sources of training samples: each draws sharp HR frames, or a pair of LR and HR, from a random generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from davsr.data.clips import open_clips
from davsr.errors import InputError
from davsr.options import DataOptions, SourceOptions
from davsr.training.samples.crops import Crop, SampleSize
from davsr.training.samples.footage import Footage, FramesOnDisk, chosen, open_footage
from davsr.training.samples.stills import StillsSource, change_in_space
from davsr.training.samples.synthetic import Scene, draw_scene, load_photos


class SampleSource(Protocol):
    """Something that samples are drawn from; all randomness comes from the generator it is given."""

    weight: float

    def draw(self, rng: np.random.Generator) -> Crop:
        """One crop, as the generator chooses."""

    def describe(self) -> str:
        """One line for the log."""


class FootageSource:
    """Crops of real clips: any shot that is long enough, at any of the strides.

    Of `candidates` random crops the one that changes most in time is taken: much of a film stands still.

    Raises:
        InputError: when no shot is long enough for a stride, or a clip is smaller than the patch.
    """

    def __init__(self, footage: list[Footage], options: SourceOptions, window: SampleSize, path: str) -> None:
        self.footage, self.window, self.weight = footage, window, options.weight
        self.strides, self.candidates, self.kind = options.strides, options.candidates, options.kind
        for clip in footage:
            _require_size(clip, (window.patch, window.patch), f"{path}: data.patch")
        # per stride: every shot that holds a window, and how many windows the shots before it hold
        self._shots: list[list[tuple[int, int, int]]] = []
        self._starts: list[np.ndarray] = []
        for number, stride in enumerate(options.strides):
            span = (window.frames - 1) * stride + 1
            shots = [(c, a, b - a - span + 1) for c, clip in enumerate(footage) for a, b in clip.shots if b - a >= span]
            if not shots:
                longest = max((b - a, clip.name) for clip in footage for a, b in clip.shots)
                raise InputError(
                    f"{path}.strides[{number}]: {window.frames} frames at stride {stride} need a shot of {span} frames, "
                    f"the longest of {options.path} has {longest[0]} ({longest[1]})"
                )
            self._shots.append(shots)
            self._starts.append(np.cumsum([0, *(count for _, _, count in shots)]))

    def draw(self, rng: np.random.Generator) -> Crop:
        """One crop."""
        which = int(rng.integers(len(self.strides)))
        stride, shots, starts = self.strides[which], self._shots[which], self._starts[which]
        places = []
        for _ in range(self.candidates):
            number = int(rng.integers(starts[-1]))
            shot = int(np.searchsorted(starts, number, side="right")) - 1
            clip, first, _ = shots[shot]
            _, h, w = self.footage[clip].store.shape
            side = self.window.patch
            corner = int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1))
            places.append((clip, first + number - int(starts[shot]), *corner))
        best = places[0] if len(places) == 1 else max(places, key=lambda place: self._change(place, stride))
        return Crop(self._crop(best, range(self.window.frames), stride))

    def _change(self, place: tuple[int, int, int, int], stride: int) -> float:
        """Mean difference of frames one LR period apart, in the middle of the window.

        Of one frame, of neighbours in it.
        """
        if self.window.frames == 1:
            return change_in_space(self._crop(place, [0], stride)[0])
        middle = self.window.frames // 2
        a, b = self._crop(place, (middle, min(middle + self.window.scale[0], self.window.frames - 1)), stride)
        return float(np.abs(a.astype(np.int16) - b).mean())

    def _crop(self, place: tuple[int, int, int, int], frames: Sequence[int], stride: int) -> np.ndarray:
        clip, start, top, left = place
        side = (self.window.patch, self.window.patch)
        return self.footage[clip].store.crop([start + i * stride for i in frames], top, left, side)

    def describe(self) -> str:
        """Clips, frames, shots, windows at each stride, and clips that have none."""
        frames = sum(clip.store.shape[0] for clip in self.footage)
        shots = sum(len(clip.shots) for clip in self.footage)
        windows = ", ".join(f"{s[-1]} at {n}" for n, s in zip(self.strides, self._starts, strict=True))
        names = ", ".join(clip.name for clip in self.footage[:4]) + (", ..." if len(self.footage) > 4 else "")
        used = {clip for shots in self._shots for clip, _, _ in shots}
        idle = ", ".join(clip.name for number, clip in enumerate(self.footage) if number not in used)
        short = f"; too short, so without a sample: {idle}" if idle else ""
        return f"{self.kind} {names}: {frames} frames, {shots} shots, windows by stride: {windows}{short}"


class PairSource:
    """Observed clips with their sharp truth, crops aligned between the two.

    Raises:
        InputError: when the sides do not hold the same clips, sizes and lengths.
    """

    def __init__(self, options: SourceOptions, window: SampleSize, path: str) -> None:
        self.window, self.weight = window, options.weight
        self.pairs = open_pair_footage(options, window.scale, path)
        for hr, _ in self.pairs:
            _require_size(hr, (window.patch, window.patch), f"{path}: data.patch")
            if hr.store.shape[0] < window.frames:
                raise InputError(
                    f"{path}.path: clip {hr.name} must have at least {window.frames} frames, got {hr.store.shape[0]}"
                )

    def draw(self, rng: np.random.Generator) -> Crop:
        """One pair of crops."""
        s_t, s_h, s_w = self.window.scale
        t, h, w = self.window.frames // s_t, self.window.patch // s_h, self.window.patch // s_w
        hr, lr = self.pairs[int(rng.integers(len(self.pairs)))]
        frames, height, width = lr.store.shape
        first, top, left = (int(rng.integers(n - m + 1)) for n, m in ((frames, t), (height, h), (width, w)))
        lq = lr.store.crop(range(first, first + t), top, left, (h, w))
        side = (self.window.patch, self.window.patch)
        indices = range(first * s_t, first * s_t + self.window.frames)
        return Crop(hr.store.crop(indices, top * s_h, left * s_w, side), lq)

    def describe(self) -> str:
        """Pairs and frames."""
        return f"pairs: {len(self.pairs)} clips, {sum(lr.store.shape[0] for _, lr in self.pairs)} LR frames"


class SyntheticSource:
    """Photographs in motion: a new scene for every sample."""

    def __init__(self, photos: list[list[np.ndarray]], options: SourceOptions, window: SampleSize) -> None:
        self.photos, self.window, self.weight = photos, window, options.weight
        self.speed, self.layers, self.candidates = options.speed, options.layers, options.candidates

    def draw(self, rng: np.random.Generator) -> Crop:
        """Instantaneous frames of a scene."""
        return Crop(self.scene(rng).frames(np.arange(self.window.frames)))

    def scene(self, rng: np.random.Generator) -> Scene:
        """A scene that lasts as long as a sample."""
        side = (self.window.patch, self.window.patch)
        return draw_scene(rng, self.photos, side, self.window.frames, self.speed, self.layers, self.candidates)

    def describe(self) -> str:
        """Photographs and speeds."""
        return f"synthetic: {len(self.photos)} photographs, speed {self.speed[0]:g} to {self.speed[1]:g} pixels a frame"


def open_sample_source(options: SourceOptions, data: DataOptions, window: SampleSize, path: str) -> SampleSource:
    """Open one source of `data.sources`.

    Args:
        path: the option's dotted path, for errors.

    Raises:
        InputError: naming what is unreadable, too short, too small or mismatched.
    """
    if options.kind == "stills":
        return StillsSource(options, window, path)
    if options.kind == "synthetic":
        return SyntheticSource(load_photos(options, path), options, window)
    if options.kind == "pairs":
        if options.strides != (1,):
            raise InputError(f"{path}.strides: must be [1] for pairs, whose LR frames are given, got {options.strides}")
        if data.exposures:
            raise InputError("data.exposures: cannot be drawn where a source holds pairs, whose exposure is given")
        return PairSource(options, window, path)
    return FootageSource(open_footage(options, path, data.cache), options, window, path)


def open_pair_footage(options: SourceOptions, scale: tuple[int, int, int], path: str) -> list[tuple[Footage, Footage]]:
    """(HR, LR) clips of the same name; lengths and sizes must differ by exactly the scale.

    Raises:
        InputError: naming the clip that has no partner, or whose length or size does not fit.
    """
    if not options.path or not options.lq_path:
        raise InputError(f"{path}: path and lq_path must both be folders, got {options.path!r} and {options.lq_path!r}")
    hr_clips = {clip.name: clip for clip in chosen(open_clips(options.path), options, path)}
    lr_clips = {clip.name: clip for clip in chosen(open_clips(options.lq_path), options, path)}
    if len(hr_clips) == len(lr_clips) == 1:  # one clip a side: the folders' own names do not matter
        lr_clips = dict(zip(hr_clips, lr_clips.values(), strict=True))
    for name in sorted(hr_clips.keys() ^ lr_clips.keys()):
        missing = options.lq_path if name in hr_clips else options.path
        raise InputError(f"{path}: clip {name} is missing in {missing}")
    pairs = []
    for name, hr_clip in hr_clips.items():
        hr, lr = FramesOnDisk(hr_clip, 1), FramesOnDisk(lr_clips[name], 1)
        if hr.shape != tuple(n * s for n, s in zip(lr.shape, scale, strict=True)):
            raise InputError(
                f"{path}: clip {name} must be {scale} times as long, high and wide as its LR side "
                f"{lr.shape}, got {hr.shape}"
            )
        hr_clip.check()
        lr_clips[name].check()
        pairs.append((Footage(name, hr, ((0, hr.shape[0]),)), Footage(name, lr, ((0, lr.shape[0]),))))
    return pairs


def _require_size(clip: Footage, least: tuple[int, int], what: str) -> None:
    _, h, w = clip.store.shape
    if h < least[0] or w < least[1]:
        raise InputError(f"{what} must fit every clip: {clip.name} is {h}x{w} (height x width), got {least[0]}")
