"""Where outputs are written to see whether they can be."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer

RATE = Fraction(25)


class Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def __init__(self) -> None:
        self._position = self._end = 0

    def write(self, data: Any) -> int:
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True


def probe(format: str, rate: Fraction = RATE) -> tuple[OutputContainer, av.VideoStream]:
    """An output to nowhere, with a picture of `rate` frames a second."""
    out = av.open(Nowhere(), "w", format=format)
    return out, add_picture(out, rate)


def add_picture(out: OutputContainer, rate: Fraction = RATE) -> av.VideoStream:
    """A small picture for an output that is only tried."""
    video: Any = out.add_stream("libx264", rate=rate)
    video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
    return video
