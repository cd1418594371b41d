"""Clips, options and figures for the tests of `davsr test`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from davsr.data.frames import write_image
from davsr.options import Options, load_options

FREE = ["model.enhancement.kind=none", "model.hyper.kind=fixed", "model.iterations=1", "threads=1"]


def moving(n: int = 20, h: int = 64, w: int = 80) -> np.ndarray:
    """A smooth texture that moves 1.5 pixels a frame, [n, h, w, 3]."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    frames = []
    for i in range(n):
        u = x - 1.5 * i
        waves = np.stack([np.sin(u / 3 + y / 9), np.sin(u / 5 - y / 4), np.cos(u / 7 + y / 5)], axis=-1)
        frames.append(127.5 + 110 * waves)
    return np.round(np.stack(frames)).astype(np.uint8)


def write_clip(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        write_image(folder / f"{i:04d}.png", frame)
    return folder


def options(*changes: str) -> Options:
    return load_options(None, [*FREE, *changes])


def scores(path: Path) -> dict[str, dict]:
    return {clip["name"]: clip for clip in json.loads((path / "metrics.json").read_text())["clips"]}


def in_folder(folder: Path, call: Callable[[], int]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return call()


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("davsr: ") and error.count("\n") == 1
    return error
