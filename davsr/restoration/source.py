"""LR frames in their order, from a video file or a folder: what streaming restoration reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from davsr.data import colour
from davsr.data.frames import FrameFolder
from davsr.data.pictures import Pictures
from davsr.data.timing import Schedule
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.log import logger
from davsr.pixels import Image16, sixteen_bits

_BROKEN = 0.05  # of the frames: with more of them lost, a file is damaged rather than scratched


@dataclass(frozen=True)
class Look:
    """What an output takes over from its input."""

    tags: dict[str, int]  # matrix, range, transfer, primaries as H.273 numbers
    bits: int = 8  # per sample
    grey: bool = False  # no frame has any colour
    aspect: Fraction = Fraction(1)  # of a pixel, width to height
    light: colour.Light = colour.Light()  # static HDR metadata


# What a folder of images looks like: sRGB, written as BT.709.
_IMAGES = Look(colour.SDR_TAGS)


class VideoSource(VideoReader):
    """A video file read from front to back (or from any frame on), upright, up to 16 bits a sample.

    Args:
        rate: frames per second to assume instead of what the time stamps say; None: every frame keeps its time.
        partial: see `VideoReader`.

    Raises:
        InputError: as `VideoReader`, but for single frames that are lost: players go on, and so does this.
    """

    def __init__(self, path: str | Path, rate: Fraction | None = None, *, partial: bool = False) -> None:
        super().__init__(path, partial=partial)
        self.assumed_rate = rate

    def open(self) -> None:
        """Look at the file before work begins, and say what is odd about it."""
        self.check()
        found = self.pictures
        if found.skipped:
            logger.info(
                f"{self.path} begins in the middle: {found.skipped} frames that cannot be decoded without what came "
                "before them are left out"
            )
        if found.lost:
            logger.warning(
                f"{self.path}: {len(found.lost)} frames are damaged or missing, the first after frame {found.lost[0]}"
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
        first = 0 if at_zero else self.times[0]
        rate = self.assumed_rate or self.pictures.rate
        if rate is not None or len(self) == 1:
            return Schedule.constant(len(self), (rate or Fraction(25)) * s_t / slower, s_t, first * self.time_base)
        times = [t - self.times[0] for t in (*self.times, self.pictures.end)]
        return Schedule.varying([first // slower + t for t in times], self.time_base, s_t, slower)

    @property
    def look(self) -> Look:
        """See `Look`."""
        first = self.first
        aspect = Fraction(self._open().sample_aspect_ratio or 1)
        upright = 1 / aspect if self.orientation.transpose else aspect
        return Look(self.colour_tags(), colour.depth(first), self.pictures.neutral, upright, colour.light(first))

    def read(self, start: int = 0) -> Iterator[Image16]:
        """The frames from `start` on; one at a time is in memory."""
        for i in range(start, len(self)):
            image = self.upright(self._decode(i))
            yield np.ascontiguousarray(image) if image.dtype == np.uint16 else sixteen_bits(image)


class FolderSource(FrameFolder):
    """A folder of image files, read in natural order."""

    def __init__(self, folder: str | Path, rate: Fraction | None = None) -> None:
        super().__init__(folder)
        self.assumed_rate = rate
        self.look = _IMAGES

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


def open_source(path: str | Path, rate: Fraction | None = None, *, partial: bool = False) -> Source:
    """A video file or a folder of frames, checked before work begins.

    Raises:
        InputError: when it is missing or cannot be restored, with the reason.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"input {path} does not exist")
    source = FolderSource(path, rate) if path.is_dir() else VideoSource(path, rate, partial=partial)
    source.open()
    return source
