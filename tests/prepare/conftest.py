"""Small real clips for the tests of `davsr prepare`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from davsr.data.clips import open_clip
from tests.prepare.folders import SAMPLE, write_clip


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    """Frames of a real moving clip, [22, 64, 96, 3]."""
    return open_clip(SAMPLE).crop(range(10, 32), 100, 150, 64, 96)


@pytest.fixture
def clips(tmp_path: Path, real: np.ndarray) -> Path:
    """A folder of two clips: 20 frames, and 12, which leave 2 over."""
    write_clip(tmp_path / "hr" / "a", real[:20])
    write_clip(tmp_path / "hr" / "b", real[10:])
    return tmp_path / "hr"
