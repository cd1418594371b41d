"""What was made of a window, tile by tile, in 16 bits: in memory, or in a file where memory is short."""

from __future__ import annotations

import math
import mmap
import tempfile
import weakref
from dataclasses import dataclass
from io import BufferedRandom
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from davsr.pixels import Frames, put_frame, rounded
from davsr.restoration.cutting import Interval, Plan, blend_weights

# What was made of a piece: named videos [1, T, c, H, W] in the order in which they were made, the result last.
Step = dict[str, Tensor]

_SPARE = 4  # frames of each size whose memory is kept for the next ones
_LARGE = 2**14  # bytes of a frame's part that are worth memory of their own
_MOST = 2**13  # parts with memory of their own: a process has only so many maps


@dataclass(frozen=True)
class _Place:
    """Where a tile counts: LR cut, HR rows and columns of the frame, and of the HR tile."""

    cut: tuple[slice, slice]
    rows: Interval
    columns: Interval
    inside: tuple[slice, slice]


@dataclass(frozen=True)
class _Patch:
    """Rows and columns of the frame that the same tiles cover: number, place in what is kept, and weight of each."""

    rows: slice
    columns: slice
    tiles: list[tuple[int, tuple[slice, slice], npt.NDArray[np.float32]]]


class Pieces:
    """The tiles of one window, as they are finished; frames are put together when they are asked for.

    Args:
        size: (h, w) of the LR frames.
        scale: (s_t, s_h, s_w).
        plan: how the frames are cut.
        kept: HR frames of the window that will be asked for.
        folder: where a file may lie that takes them, if the plan has one; it is gone when nobody needs it.
    """

    def __init__(
        self, size: tuple[int, int], scale: tuple[int, int, int], plan: Plan, kept: range, folder: Path | None = None
    ) -> None:
        self.size = (scale[1] * size[0], scale[2] * size[1])
        self.places, self._patches = _places_and_patches(plan, size, scale[1:])
        self.kept, self.names = kept, tuple[str, ...]()
        self._channels = 0
        self._frames: list[dict[int, Frames]] = []  # of each tile
        self._file: BufferedRandom | None = None
        if plan.on_disk:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as its frames)
        self._starts: list[int] = []  # of each tile in the file
        self._memory = FrameMemory()

    def add(self, step: Step) -> None:
        """What was made of the next tile, in the order of `places`; it is emptied."""
        place = self.places[len(self._frames)]
        self.names = tuple(step)
        videos = [step.pop(name)[0][..., place.inside[0], place.inside[1]] for name in self.names]
        c = videos[0].shape[1]
        self._channels = len(videos) * c
        made: dict[int, Frames] = {}
        if self._file is not None:
            self._starts.append(self._file.seek(0, 2))
        for p in self.kept:
            frame = self._memory.frame((self._channels, *videos[0].shape[2:]))
            for n, video in enumerate(videos):
                put_frame(video[p], frame[n * c : (n + 1) * c])
            if self._file is None:
                made[p] = frame
            else:
                self._file.write(frame.data)
        self._frames.append(made)

    def frame(self, p: int) -> Frames:
        """HR frame p of the window, all videos side by side as channels: [videos * c, H, W]."""
        if len(self.places) == 1:
            return self._part(0, p)
        parts: dict[int, Frames] = {}  # of the tiles around the patch
        frame = self._memory.frame((self._channels, *self.size))
        for patch in self._patches:
            top = patch.rows.start
            parts = {k: part for k, part in parts.items() if self.places[k].rows[1] > top}
            for k, _, _ in patch.tiles:
                if k not in parts:
                    parts[k] = self._part(k, p)
            out = frame[:, patch.rows, patch.columns]
            if len(patch.tiles) == 1:  # most of the frame: nothing to weigh
                k, inside, _ = patch.tiles[0]
                out[:] = parts[k][:, inside[0], inside[1]]
                continue
            for c, plane in enumerate(out):
                total = np.zeros(plane.shape, np.float32)
                for k, inside, weight in patch.tiles:
                    total += weight * parts[k][c][inside]
                rounded(total, 1.0, plane)
        return frame

    def forget(self, stop: int) -> None:
        """Frames below `stop` will not be asked for any more."""
        for made in self._frames:
            for p in [p for p in made if p < stop]:
                del made[p]

    def _part(self, k: int, p: int) -> Frames:
        """A tile's part of a frame."""
        if self._file is None:
            return self._frames[k][p]
        (top, bottom), (left, right) = self.places[k].rows, self.places[k].columns
        shape = self._channels, bottom - top, right - left
        part = self._memory.frame(shape)
        self._file.seek(self._starts[k] + (p - self.kept.start) * part.nbytes)
        self._file.readinto(part.data)
        return part


