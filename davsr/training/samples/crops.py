"""What sources of samples are asked for, and give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SampleSize:
    """What a sample covers: T HR frames of side P, and s_t, s_h, s_w of the pairs."""

    frames: int
    patch: int
    scale: tuple[int, int, int]


@dataclass(frozen=True)
class Crop:
    """Sharp frames, uint8 [T, P, P, 3], and for pairs the observed ones, uint8 [t, P / s_h, P / s_w, 3]."""

    gt: np.ndarray
    lq: np.ndarray | None = None
