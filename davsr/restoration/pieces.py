"""What was made of a window, tile by tile, in 16 bits: in memory, or in a file where memory is short."""

from __future__ import annotations

import math
import mmap
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from davsr.pixels import Frames, put_frame, rounded
from davsr.restoration.cutting import Interval, Plan, blend_weights

# What was made of a piece: named videos [1, T, c, H, W] in the order in which they were made, the result last.
Step = dict[str, Tensor]

_LARGE = 2**22  # bytes of a frame's part that are worth memory of their own, of which a process has only so many


@dataclass(frozen=True)
class _Place:
    """Where a tile counts: LR cut, HR rows and columns of the frame, and its weights there."""

    cut: tuple[slice, slice]  # of the LR frame
    rows: Interval  # of the HR frame
    columns: Interval
    inside: tuple[slice, slice]  # of the HR tile
    weight: npt.NDArray[np.float32]  # [rows, columns]


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
        self.places = _places(plan, size, scale[1:])
        self.kept, self.names = kept, tuple[str, ...]()
        self._channels = 0
        self._frames: list[dict[int, Frames]] = []  # of each tile
        self._file: IO[bytes] | None = None
        if plan.on_disk:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as its frames)
        self._starts: list[int] = []  # of each tile in the file

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
            frame = _empty((self._channels, *videos[0].shape[2:]))
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
        parts = [self._part(k, p) for k in range(len(self.places))]
        frame = _empty((self._channels, *self.size))
        for c, out in enumerate(frame):  # one at a time: a frame in float32 is large
            total = torch.zeros(self.size)
            for place, part in zip(self.places, parts, strict=True):
                values, weight = torch.from_numpy(part[c].astype(np.float32)), torch.from_numpy(place.weight)
                total[slice(*place.rows), slice(*place.columns)].addcmul_(values, weight)
            rounded(total.numpy(), 1.0, out)
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
        size = 2 * math.prod(shape)
        self._file.seek(self._starts[k] + (p - self.kept.start) * size)
        return np.frombuffer(self._file.read(size), np.uint16).reshape(shape)


def _empty(shape: tuple[int, ...]) -> Frames:
    """Memory of its own for a frame: between the volumes of a network it would leave holes that nothing fits in."""
    size = math.prod(shape)
    if 2 * size < _LARGE:
        return np.empty(shape, np.uint16)
    return np.frombuffer(mmap.mmap(-1, 2 * size), np.uint16).reshape(shape)


def _places(plan: Plan, size: tuple[int, int], scale: tuple[int, ...]) -> list[_Place]:
    cuts = plan.cuts(*size)
    weighed = [
        list(zip(side, blend_weights([(s * start, s * stop) for start, stop in side]), strict=True))
        for side, s in zip(cuts, scale, strict=True)
    ]
    places = []
    for (top, bottom), of_rows in weighed[0]:
        for (left, right), of_columns in weighed[1]:
            rows, columns = _counting(of_rows), _counting(of_columns)
            places.append(
                _Place(
                    (slice(top, bottom), slice(left, right)),
                    (scale[0] * top + rows.start, scale[0] * top + rows.stop),
                    (scale[1] * left + columns.start, scale[1] * left + columns.stop),
                    (rows, columns),
                    np.outer(of_rows[rows], of_columns[columns]).astype(np.float32),
                )
            )
    return places


def _counting(weight: npt.NDArray[np.float64]) -> slice:
    """The samples that have any weight: what lies around them is context."""
    there = np.flatnonzero(weight)
    return slice(int(there[0]), int(there[-1]) + 1)
