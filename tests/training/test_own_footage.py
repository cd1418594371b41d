"""Folders of one's own footage, as cameras and desktops leave them.

What gives no sample is said, and what is nobody's is not taken.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from davsr.training.samples.dataset import VideoSamples
from tests.runs import moving_frames, options, write_clip, write_photos


def samples(path: Path, kind: str = "frames", cache: str = "", **more: object) -> VideoSamples:
    return VideoSamples(options(data__sources=[{"kind": kind, "path": str(path), **more}], data__cache=cache))


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip", moving_frames(16))


def test_a_clip_too_short_for_a_sample_is_named(clip, tmp_path):
    """It had been counted among the others, without a word."""
    clips = tmp_path / "clips"
    clips.mkdir()
    clip.rename(clips / "long")
    write_clip(clips / "glimpse", moving_frames(3))
    (source,) = samples(clips).sources
    assert source.describe().endswith("; too short, so without a sample: glimpse")
    (source,) = samples(clips, exclude=["glimpse"]).sources
    assert "too short" not in source.describe()


def test_what_file_managers_leave_among_frames_is_nobodys(clip, tmp_path):
    """No photograph, no frame, and no reason to decode a film anew."""
    photos = write_photos(tmp_path / "photos")
    (photos / ".thumbnails").mkdir()
    for place in (photos / "._0.png", photos / ".thumbnails" / "0.png", photos / "Thumbs.db"):
        place.write_bytes(b"not a picture")
    samples(photos, "synthetic")
    cache = tmp_path / "cache"
    before = samples(clip, cache=str(cache))[0]["gt"]
    kept = sorted(path.name for path in cache.iterdir())
    for name in (".DS_Store", "._0000.png", "Thumbs.db"):
        (clip / name).write_bytes(b"of the desktop")
    torch.testing.assert_close(samples(clip, cache=str(cache))[0]["gt"], before, rtol=0, atol=0)
    assert sorted(path.name for path in cache.iterdir()) == kept and len(kept) == 2
