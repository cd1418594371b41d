"""`--deblur`, `--interpolate` and `--upscale`: which frames come out, and that the blur of motion is undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.options import DegradationOptions, RestoreOptions
from davsr.physics.degradation import Degradation
from davsr.restoration import streaming
from davsr.restoration.restore import restore
from davsr.restoration.streaming import middle_of_exposure
from davsr.restoration.target import Target
from tests.videos import about, decode, pattern, write_video

FIVE = DegradationOptions(scale=(5, 1, 1))
LOSSLESS = {"codec": "ffv1", "num_frame_testing": 4, "num_frame_overlap": 2, "size_patch_testing": 0, "cuts": False}


def blurred(folder: Path, t: int = 7) -> tuple[Path, np.ndarray]:
    """A video whose frames are each the mean of five that move fast, and the sharp ones in the middle [t, h, w, 3]."""
    sharp = pattern(5 * t, 32, 48, speed=0.8)
    x = torch.from_numpy(sharp).permute(3, 0, 1, 2)[None].double() / 255
    y = Degradation(scale=(5, 1, 1)).apply(x)[0].permute(1, 2, 3, 0).mul(255).round().byte().numpy()
    return write_video(folder / "in.mkv", y, 25, pixels="bgr0", codec="ffv1"), sharp[2::5]


def go(source: Path, name: str, model: str | None = None, **options) -> np.ndarray:
    target = source.with_name(name)
    restore(
        source,
        target,
        model=load_model(model=model),
        degradation=FIVE,
        options=RestoreOptions(**{**LOSSLESS, **options}),
    )
    return decode(target)


def test_deblur_writes_the_middle_of_each_exposure(tmp_path: Path) -> None:
    source, sharp = blurred(tmp_path)
    kept, whole = go(source, "kept.mkv", deblur=True), go(source, "whole.mkv")
    np.testing.assert_array_equal(kept, whole[2::5])
    told, before = about(tmp_path / "kept.mkv"), about(source)
    assert all(told[fact] == before[fact] for fact in ("frames", "size", "rate", "steps", "start"))
    inner = slice(1, -1)  # the ends have neighbours on one side only
    blur, rest = (np.square(video[inner].astype(float) - sharp[inner]).mean() for video in (decode(source), kept))
    assert rest < 0.2 * blur  # 7 dB; measured 0.05


def test_an_interrupted_deblurring_goes_on_where_it_was(tmp_path: Path, monkeypatch) -> None:
    source, _ = blurred(tmp_path, 11)
    whole = go(source, "whole.mkv", TRAINING_FREE, deblur=True)
    monkeypatch.setattr(streaming, "_SEGMENT_FRAMES", 2)
    write, seen = Target.write, []

    def fail(self: Target, image: np.ndarray) -> None:
        seen.append(image)
        if len(seen) == 6:
            raise OSError("no space left")
        write(self, image)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(Target, "write", fail)
        go(source, "again.mkv", TRAINING_FREE, deblur=True)
    np.testing.assert_array_equal(go(source, "again.mkv", TRAINING_FREE, deblur=True), whole)


@pytest.mark.parametrize(
    ("exposure", "phase", "middle"), [(None, 0, 2), (3, 0, 1), (5, -2, 0), (1, 4, 4), (2.5, 0, 1), (7, 2, 4)]
)
def test_the_middle_of_an_exposure_is_one_of_its_frames(exposure, phase: int, middle: int) -> None:
    assert middle_of_exposure(DegradationOptions(scale=(5, 1, 1), exposure=exposure, phase=phase)) == middle
