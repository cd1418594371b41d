"""Small clips, options and runs for the tests of training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from davsr import config
from davsr.data.frames import write_image
from davsr.options import Options

# T = 4 HR frames of 32x32 from 2 LR frames of 8x8; a network of 20 thousand parameters
TREE = {
    "name": "run",
    "device": "cpu",
    "degradation": {"scale": [2, 4, 4]},
    "model": {
        "iterations": 2,
        "interpolation": {"method": "linear"},
        "enhancement": {
            "channels": 8,
            "blocks": 1,
            "feature_blocks": 1,
            "reconstruction_blocks": 1,
            "hr_channels": 4,
            "groups": 2,
            "flow": {"levels": 2, "channels": [8], "kernel": 3},
        },
    },
    "data": {"frames": 2, "patch": 32, "workers": 0},
    "train": {
        "iterations": 4,
        "batch": 2,
        "rate": 1e-3,
        "loss_epsilon": 1e-6,
        "ema": 0.9,
        "checkpoint_every": 2,
        "log_every": 1,
    },
}


def options(**changes: object) -> Options:
    """The small options with changes such as `train__batch=4`."""
    tree = _copy(TREE)
    for key, value in changes.items():
        *sections, last = key.split("__")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return config.build(Options, tree)


def write_options(path: Path, **changes: object) -> Path:
    """The same as a YAML file."""
    path.write_text(config.to_yaml(options(**changes)), encoding="utf-8")
    return path


def moving_frames(count: int, height: int = 48, width: int = 64, seed: int = 0, speed: float = 1.5) -> np.ndarray:
    """A smooth random texture that moves to the right, uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    wide = cv2.resize(
        rng.integers(0, 256, (height // 4, width, 3), dtype=np.uint8),
        (width * 4, height),
        interpolation=cv2.INTER_CUBIC,
    )
    shifts = [np.float64([[1, 0, i * speed], [0, 1, 0]]) for i in range(count)]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [cv2.warpAffine(wide, m, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT) for m in shifts]
    )


def write_clip(folder: Path, frames: np.ndarray) -> Path:
    """Frames as a folder of PNG files."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        write_image(folder / f"{number:04d}.png", frame)
    return folder


def write_photos(folder: Path, count: int = 2, side: int = 160, cell: int = 32) -> Path:
    """A folder of smooth random photographs, whose details are about `cell` pixels large."""
    folder.mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(100 + number)
        small = rng.integers(0, 256, (side // cell, side // cell, 3), dtype=np.uint8)
        write_image(folder / f"{number}.png", cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC))
    return folder


def _copy(tree: dict) -> dict:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}
