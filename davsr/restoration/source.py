"""LR frames in their order, from a video file or a folder: what streaming restoration reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.reformatter import ColorRange

from davsr.data.frames import FrameFolder
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.pixels import Image16, sixteen_bits

_GREY_FORMATS = ("gray", "ya8", "ya16", "monob", "monow")
_ROUNDED = Fraction(1, 2)  # of a frame: farther from its place a time stamp means that a frame lasts longer than others


@dataclass(frozen=True)
class Look:
    """What an output takes over from its input."""

    tags: dict[str, int]  # matrix, range, transfer, primaries as H.273 numbers
    bits: int = 8  # per sample: 8 or 10
    grey: bool = False
    aspect: Fraction = Fraction(1)  # of a pixel, width to height


# What a folder of images looks like: sRGB, written as BT.709.
_IMAGES = Look({"matrix": 1, "range": int(ColorRange.MPEG), "transfer": 1, "primaries": 1})


class VideoSource(VideoReader):
    """A video file read from front to back (or from any frame on), upright, up to 16 bits a sample.

    Args:
        rate: frames per second to assume instead of what the time stamps say; None: the true rate.

    Raises:
        InputError: as `VideoReader`; when frames do not come at one rate; when they have an alpha channel.
    """

    def __init__(self, path: str | Path, rate: Fraction | None = None) -> None:
        super().__init__(path)
        self._assumed = rate

    def open(self) -> None:
        """Look at the file before work begins."""
        self.check()
        if self.first.format.name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya", "pal8")):
            raise InputError(f"video {self.path} must have no alpha channel or palette, got {self.first.format.name}")
        if self.first.rotation % 90:
            raise InputError(f"video {self.path} must be rotated by quarter turns, got {self.first.rotation} degrees")
        if self.steady_rate is None:
            raise InputError(
                f"video {self.path} has a variable frame rate: {self._irregularity()}; "
                "give --rate to take its frames as evenly spaced, or make the rate constant first"
            )

    @property
    def steady_rate(self) -> Fraction | None:
        """Frames per second, exact, or None where a frame lies half a period or more from its place.

        Unlike `rate`, which asks for time stamps that are right to the unit, this one lets them jitter.
        """
        if self._assumed is not None:
            return self._assumed
        stream = self._open()
        seconds = self.time_base
        candidates = [Fraction(r) for r in (stream.base_rate, stream.guessed_rate, stream.average_rate) if r]
        if len(self.times) == 1:
            return candidates[0] if candidates else Fraction(25)
        span = (self.times[-1] - self.times[0]) * seconds
        for rate in [*candidates, (len(self.times) - 1) / span]:
            if self._misplaced(rate) is None:
                return rate
        return None

    def _misplaced(self, rate: Fraction) -> int | None:
        """The first frame that does not lie where `rate` puts it."""
        scale = rate * self.time_base
        first = self.times[0]
        return next((i for i, t in enumerate(self.times) if abs((t - first) * scale - i) >= _ROUNDED), None)

    def _irregularity(self) -> str:
        steps = np.diff(np.array(self.times, dtype=np.int64)) * float(self.time_base) * 1000
        i = int(np.argmax(np.abs(steps - np.median(steps))))
        return f"frame {i} lasts {steps[i]:.1f} ms, half of them {np.median(steps):.1f} ms or less"

    @property
    def begin(self) -> Fraction:
        """Seconds at which the first frame is shown."""
        return self.times[0] * self.time_base

    @property
    def look(self) -> Look:
        """See `Look`."""
        first = self.first
        deep = max(component.bits for component in first.format.components) > 8
        aspect = self._open().sample_aspect_ratio or Fraction(1)
        upright = 1 / Fraction(aspect) if first.rotation % 180 else Fraction(aspect)
        return Look(self.colour_tags(), 10 if deep else 8, first.format.name.startswith(_GREY_FORMATS), upright)

    def read(self, start: int = 0) -> Iterator[Image16]:
        """The frames from `start` on; one at a time is in memory."""
        deep = self.look.bits > 8
        for i in range(start, len(self)):
            frame = self._decode(i)
            image = self._rgb(frame, i, "rgb48le" if deep else "rgb24")
            yield np.ascontiguousarray(image) if deep else sixteen_bits(image)


class FolderSource(FrameFolder):
    """A folder of image files, read in natural order."""

    def __init__(self, folder: str | Path, rate: Fraction | None = None) -> None:
        super().__init__(folder)
        self.steady_rate = rate
        self.begin = Fraction(0)
        self.look = _IMAGES

    def open(self) -> None:
        """Look at the files before work begins."""
        self.check()

    def read(self, start: int = 0) -> Iterator[Image16]:
        """The frames from `start` on; one at a time is in memory."""
        for i in range(start, len(self)):
            yield sixteen_bits(self.frames(i, i + 1)[0])


Source = VideoSource | FolderSource


def open_source(path: str | Path, rate: Fraction | None = None) -> Source:
    """A video file or a folder of frames, checked before work begins.

    Raises:
        InputError: when it is missing or cannot be restored, with the reason.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"input {path} does not exist")
    source = FolderSource(path, rate) if path.is_dir() else VideoSource(path, rate)
    source.open()
    return source