class FrameMemory:
    """Memory for frames, apart from that of a network, between whose volumes frames would leave holes.

    What nobody holds any more is lent again: pages that come fresh from the system cost more than what is written to
    them.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        self._lent = 0

    def frame(self, shape: tuple[int, ...]) -> Frames:
        """A frame of any content."""
        size = 2 * math.prod(shape)
        if size < _LARGE or self._lent >= _MOST:
            return np.empty(shape, np.uint16)
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else mmap.mmap(-1, size)
        whole = np.frombuffer(memory, np.uint16)  # which every view of it holds

        def take_back() -> None:
            self._lent -= 1
            if len(free) < _SPARE:
                free.append(memory)

        self._lent += 1
        weakref.finalize(whole, take_back).atexit = False
        return whole.reshape(shape)


def _places_and_patches(plan: Plan, size: tuple[int, int], scale: tuple[int, ...]) -> tuple[list[_Place], list[_Patch]]:
    """Tiles in rows, the columns of a row following each other, and the patches that they make of a frame."""
    rows, columns = (_stretches(cuts, s) for cuts, s in zip(plan.cuts(*size), scale, strict=True))
    places = [
        _Place((down.cut, across.cut), down.counts, across.counts, (down.inside, across.inside))
        for down in rows
        for across in columns
    ]
    patches = []
    for first, above in _covered(rows):
        for second, beside in _covered(columns):
            tiles = [
                (i * len(columns) + j, (y, x), np.outer(of_rows, of_columns).astype(np.float32))
                for i, y, of_rows in above
                for j, x, of_columns in beside
            ]
            patches.append(_Patch(first, second, tiles))
    return places, patches


@dataclass(frozen=True)
class _Stretch:
    """A tile along one axis: its LR cut, where it counts in the HR frame and in the HR tile, and its weights there."""

    cut: slice
    counts: Interval
    inside: slice
    weight: npt.NDArray[np.float64]


def _stretches(cuts: list[Interval], scale: int) -> list[_Stretch]:
    weights = blend_weights([(scale * start, scale * stop) for start, stop in cuts])
    made = []
    for (start, stop), weight in zip(cuts, weights, strict=True):
        inside = _counting(weight)
        counts = scale * start + inside.start, scale * start + inside.stop
        made.append(_Stretch(slice(start, stop), counts, inside, weight[inside]))
    return made


def _covered(stretches: list[_Stretch]) -> list[tuple[slice, list[tuple[int, slice, npt.NDArray[np.float64]]]]]:
    """An axis of the frame cut where a stretch begins or ends: each with the number of those that cover it, what it is
    of them, and their weights.
    """
    borders = sorted({border for stretch in stretches for border in stretch.counts})
    found = []
    for start, stop in pairwise(borders):
        those = []
        for n, stretch in enumerate(stretches):
            first, last = stretch.counts
            if first <= start and stop <= last:
                part = slice(start - first, stop - first)
                those.append((n, part, stretch.weight[part]))
        found.append((slice(start, stop), those))
    return found


def _counting(weight: npt.NDArray[np.float64]) -> slice:
    """The samples that have any weight: what lies around them is context."""
    there = np.flatnonzero(weight)
    return slice(int(there[0]), int(there[-1]) + 1)
