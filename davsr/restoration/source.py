"""LR frames in their order, from a video file or a folder: what streaming restoration reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from davsr.data import colour
from davsr.data.clips import require_one_kind
from davsr.data.frames import FrameFolder
from davsr.data.pictures import Pictures
from davsr.data.timing import JITTER, Schedule, constant_rate
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.guards.names import given
from davsr.log import logger
from davsr.options import RestoreOptions
from davsr.pixels import Image16, sixteen_bits

_BROKEN = 0.05  # of the frames: with more of them lost, a file is damaged rather than scratched

_MANY = 0.15  # of the frames: so many repeats are no accident
_FILM_RATES = tuple(Fraction(n, d) for n, d in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1)))


@dataclass(frozen=True)
class VideoSignal:
    """What an output takes over from its input."""

    tags: dict[str, int]  # matrix, range, transfer, primaries as H.273 numbers
    bits: int = 8  # per sample
    grey: bool = False  # no frame has any colour
    aspect: Fraction = Fraction(1)  # of a pixel, width to height
    light: colour.Light = colour.Light()  # static HDR metadata


# That of a folder of images: sRGB, written as BT.709.
_IMAGE_SIGNAL = VideoSignal(colour.SDR_TAGS)


class VideoSource(VideoReader):
    """A video file read from front to back (or from any frame on), upright, up to 16 bits a sample.

    Args:
        rate: frames per second to assume instead of what the time stamps say; None: every frame keeps its time.
        partial: see `VideoReader`.
        stretch: `start:stop`, the frames that are restored; empty: all.
        drop_duplicates: leave out frames that repeat the one before.

    Raises:
        InputError: as `VideoReader`, but for single frames that are lost: players go on, and so does this.
    """

    def __init__(
        self,
        path: str | Path,
        rate: Fraction | None = None,
        *,
        partial: bool = False,
        stretch: str = "",
        drop_duplicates: bool = False,
    ) -> None:
        super().__init__(path, partial=partial)
        self.assumed_rate, self.stretch, self.drop_duplicates = rate, stretch, drop_duplicates

    @cached_property
    def kept(self) -> list[int]:
        """The pictures that are restored."""
        indices = stretch_of(self.stretch, len(self.pictures), self.path)
        dropped = set(self.pictures.repeated()) if self.drop_duplicates else set()
        return [i for i in indices if i not in dropped or i == indices[0]]

    def __len__(self) -> int:
        return len(self.kept)

    @cached_property
    def moments(self) -> list[int]:
        """When each kept frame is shown, and when the last one ends, in units of `time_base`."""
        indices = stretch_of(self.stretch, len(self.pictures), self.path)
        times = [*self.pictures.times, self.pictures.end]
        return [*(times[i] for i in self.kept), times[indices[-1] + 1]]

    def open(self) -> None:
        """Look at the file before work begins, and say what is odd about it."""
        self.check()
        found, kept = self.pictures, len(self.kept)
        if found.skipped:
            logger.info(
                f"{self.path} begins in the middle: {found.skipped} frames that cannot be decoded without what came "
                "before them are left out"
            )
        if found.unfounded:
            rest = f"; --frames {found.unfounded}: leaves them out" if found.unfounded < len(found) else ""
            logger.info(
                f"{self.path} begins in the middle: {found.unfounded} frames, which refer to what came before, are shown as "
                f"far as they can be decoded{rest}"
            )
        if found.lost:
            logger.warning(
                f"{self.path}: {len(found.lost)} frames are damaged or missing, the first after frame {found.lost[0]}"
            )
        repeated = len(found.repeated())
        if self.drop_duplicates:
            logger.info(f"{self.path}: {len(found) - kept} of {len(found)} frames are left out, {repeated} are repeats")
        elif repeated > _MANY * len(found):
            logger.info(
                f"{self.path}: {repeated} of {len(found)} frames repeat the one before; --drop-duplicates restores the others"
            )
        if found.cut_short:
            logger.warning(f"{self.path} is cut short: {len(found)} frames are there")

    def require_usable(self, found: Pictures) -> None:
        """See `VideoReader.require_usable`."""
        kept, scratched = self.partial, len(found.lost) <= _BROKEN * len(found)
        try:
            # A file that is cut short loses its last frame as a rule; it is told as what it is.
            self.partial = kept or (scratched and not found.cut_short)
            super().require_usable(found)
        finally:
            self.partial = kept

    def schedule(self, s_t: int, *, slower: int = 1, at_zero: bool = True) -> Schedule:
        """When `s_t` frames for each of its frames are shown.

        Args:
            slower: how many times the input's duration they last.
            at_zero: the first frame is shown at 0 rather than where the container has it among its other streams.
        """
        rate = self.assumed_rate or self._rate_of_kept()
        return Schedule.of(self.moments, self.time_base, s_t, rate, slower=slower, at_zero=at_zero)

    def _rate_of_kept(self) -> Fraction | None:
        """The constant rate, if there is one. What repeats were taken out of was even before they were put in."""
        if self.drop_duplicates and self.pictures.rates:
            share = Fraction(len(self.kept), len(stretch_of(self.stretch, len(self.pictures), self.path)))
            likely = self.pictures.rates[0] * share
            rates = sorted(_FILM_RATES, key=lambda rate: abs(rate - likely))
            return constant_rate(self.moments[:-1], self.time_base, rates, JITTER)
        return constant_rate(self.moments[:-1], self.time_base, self.pictures.rates)

    @property
    def signal(self) -> VideoSignal:
        """See `VideoSignal`."""
        first = self.first
        return VideoSignal(
            self.colour_tags(), colour.depth(first), self.pictures.neutral, self.aspect, colour.light(first)
        )

    def read(self, start: int = 0) -> Iterator[Image16]:
        """The frames from `start` on; one at a time is in memory."""
        for i in self.kept[start:]:
            image = self.picture(i)
            yield np.ascontiguousarray(image) if image.dtype == np.uint16 else sixteen_bits(image)


def stretch_of(text: str, count: int, path: Path) -> range:
    """`start:stop` of the frames of a clip, as a slice counts.

    Raises:
        InputError: it is none, or leaves no frame.
    """
    match = re.fullmatch(r"(\d{0,9}):(\d{0,9})", text or ":")
    if match is None:
        raise InputError(f"restore.frames: must be start:stop, such as 100:110, got {text!r}")
    chosen = range(count)[int(match[1] or 0) : int(match[2]) if match[2] else None]
    if not chosen:
        raise InputError(f"restore.frames: {text} leaves none of the {count} frames of {path}")
    return chosen


class FolderSource(FrameFolder):
    """A folder of image files, read in natural order."""

    def __init__(self, folder: str | Path, rate: Fraction | None = None, *, stretch: str = "") -> None:
        super().__init__(folder)
        kept = stretch_of(stretch, len(self.files), self.path)
        self.files = self.files[kept.start : kept.stop]
        self.assumed_rate = rate
        self.signal = _IMAGE_SIGNAL

    def open(self) -> None:
        """Look at the files before work begins."""
        self.check()

    def schedule(self, s_t: int, *, slower: int = 1, at_zero: bool = True) -> Schedule | None:
        """See `VideoSource.schedule`; None where no rate is given."""
        if self.assumed_rate is None:
            return None
        return Schedule.constant(len(self), self.assumed_rate * s_t / slower, s_t)

    def read(self, start: int = 0) -> Iterator[Image16]:
        """The frames from `start` on; one at a time is in memory."""
        for i in range(start, len(self)):
            yield sixteen_bits(self.frames(i, i + 1)[0])


Source = VideoSource | FolderSource


def open_source(path: str | Path, rate: Fraction | None = None, options: RestoreOptions | None = None) -> Source:
    """A video file or a folder of frames, checked before work begins.

    Args:
        rate: see `VideoSource`.
        options: which frames are taken, and whether a part of a file will do.

    Raises:
        InputError: when it is missing or cannot be restored, with the reason.
    """
    path, wanted = given(path, "input"), options or RestoreOptions()
    if not path.exists():
        raise InputError(f"input {path} does not exist")
    source: Source
    if path.is_dir():
        require_one_kind(path)
        source = FolderSource(path, rate, stretch=wanted.frames)
    else:
        source = VideoSource(
            path, rate, partial=wanted.partial, stretch=wanted.frames, drop_duplicates=wanted.drop_duplicates
        )
    source.open()
    return source
