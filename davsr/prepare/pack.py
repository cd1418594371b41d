"""Clips into an LMDB: read, compressed by tiles, written in transactions, and compared with their source on a
sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from davsr.data.clips import Clip, open_clips
from davsr.data.frames import FrameFolder
from davsr.data.store import TILE, Entry, StoreWriter, encode_frame
from davsr.errors import InputError
from davsr.prepare.integrity import require_whole
from davsr.prepare.output import Output, Workers

_SAMPLE = 3  # frames of a clip that are read back


def pack_clips(clips: Sequence[Clip], target: str | Path, *, workers: int = 0) -> None:
    """Write clips to an LMDB; the same call goes on where an interrupted one stopped.

    Raises:
        InputError: naming the file that is damaged, missing or of another size, or cannot be written, or the clip
            that does not read back as its source.
    """
    names = [clip.name for clip in clips]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"clips of an LMDB must have different names, got {twice[0]} twice")
    for clip in clips:
        require_whole(clip)
    entries = [Entry(clip.name, len(clip), *clip.size, str(clip.rate) if clip.rate else None) for clip in clips]
    sources = {clip.name: [str(clip.path.resolve()), len(clip), *clip.size] for clip in clips}
    with Output(target, {"command": "lmdb", "clips": sources, "tile": TILE}, [clip.path for clip in clips]) as output:
        if output.complete:
            return
        total = sum(map(len, clips))
        with StoreWriter(output.folder) as writer, Workers(workers) as threads:
            with tqdm(total=total, desc="packing", unit="frame") as progress:
                for clip in clips:
                    missing = writer.missing(clip.name, len(clip))
                    progress.update(len(clip) - len(missing))
                    # A folder is decoded by the threads; a video has one decoder, which must not jump about.
                    folder = isinstance(clip, FrameFolder)
                    frames = ((clip, i, None if folder else clip.frames(i, i + 1)[0]) for i in missing)
                    for i, value in zip(missing, threads.map(_encode, frames), strict=True):
                        writer.put(clip.name, i, value)
                        progress.update()
            writer.finish(entries)
        _read_back(clips, output.folder)
        output.finish()


def _encode(task: tuple[Clip, int, np.ndarray | None]) -> bytes:
    clip, i, frame = task
    return encode_frame(clip.frames(i, i + 1)[0] if frame is None else frame)


def _read_back(clips: Sequence[Clip], store: Path) -> None:
    """Compare some frames of each clip with their source: the first, the last, and others between."""
    stored = {clip.name: clip for clip in open_clips(store)}
    for clip in tqdm(clips, "verifying", unit="clip"):
        for i in np.linspace(0, len(clip) - 1, _SAMPLE, dtype=int).tolist():
            if not np.array_equal(clip.frames(i, i + 1), stored[clip.name].frames(i, i + 1)):
                raise InputError(f"LMDB {store}: frame {i} of clip {clip.name} is not what {clip.path} holds")
