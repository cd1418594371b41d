"""Still pictures to train on: crops with detail, and truths as cameras and codecs leave them."""

from __future__ import annotations

import cv2
import numpy as np

from davsr.errors import InputError
from davsr.options import SourceOptions
from davsr.training.samples.crops import Crop, SampleSize
from davsr.training.samples.synthetic import load_photos

_SOFT = 0.3  # shares of the samples, where truths are to be imperfect
_NOISY = 0.2
_COMPRESSED = 0.3
_BLUR = (0.35, 1.3)  # pixels
_NOISE = (0.5, 5.0)  # of 255
_QUALITY = (45, 95)  # of JPEG
_STEPS = 3  # sizes of a picture, each smaller by the root of two


class StillsSource:
    """Square crops of pictures, for clips of one frame.

    A picture's chance grows with its side. Of `candidates` random crops the one with the most detail is taken.

    Raises:
        InputError: clips of more than one frame are wanted, or no picture is as large as a crop.
    """

    def __init__(self, options: SourceOptions, window: SampleSize, path: str) -> None:
        if window.frames != 1:
            raise InputError(f"{path}.kind: stills are for data.frames 1 and s_t = 1, got {window.frames} HR frames")
        self.side, self.weight, self.candidates = window.patch, options.weight, options.candidates
        pictures = [levels[0] for levels in load_photos(options, path)]
        self.pictures = [sizes for sizes in (self._sizes(picture) for picture in pictures) if sizes]
        if not self.pictures:
            raise InputError(f"{path}.path: {options.path} must hold pictures of data.patch = {self.side} and more")
        self._chances = np.cumsum([(p[0].shape[0] * p[0].shape[1]) ** 0.5 for p in self.pictures])

    def _sizes(self, picture: np.ndarray) -> list[np.ndarray]:
        """The picture, and smaller ones of it, as far as a crop fits."""
        sizes = []
        for step in range(_STEPS):
            h, w = (round(n * 2 ** (-step / 2)) for n in picture.shape[:2])
            if min(h, w) >= self.side:
                sizes.append(cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA) if step else picture)
        return sizes

    def draw(self, rng: np.random.Generator) -> Crop:
        """One crop, its colours in any order."""
        crops = [self._crop(rng) for _ in range(self.candidates)]
        best = crops[0] if len(crops) == 1 else max(crops, key=change_in_space)
        if rng.random() < 0.4:
            best = best[..., rng.permutation(3)]
        return Crop(np.ascontiguousarray(best)[None])

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        number = int(np.searchsorted(self._chances, rng.random() * self._chances[-1], side="right"))
        sizes = self.pictures[min(number, len(self.pictures) - 1)]
        picture = sizes[int(rng.integers(len(sizes)))]
        top, left = (int(rng.integers(n - self.side + 1)) for n in picture.shape[:2])
        return picture[top : top + self.side, left : left + self.side]

    def describe(self) -> str:
        """How many pictures."""
        return f"stills: {len(self.pictures)} pictures"


def change_in_space(frame: np.ndarray) -> float:
    """Mean difference of neighbours of every second pixel of a frame [h, w, 3], green alone.

    How much there is to see.
    """
    green = frame[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def imperfect(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames uint8 [n, h, w, 3] as cameras leave them.

    Soft, noisy, compressed, each at random, and the same for all frames.

    A prior that has only seen perfect pictures sharpens what is meant to be soft, and the blocks of a codec.
    """
    if rng.random() < _SOFT:
        blur = float(rng.uniform(*_BLUR))
        frames = np.stack([cv2.GaussianBlur(frame, (0, 0), blur) for frame in frames])
    if rng.random() < _NOISY:
        noise = rng.normal(0, float(rng.uniform(*_NOISE)), size=frames.shape)
        frames = np.rint(frames + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < _COMPRESSED:
        quality = int(rng.integers(*_QUALITY))
        frames = np.stack([_recompressed(frame, quality) for frame in frames])
    return frames


def _recompressed(frame: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded right here
    return np.ascontiguousarray(decoded[..., ::-1])
