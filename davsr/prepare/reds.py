"""REDS: from the download to folders that training and test read.

The download has two splits, each with the sharp 120 fps frames (`*_orig`, 500 a clip) and the blurred, small 24 fps
ones (`*_blur_bicubic/X4`, 100 a clip). Merged, the 240 clips of the training split keep their numbers and the 30 of the
validation split get 240 to 269. Four training clips, REDS4, are the test: they come to lie in a folder of their own,
which no training source reads.

Source: Nah et al., "NTIRE 2019 Challenge on Video Deblurring and Super-Resolution: Dataset and Study", CVPRW 2019;
REDS4: Wang et al., "EDVR", CVPRW 2019.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from davsr.errors import InputError
from davsr.prepare.integrity import folder_faults
from davsr.prepare.output import Output, Workers

REDS4 = ("000", "011", "015", "020")
FRAMES, SIZE, SCALE = 500, (720, 1280), (5, 4, 4)  # of a GT clip; LQ is smaller by the scale
Link = Literal["symlink", "hardlink", "copy"]


@dataclass(frozen=True)
class Split:
    """A part of the download, and where its clips go."""

    name: str
    clips: int
    first: int  # number of its clip 000 after merging

    def folder(self, root: Path, side: str) -> Path | None:
        """Where the GT or LQ clips lie: the archives unpack to `train/train_orig`, some mirrors have `train_orig`."""
        inner = f"{self.name}_orig" if side == "GT" else f"{self.name}_blur_bicubic/X4"
        found = [f for f in (root / self.name / inner, root / inner) if f.is_dir()]
        return found[0] if found else None


SPLITS = (Split("train", 240, 0), Split("val", 30, 240))
SIDES = ("GT", "LQ")


@dataclass(frozen=True)
class Download:
    """What a check found."""

    clips: dict[str, dict[str, Path]]  # number after merging -> GT and LQ folder
    missing: list[str]  # sentences
    faults: list[str]  # sentences that name a file


def check_download(
    root: str | Path, frames: int = FRAMES, size: tuple[int, int] = SIZE, workers: int = 0, progress: bool = True
) -> Download:
    """Look through a download: clips, numbers of frames, sizes, truncated files.

    Args:
        frames, size: of a GT clip, (h, w); other ones than those of REDS serve for a small copy of it.

    Raises:
        InputError: when root holds nothing of REDS.
    """
    root = Path(root)
    found: dict[str, dict[str, Path]] = {}
    missing: list[str] = []
    for split in SPLITS:
        for side in SIDES:
            folder = split.folder(root, side)
            if folder is None:
                inner = f"{split.name}_orig" if side == "GT" else f"{split.name}_blur_bicubic/X4"
                missing.append(f"{inner} is missing: neither {root / split.name / inner} nor {root / inner} exists")
                continue
            absent = []
            for number in range(split.clips):
                clip = folder / f"{number:03d}"
                if clip.is_dir():
                    found.setdefault(f"{split.first + number:03d}", {})[side] = clip
                else:
                    absent.append(number)
            if absent:
                missing.append(f"{folder} must hold {split.clips} clips, {len(absent)} are missing: {_ranges(absent)}")
    if not found:
        raise InputError(f"{root} holds nothing of REDS: {missing[0]}")
    expected = {"GT": (frames, size), "LQ": (frames // SCALE[0], (size[0] // SCALE[1], size[1] // SCALE[2]))}
    tasks = [(folder, *expected[side]) for sides in found.values() for side, folder in sides.items()]
    faults: list[str] = []
    with Workers(workers) as threads:
        checks = threads.map(lambda task: folder_faults(*task), tasks)
        for some in tqdm(checks, "checking", len(tasks), unit="clip", disable=not progress):
            faults += some
    clips = {name: sides for name, sides in sorted(found.items()) if len(sides) == len(SIDES)}
    return Download(clips, missing, faults)


def merge(
    download: Download, target: str | Path, held_out: Sequence[str] = REDS4, link: Link = "symlink"
) -> dict[str, list[str]]:
    """Lay a download out as `train/{GT,LQ}/<clip>` and `test/{GT,LQ}/<clip>`, the clips `held_out` in `test` alone.

    Returns:
        The names of the clips in `train` and in `test`.

    Raises:
        InputError: naming the file that cannot be linked or written.
    """
    parts = {
        "train": [name for name in download.clips if name not in held_out],
        "test": [name for name in download.clips if name in held_out],
    }
    sources = {name: [str(sides[side].resolve()) for side in SIDES] for name, sides in download.clips.items()}
    recipe = {"command": "reds", "link": link, "held_out": list(held_out), "clips": sources}
    inputs = [sides[side] for sides in download.clips.values() for side in SIDES]
    with Output(target, recipe, inputs) as output:
        if output.complete:
            return parts
        for part, names in parts.items():
            for name in names:
                for side in SIDES:
                    _place(download.clips[name][side], output.folder / part / side / name, link)
        output.finish(**parts)
        return parts


def _place(source: Path, target: Path, link: Link) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if link == "symlink":
            if not target.is_symlink():
                target.symlink_to(source.resolve(), target_is_directory=True)
            return
        target.mkdir(exist_ok=True)
        for file in sorted(source.iterdir()):
            copy, partial = target / file.name, target / f".{file.name}.tmp"
            if copy.exists():
                continue
            partial.unlink(missing_ok=True)
            if link == "hardlink":
                os.link(file, partial)
            else:
                shutil.copyfile(file, partial)
            partial.replace(copy)
    except OSError as error:
        raise InputError(f"{target} cannot be made as a {link}: {error.strerror}; see --link") from None


def _ranges(numbers: Iterable[int]) -> str:
    """Clip numbers in a row as ranges: 000-003, 017."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a:03d}" if a == b else f"{a:03d}-{b:03d}" for a, b in runs)
