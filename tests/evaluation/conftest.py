"""Clips with their LR side for the tests of `davsr test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from davsr.data.clips import open_clip
from davsr.data.views import Degraded
from davsr.physics.degradation import Degradation
from tests.evaluation.sets import moving, write_clip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gt/ and lq/ with clips a (20 frames) and b (10 frames), and odd/ whose sizes the scale does not divide."""
    root = tmp_path_factory.mktemp("data")
    for name, frames in {"a": moving(20), "b": moving(10)[:, ::-1]}.items():
        clip = open_clip(write_clip(root / "gt" / name, frames))
        write_clip(root / "lq" / name, Degraded(clip, Degradation()).frames(0, 10))
    write_clip(root / "odd", moving(12, 66, 81))
    return root
