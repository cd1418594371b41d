"""Folders of frames for the tests of `davsr prepare`, and the command itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from davsr.cli import main
from davsr.files import write_png

SAMPLE = Path(__file__).parents[2] / "davsr" / "assets" / "sample.mp4"


def write_clip(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        write_png(folder / f"{i:08d}.png", frame)
    return folder


def prepare(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the record, whose content names places."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "prepared.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}
