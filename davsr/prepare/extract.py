"""Video files to folders of frames, with the shots that cuts part them into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from davsr.data.clips import Clip
from davsr.data.scenes import shots_of
from davsr.errors import InputError
from davsr.files import write_png
from davsr.prepare.integrity import require_whole
from davsr.prepare.output import Output, Workers


def extract_frames(
    clip: Clip, target: str | Path, start: int = 0, stop: int | None = None, *, workers: int = 0
) -> tuple[tuple[int, int], ...]:
    """Write frames [start, stop) of a clip as `target/<00000000>.png`, numbered from 0.

    Returns:
        The shots, [first, end) in numbers of the files; they are listed in the folder's record too.

    Raises:
        InputError: naming the file that is damaged or cannot be written, or a range without frames.
    """
    require_whole(clip)
    indices = range(len(clip))[start:stop]
    if not indices:
        raise InputError(f"{clip.path}: frames must lie within 0:{len(clip)}, got {start}:{stop}")
    recipe = {"command": "extract", "source": str(clip.path.resolve()), "frames": [indices.start, indices.stop]}
    with Output(target, recipe, [clip.path]) as output:
        if output.complete:
            try:
                return tuple((int(a), int(b)) for a, b in output.facts["shots"])
            except (KeyError, TypeError, ValueError, OverflowError):
                raise InputError(
                    f"{target} has lost its list of shots: delete it, or choose another --output"
                ) from None
        with Workers(workers) as threads:

            def frames() -> Iterator[np.ndarray]:
                for number, i in enumerate(tqdm(indices, f"extracting {clip.name}", unit="frame")):
                    frame = clip.frames(i, i + 1)[0]
                    file = output.folder / f"{number:08d}.png"
                    if not file.exists():
                        threads.submit(write_png, file, frame)
                    yield frame

            shots = shots_of(frames())
        output.finish(shots=shots, rate=str(clip.rate) if clip.rate else None)
        return shots
