"""Clips: the one view of frames that training, testing and restoration share."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from davsr.data.frames import FrameFolder, is_image, natural_key
from davsr.data.store import Store, is_store
from davsr.data.video import VIDEO_SUFFIXES, VideoReader
from davsr.errors import InputError
from davsr.guards.names import given, require_clip_name
from davsr.log import logger


class Clip(Protocol):
    """Frames in the order of display, with exact random access."""

    name: str
    path: Path

    def __len__(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels."""

    @property
    def rate(self) -> Fraction | None:
        """Frames per second where the clip knows them."""

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop (as a slice counts), uint8 RGB [n, h, w, 3]."""

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Raise InputError for what can be seen to be wrong without decoding everything."""


def open_clip(path: str | Path) -> Clip:
    """A folder of frames, a video file or one clip of an LMDB (`store.lmdb/name`) as a clip.

    Raises:
        InputError: when it is missing, empty, or none of these.
    """
    path = given(path, "clip")
    if is_store(path) or is_store(path.parent):
        clips = open_clips(path) if is_store(path) else open_clips(path.parent, (path.name,))
        if len(clips) != 1:
            raise InputError(f"LMDB {path} holds {len(clips)} clips; name one of them, such as {path / clips[0].name}")
        return clips[0]
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if is_image(path):
        raise InputError(f"{path} is a single image; give the folder that holds the frames, or a video file")
    if path.is_dir():
        require_one_kind(path)
    clip = FrameFolder(path) if path.is_dir() else VideoReader(path)
    require_clip_name(clip.name, path)
    return clip


def open_clips(path: str | Path, names: tuple[str, ...] = ()) -> list[Clip]:
    """The clips of a folder (clip folders and video files) or an LMDB, or one clip: a folder of frames or a video file.

    Args:
        path: a folder or a file.
        names: only these clips, in this order; empty: all, in natural order.

    Raises:
        InputError: when the path is missing or holds no clip, a name is not among its clips, or two clips share a name.
    """
    path = given(path, "clips")
    found = _found(path)
    by_name: dict[str, Clip] = {}
    for clip in found:
        require_clip_name(clip.name, path)
        other = by_name.setdefault(clip.name, clip)
        if other is not clip:  # results of one would replace those of the other
            raise InputError(
                f"clips of {path} must have different names: {other.path.name} and {clip.path.name} are both {clip.name}"
            )
    missing = [name for name in names if name not in by_name]
    if missing:
        raise InputError(f"clip {missing[0]} is not in {path}; it holds {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else found


def _found(path: Path) -> list[Clip]:
    found: list[Clip]
    if is_store(path):
        found = list(Store(path).clips())
    elif not path.is_dir():
        found = [open_clip(path)]
    elif any(is_image(p) for p in path.iterdir()):
        require_one_kind(path)
        found = [FrameFolder(path)]
    else:
        inside = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=natural_key)
        found = [
            open_clip(p)
            for p in inside
            if (p.is_dir() and any(is_image(q) for q in p.iterdir())) or p.suffix.lower() in VIDEO_SUFFIXES
        ]
        if not found:
            raise InputError(f"folder {path} holds neither frames nor clips (folders of frames, video files)")
        nested = [p.name for p in inside if p.is_dir() and any(is_video(q) for q in p.iterdir())]
        if nested:
            logger.info(f"clips: the videos in folders of {path} are left out: {', '.join(nested)}")
    return found


def is_video(path: Path) -> bool:
    """Whether the name ends as that of a video file does."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def require_one_kind(folder: Path) -> None:
    """Raise InputError where a folder holds both frames and videos, as cameras leave them: which are meant?"""
    inside = sorted(folder.iterdir())
    frame, video = (next((p.name for p in inside if is_one(p)), None) for is_one in (is_image, is_video))
    if frame and video:
        raise InputError(
            f"folder {folder} must hold frames or videos, got both, such as {frame} and {video}: give each a folder"
        )
