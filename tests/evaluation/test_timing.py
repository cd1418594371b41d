"""Videos that `davsr test` writes are shown when `davsr restore` shows them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from davsr.data.video import VideoReader
from davsr.evaluation.tester import evaluate
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore
from tests.evaluation.sets import options


@pytest.mark.parametrize(("case", "stretch"), [("phone_jitter.mp4", "5:12"), ("variable_rate.mp4", "27:34")])
def test_frames_are_shown_when_restore_shows_them(case: str, stretch: str, tmp_path: Path) -> None:
    """Of a clip whose rate varies too: neither its mean rate nor an assumed one."""
    source = Path(__file__).parents[1] / "data" / "cases" / case
    wanted = ["degradation.scale=[2, 1, 1]", f"test.frames='{stretch}'", "test.save=video", "test.temporal=false"]
    evaluate(options("name=run", f"test.input={source}", *wanted), tmp_path)
    small = RestoreOptions(frames=stretch, preset="ultrafast", size_patch_testing=0)
    twice = DegradationOptions(scale=(2, 1, 1))
    restore(source, tmp_path / "r.mp4", model="training-free", degradation=twice, options=small)
    tested = VideoReader(next(tmp_path.glob("run/*/restored.mp4")))
    restored = VideoReader(tmp_path / "r.mp4")
    for reader in (tested, restored):
        assert len(reader) == 14 and len({b - a for a, b in pairwise(reader.times)}) > 1
    ticks = [[t * reader.time_base for t in (*reader.times, reader.pictures.end)] for reader in (tested, restored)]
    assert ticks[0] == ticks[1]
