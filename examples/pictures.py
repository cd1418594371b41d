"""Pictures for the examples: frames side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

import davsr
from davsr.data.clips import open_clip
from davsr.pixels import as_image, as_tensor, to_uint8, to_unit

_LARGER = 2  # than their pixels are pictures of small frames shown
SAMPLE = Path(davsr.__file__).parent / "assets" / "sample.mp4"  # sharp, 45 frames of 448x320


def sample(frames: int, side: int = 128) -> Tensor:
    """The first frames of the sample clip, [T, 3, side, side] in [0, 1], from its centre.

    Small, so that examples are quick.
    """
    clip = open_clip(SAMPLE)
    top, left = ((n - side) // 2 for n in clip.size)
    return to_unit(as_tensor(clip.frames(0, frames)[:, top : top + side, left : left + side]))


def write_frames(folder: str, frames: Tensor) -> None:
    """Write frames [t, 3, h, w] in [0, 1] as a folder of PNG files."""
    Path(folder).mkdir()
    for number, frame in enumerate(to_uint8(frames)):
        cv2.imwrite(f"{folder}/{number:04d}.png", cv2.cvtColor(as_image(frame), cv2.COLOR_RGB2BGR))


def as_image_of(frame: Tensor, size: tuple[int, int]) -> np.ndarray:
    """[3, h, w] in [0, 1] -> uint8 BGR at (H, W), pixels as blocks where it was smaller."""
    image = cv2.cvtColor(as_image(to_uint8(frame)), cv2.COLOR_RGB2BGR)
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST))


def side_by_side(path: str, frames: Mapping[str, Tensor]) -> None:
    """Write frames [3, h, w] in [0, 1] as one PNG, each under its name, at the size of the largest."""
    height, width = max(tuple(frame.shape[1:]) for frame in frames.values())
    size = (height * _LARGER, width * _LARGER) if height <= 128 else (height, width)
    columns = []
    for name, frame in frames.items():
        title = np.full((24, size[1], 3), 255, np.uint8)
        cv2.putText(title, name, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([title, as_image_of(frame, size)]))
    cv2.imwrite(path, np.hstack(columns))
