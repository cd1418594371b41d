"""Sharp clips to the LR clips that a camera makes of them: A x, rounded to 8 bits, as PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from davsr.data.clips import Clip
from davsr.data.frames import FrameFolder
from davsr.data.integrity import require_whole
from davsr.data.output import Output, Workers, write_png
from davsr.degradation import Degradation
from davsr.errors import InputError
from davsr.psf import extend_index

_CHUNK = 1 << 25  # samples of an HR chunk: 128 MiB in float32


def degrade_clips(
    clips: Sequence[Clip],
    target: str | Path,
    degradation: Degradation,
    description: Any,
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
    output = Output(target, recipe)
    if output.complete:
        return left_over
    tasks = (
        task for clip in clips for task in _tasks(clip, degradation, output.folder / (clip.name if nested else ""))
    )
    total = sum(len(clip) // s_t for clip in clips)
    with tqdm(total=total, desc="degrading", unit="frame") as progress, Workers(workers) as threads:
        for count in threads.map(_degrade, tasks):
            progress.update(count)
    output.finish()
    return left_over


@dataclass(frozen=True)
class _Task:
    """LR frames [start, stop) of a clip, to be written to `folder`."""

    clip: Clip
    degradation: Degradation
    start: int
    stop: int
    folder: Path
    hr: np.ndarray | None  # what they need of the clip, where that is read already

    def files(self) -> list[Path]:
        return [self.folder / f"{i:08d}.png" for i in range(self.start, self.stop)]


def _tasks(clip: Clip, degradation: Degradation, folder: Path) -> Iterator[_Task]:
    folder.mkdir(exist_ok=True)
    s_t = degradation.scale[0]
    frames = len(clip) // s_t
    step = max(1, _CHUNK // (3 * s_t * clip.size[0] * clip.size[1]))
    for start in range(0, frames, step):
        task = _Task(clip, degradation, start, min(start + step, frames), folder, None)
        # A folder is decoded by the threads; a video has one decoder, which must not jump about.
        if not (isinstance(clip, FrameFolder) or _done(task)):
            task = replace(task, hr=_window(task))
        yield task


def _degrade(task: _Task) -> int:
    """Carry out a task; returns its number of frames."""
    if not _done(task):
        hr = _window(task) if task.hr is None else task.hr
        x = torch.from_numpy(hr).permute(3, 0, 1, 2)[None].float() / 255
        first = _margin(task.degradation)
        y = task.degradation.apply(x)[0, :, first : first + task.stop - task.start]
        frames = y.clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).contiguous().numpy()
        for file, frame in zip(task.files(), frames, strict=True):
            write_png(file, frame)
    return task.stop - task.start


def _done(task: _Task) -> bool:
    """A run before has written it: files are there only when they are whole."""
    return all(file.exists() for file in task.files())


def _window(task: _Task) -> np.ndarray:
    """The HR frames that the LR frames and their margins cover, extended beyond the clip's ends as the operator does."""
    clip, degradation, m = task.clip, task.degradation, _margin(task.degradation)
    s_t, s_h, s_w = degradation.scale
    h, w = clip.size
    positions = np.arange(s_t * (task.start - m), s_t * (task.stop + m))
    indices = extend_index(positions, len(clip) // s_t * s_t, degradation.boundary)
    return clip.crop(indices.tolist(), 0, 0, h - h % s_h, w - w % s_w)


def _margin(degradation: Degradation) -> int:
    """How many LR frames before and after it an LR frame's exposure reaches into."""
    s_t = degradation.scale[0]
    before = -math.floor(degradation.phase)
    after = math.ceil(degradation.phase + degradation.exposure) - s_t
    return max(math.ceil(max(before, after) / s_t), 0)
