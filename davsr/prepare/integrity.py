"""Whether frames are all there, whole and of one size, as far as that can be seen without decoding them."""

from __future__ import annotations

import re
from pathlib import Path

from davsr.data.clips import Clip
from davsr.data.frames import FrameFolder, image_size, list_frames
from davsr.errors import InputError

_PNG_END = b"IEND\xaeB`\x82"  # name and checksum of the last chunk, which is always empty


def require_whole(clip: Clip) -> None:
    """Check a clip before it is worked on.

    Raises:
        InputError: naming the first file that is missing, truncated or of another size.
    """
    if isinstance(clip, FrameFolder):
        faults = folder_faults(clip.path)
        if faults:
            more = f" ({len(faults) - 1} more faults)" if len(faults) > 1 else ""
            raise InputError(faults[0] + more)
        return
    clip.check()


def folder_faults(folder: Path, count: int | None = None, size: tuple[int, int] | None = None) -> list[str]:
    """What is wrong with a folder of numbered frames, each fault a sentence that names the file.

    Args:
        count: how many frames there must be, numbered from 0 or 1; None: as many as there are, without a gap.
        size: (h, w) that all must have; None: that of the first.
    """
    files = list_frames(folder)
    faults = _gaps(files, count)
    if count is not None and not faults and len(files) != count:
        faults.append(f"folder {folder} must hold {count} frames, got {len(files)}")
    for file in files:
        try:
            found = image_size(file)
        except InputError as error:
            faults.append(str(error))
            continue
        size = size or found
        if found != size:
            faults.append(f"frame {file} must be {size[1]}x{size[0]} like its clip, got {found[1]}x{found[0]}")
        elif file.suffix.lower() == ".png" and not _ends_whole(file):
            faults.append(f"frame {file} is truncated")
    return faults


def _gaps(files: list[Path], count: int | None) -> list[str]:
    """Frames that are missing by their numbers; files that are not all numbered cannot show any."""
    matches = [re.fullmatch(r"(.*?)(\d+)", file.stem) for file in files]
    numbers = {int(match[2]) for match in matches if match}
    if not files or not matches[0] or len(numbers) < len(files):
        return []
    if count is None:
        expected = range(min(numbers), max(numbers) + 1)
    else:
        expected = range(1, count + 1) if count in numbers and 0 not in numbers else range(count)
    # Counted, not listed: frames may be numbered by nanoseconds.
    missing = len(expected) - sum(i in expected for i in numbers)
    if not missing:
        return []
    first = next(i for i in expected if i not in numbers)
    name = f"{matches[0][1]}{first:0{len(matches[0][2])}d}{files[0].suffix}"
    more = f", and {missing - 1} more" if missing > 1 else ""
    return [f"frame {files[0].with_name(name)} is missing{more}"]


def _ends_whole(file: Path) -> bool:
    with file.open("rb") as stream:
        end = stream.seek(0, 2)
        stream.seek(max(end - len(_PNG_END), 0))
        return stream.read() == _PNG_END
