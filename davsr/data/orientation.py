"""How a frame must be turned to stand upright: the eight ways of a display matrix, by flips and a transposition."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from davsr.data.container import side_data

if TYPE_CHECKING:
    import av

_ONE = 1 << 16  # in a display matrix, which counts in 16.16 fixed point
_SLACK = _ONE // 50  # about 1 degree: matrices of phones are rounded


@dataclass(frozen=True)
class Orientation:
    """Transpose first, then flip what has become of rows and columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """A view of `image` [h, w, ...], upright."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def size(self, h: int, w: int) -> tuple[int, int]:
        """(h, w), upright."""
        return (w, h) if self.transpose else (h, w)


def orientation(frame: av.VideoFrame) -> Orientation | None:
    """Of a decoded `av.VideoFrame`; None where it is turned by something else than quarter turns and mirrors."""
    matrix = side_data(frame).get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    # (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = struct.unpack("=9i", matrix)[:5]
    if max(abs(b), abs(c)) <= _SLACK and min(abs(a), abs(d)) > _SLACK:
        return Orientation(False, d < 0, a < 0)
    if max(abs(a), abs(d)) <= _SLACK and min(abs(b), abs(c)) > _SLACK:
        return Orientation(True, b < 0, c < 0)
    return None
