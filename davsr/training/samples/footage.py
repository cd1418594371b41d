"""Footage to draw training samples from: clips decoded once, kept in memory or in a cache folder, with their shots."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from davsr.data.clips import Clip, open_clip, open_clips
from davsr.data.frames import list_frames
from davsr.data.scenes import shots_of
from davsr.data.views import Part
from davsr.errors import InputError
from davsr.files import write_json
from davsr.guards.names import beside
from davsr.log import logger, progress
from davsr.options import SourceOptions

_CHUNK = 32  # frames decoded at a time
_MEMORY = 4 * 2**30  # bytes of one clip that are kept in memory; longer films need a cache folder


class FrameStore(Protocol):
    """Frames that can be read in any order."""

    shape: tuple[int, int, int]  # frames, h, w

    def crop(self, indices: Sequence[int], top: int, left: int, side: tuple[int, int]) -> np.ndarray:
        """uint8 [n, *side, 3]."""


class DecodedFrames:
    """Frames as one array [n, h, w, 3], in memory or mapped from a file."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
        self.shape = (frames.shape[0], frames.shape[1], frames.shape[2])

    def __getstate__(self) -> dict[str, Any]:
        """For a loader's worker that is not forked.

        It maps the file itself, instead of being sent what may be hundreds of GB.
        """
        file = getattr(self.frames, "filename", None)
        return {"shape": self.shape, "frames": self.frames if file is None else None, "file": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shape = state["shape"]
        self.frames = state["frames"] if state["file"] is None else np.load(state["file"], mmap_mode="r")

    def crop(self, indices: Sequence[int], top: int, left: int, side: tuple[int, int]) -> np.ndarray:
        """Copies of the crops: what is mapped is read only here."""
        return np.stack([self.frames[i, top : top + side[0], left : left + side[1]] for i in indices])


class FramesOnDisk:
    """Frames that are read, and reduced, whenever a crop is taken."""

    def __init__(self, clip: Clip, reduce: int) -> None:
        self.clip, self.reduce = clip, reduce
        h, w = clip.size
        self.shape = (len(clip), h // reduce, w // reduce)

    def crop(self, indices: Sequence[int], top: int, left: int, side: tuple[int, int]) -> np.ndarray:
        """As `DecodedFrames.crop`."""
        n = self.reduce
        return reduced(self.clip.crop(indices, n * top, n * left, n * side[0], n * side[1]), n)


@dataclass(frozen=True)
class Footage:
    """One clip with its shots: [start, stop) runs of frames without a cut."""

    name: str
    store: FrameStore
    shots: tuple[tuple[int, int], ...]


def open_footage(options: SourceOptions, path: str, cache: str = "") -> list[Footage]:
    """The clips of a source of kind `video` or `frames`.

    Films are decoded once: into memory, or into `cache`, where they stay for the next run. Folders of frames are read
    as they are needed unless there is a cache folder.

    Args:
        path: the option's dotted path, for errors.

    Raises:
        InputError: naming what cannot be read.
    """
    return [_footage(clip, options, path, cache) for clip in source_clips(options, path)]


def source_clips(options: SourceOptions, path: str) -> list[Clip]:
    """The clips of a source of kind `video` or `frames`, cut to the frames that the option names.

    Raises:
        InputError: naming what is missing, unreadable, or of unequal sizes.
    """
    if not options.path:
        raise InputError(f"{path}.path: must name a video, a folder of frames or a folder of clips, got ''")
    clips: Sequence[Clip] = [open_clip(options.path)] if options.kind == "video" else open_clips(options.path)
    clips = chosen(clips, options, path)
    for clip in clips:
        clip.check()
    if not options.frames:
        return list(clips)
    match = re.fullmatch(r"(\d*):(\d*)", options.frames)
    if not match:
        raise InputError(f"{path}.frames: must be start:stop, such as 0:100, got {options.frames!r}")
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    parts: list[Clip] = [Part(clip, start, stop) for clip in clips]
    for part in parts:
        if not len(part):
            raise InputError(f"{path}.frames: {options.frames} leaves nothing of {part.name}")
    return parts


def chosen(clips: Sequence[Clip], options: SourceOptions, path: str) -> list[Clip]:
    """Those that `options.clips` names, or all, less those of `options.exclude`.

    Raises:
        InputError: a name is not there, or nothing is left.
    """
    names = [clip.name for clip in clips]
    for name in options.clips:
        if name not in names:
            raise InputError(f"{path}.clips: {name} is not in {clips[0].path.parent}, which holds {', '.join(names)}")
    left = [
        clip for clip in clips if (not options.clips or clip.name in options.clips) and clip.name not in options.exclude
    ]
    if not left:
        raise InputError(f"{path}.path: {options.path} holds no clip that is not excluded")
    return left


def reduced(frames: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of `factor` pixels: uint8 [n, h, w, 3] -> [n, h // factor, w // factor, 3]."""
    if factor == 1:
        return frames
    height, width = frames.shape[1] // factor, frames.shape[2] // factor
    frames = frames[:, : height * factor, : width * factor]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def _footage(clip: Clip, options: SourceOptions, path: str, cache: str) -> Footage:
    if cache:
        frames, shots = _cached(clip, options, Path(cache))
        return Footage(clip.name, DecodedFrames(frames), shots if options.cuts else ((0, len(frames)),))
    if options.kind == "frames":
        store = FramesOnDisk(clip, options.reduce)
        whole = ((0, len(clip)),)
        return Footage(clip.name, store, _shots(clip) if options.cuts else whole)
    shape = (len(clip), *(n // options.reduce for n in clip.size), 3)
    if int(np.prod(shape)) > _MEMORY:
        raise InputError(
            f"{path}.path: {options.path} is {np.prod(shape) / 2**30:.1f} GiB decoded; "
            "set data.cache to a folder where it is decoded once"
        )
    frames = np.empty(shape, dtype=np.uint8)
    _decode(clip, options.reduce, frames)
    return Footage(clip.name, DecodedFrames(frames), shots_of(frames) if options.cuts else ((0, len(frames)),))


def _shots(clip: Clip) -> tuple[tuple[int, int], ...]:
    return shots_of(frame for i in range(len(clip)) for frame in clip.frames(i, i + 1))


def _cached(clip: Clip, options: SourceOptions, folder: Path) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    """Frames mapped from the cache, decoded into it first where they are missing.

    The description is written last, each file under its final name only when it is whole: what an interrupted run left
    behind is never used.
    """
    identity = {
        "source": str(clip.path.resolve()),
        **_stamp(clip.path),
        "part": options.frames,
        "frames": len(clip),
        "reduce": options.reduce,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    array, description = (beside(folder / clip.name, "", f"-{key}.{kind}") for kind in ("npy", "json"))
    if not (array.exists() and description.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        partial = beside(array, ".", f".{os.getpid()}.partial")
        shape = (len(clip), *(n // options.reduce for n in clip.size), 3)
        frames = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        try:
            _decode(clip, options.reduce, frames)
            frames.flush()
            shots = shots_of(frames)
            os.replace(partial, array)
        finally:
            partial.unlink(missing_ok=True)
        write_json(description, {**identity, "shots": shots}, indent=1)
    shots = tuple((int(a), int(b)) for a, b in json.loads(description.read_text(encoding="utf-8"))["shots"])
    return np.load(array, mmap_mode="r"), shots


def _stamp(path: Path) -> dict[str, int]:
    """Size and time of a file, or of all frames of a folder: a changed source is decoded anew."""
    files = list_frames(path) if path.is_dir() else [path]
    stats = [f.stat() for f in files]
    return {"bytes": sum(s.st_size for s in stats), "modified": max(s.st_mtime_ns for s in stats)}


def _decode(clip: Clip, reduce: int, frames: np.ndarray) -> None:
    logger.info(f"data: decodes {clip.name}, {len(clip)} frames")
    with progress(len(clip), f"decoding {clip.name}") as bar:
        for start in range(0, len(clip), _CHUNK):
            stop = min(start + _CHUNK, len(clip))
            frames[start:stop] = reduced(clip.frames(start, stop), reduce)
            bar.update(stop - start)
