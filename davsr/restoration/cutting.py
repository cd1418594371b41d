"""How a clip is cut into windows and tiles, and what each of them weighs where they meet.

Half of every overlap is context only; in its central half the weight passes smoothly from one piece to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from davsr.errors import InputError

Interval = tuple[int, int]  # [start, stop)


@dataclass(frozen=True)
class Plan:
    """How a clip is cut. Lengths in LR frames, sides in LR pixels; 0 stands for the whole clip or frame.

    The result does not depend on `on_disk`.
    """

    window: int = 0  # LR frames processed at once
    overlap: int = 2  # LR frames that two consecutive windows share
    tile: int = 0  # LR height of what is processed at once, and its width where none is given
    margin: int = 24  # LR pixels of context on each side of a tile: two neighbours share at least twice as many
    tile_width: int = 0
    on_disk: bool = False  # finished frames of a window wait in a file, not in memory

    def __post_init__(self) -> None:
        if min(self.window, self.overlap, self.tile, self.margin, self.tile_width) < 0:
            raise InputError(f"windows: sizes must be at least 0, got {self}")
        if self.window and self.overlap >= self.window:
            raise InputError(
                f"windows: overlap must be below the window of {self.window} LR frames, got {self.overlap}"
            )
        for side in (self.tile, self.tile_width):
            if side and 2 * self.margin >= side:
                raise InputError(f"windows: margin must be below half the tile of {side} pixels, got {self.margin}")

    def cuts(self, h: int, w: int) -> tuple[list[Interval], list[Interval]]:
        """Rows and columns of the tiles of a frame of h x w LR pixels."""
        return cover(h, self.tile, self.margin), cover(w, self.tile_width or self.tile, self.margin)


def cover(size: int, tile: int, margin: int) -> list[Interval]:
    """Equal intervals [start, stop) of length `tile`, evenly spaced, that cover `size`, overlapping by >= 2 margin."""
    if tile == 0 or tile >= size:
        return [(0, size)]
    count = 1 + -(-(size - tile) // (tile - 2 * margin))
    starts = np.floor(np.linspace(0, size - tile, count) + 0.5).astype(int)
    return [(int(start), int(start) + tile) for start in starts]


def fade(n: int) -> npt.NDArray[np.float64]:
    """Weight of the later piece over an overlap of n samples: 0, then a raised cosine over the central half, then 1."""
    position = (np.arange(n) + 0.5) / max(n, 1)  # of sample centres, 0 to 1
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(2 * position - 0.5, 0, 1))


def blend_weights(intervals: list[Interval]) -> list[npt.NDArray[np.float64]]:
    """Weights of overlapping intervals that sum to 1 at every sample."""
    weights = [np.ones(stop - start) for start, stop in intervals]
    for k in range(len(intervals) - 1):
        n = intervals[k][1] - intervals[k + 1][0]
        rise = fade(n)
        weights[k][len(weights[k]) - n :] *= 1 - rise
        weights[k + 1][:n] *= rise
    total = np.zeros(intervals[-1][1])
    for (start, stop), weight in zip(intervals, weights, strict=True):
        total[start:stop] += weight
    # Two neighbours sum to 1 by themselves; where three pieces overlap, or a fade lies in the third's, they need not.
    return [weight / total[start:stop] for (start, stop), weight in zip(intervals, weights, strict=True)]
