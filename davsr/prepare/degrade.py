"""Sharp clips to the LR clips that a camera makes of them: A x, rounded to 8 bits, as PNG."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from davsr.data.clips import Clip
from davsr.data.frames import FrameFolder
from davsr.data.views import Degraded, Part
from davsr.errors import InputError
from davsr.files import write_png
from davsr.physics.degradation import Degradation
from davsr.prepare.integrity import require_whole
from davsr.prepare.output import Output, Workers

_CHUNK = 1 << 25  # samples of an HR chunk: 128 MiB in float32


def degrade_clips(
    clips: Sequence[Clip],
    target: str | Path,
    degradation: Degradation,
    description: Mapping[str, Any],
    *,
    nested: bool = True,
    crop: bool = False,
    workers: int = 0,
) -> int:
    """Degrade clips into `target/<clip>/<00000000>.png`, or for a single one into `target/<00000000>.png`.

    Args:
        description: what `degradation` was made from, a JSON value: a second run must have the same.
        nested: whether each clip gets a folder.
        crop: cut sizes that the scale does not divide; otherwise they are refused.
        workers: threads; 0: one per CPU.

    Returns:
        How many HR frames at the ends of clips did not fill an LR frame.

    Raises:
        InputError: naming the file that is damaged, missing or of another size, or cannot be written.
    """
    s_t, s_h, s_w = degradation.scale
    for clip in clips:
        require_whole(clip)
        h, w = clip.size
        if (h % s_h or w % s_w) and not crop:
            raise InputError(
                f"clip {clip.path} must have sizes that the scale {s_w}x{s_h} divides, got {w}x{h}; "
                f"--crop cuts it to {w - w % s_w}x{h - h % s_h}"
            )
        if min(len(clip) // s_t, h // s_h, w // s_w) == 0:
            raise InputError(
                f"clip {clip.path} must have at least {s_t} frames of {s_w}x{s_h}, got {len(clip)} of {w}x{h}"
            )
    recipe = {
        "command": "degrade",
        "degradation": description,
        "clips": {clip.name: [str(clip.path.resolve()), len(clip), *clip.size] for clip in clips},
        "crop": crop,
    }
    left_over = sum(len(clip) % s_t for clip in clips)
    with Output(target, recipe, [clip.path for clip in clips]) as output:
        if output.complete:
            return left_over
        tasks = (
            task for clip in clips for task in _tasks(clip, degradation, output.folder / (clip.name if nested else ""))
        )
        total = sum(len(clip) // s_t for clip in clips)
        with tqdm(total=total, desc="degrading", unit="frame") as progress, Workers(workers) as threads:
            for count in threads.map(_write, tasks):
                progress.update(count)
        output.finish()
        return left_over


@dataclass(frozen=True)
class _Task:
    """LR frames [start, stop) of a clip, to be written to `folder`."""

    observed: Degraded
    start: int
    stop: int
    folder: Path


def _tasks(clip: Clip, degradation: Degradation, folder: Path) -> Iterator[_Task]:
    folder.mkdir(exist_ok=True)
    s_t, s_h, s_w = degradation.scale
    h, w = clip.size
    shared = clip if isinstance(clip, FrameFolder) else _Shared(clip)
    sharp = Part(shared, 0, len(clip) - len(clip) % s_t, (h - h % s_h, w - w % s_w))
    observed = Degraded(sharp, degradation)
    step = max(1, _CHUNK // (3 * s_t * h * w))
    for start in range(0, len(observed), step):
        yield _Task(observed, start, min(start + step, len(observed)), folder)


def _write(task: _Task) -> int:
    """Carry out a task, unless a run before has: files are there only when they are whole.

    Returns its number of frames.
    """
    files = [task.folder / f"{i:08d}.png" for i in range(task.start, task.stop)]
    if not all(file.exists() for file in files):
        for file, frame in zip(files, task.observed.observe(task.start, task.stop), strict=True):
            if not file.exists():
                write_png(file, frame)
    return len(files)


class _Shared:
    """A clip with one decoder, which threads take turns to use."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.name, self.path, self.size, self.rate = clip, clip.name, clip.path, clip.size, clip.rate
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.clip)

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        with self._lock:
            return self.clip.frames(start, stop, step)

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        with self._lock:
            return self.clip.crop(indices, top, left, height, width)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        with self._lock:
            self.clip.check(start, stop)
