"""`davsr polish`: another program's output, made to agree with the video that it came from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.options import DegradationOptions, RestoreOptions
from davsr.physics.degradation import Degradation
from davsr.restoration.polishing import ALPHA, polish
from tests.videos import about, decode, pattern, sound_of, write_video

LOSSLESS = RestoreOptions(codec="ffv1")


def pair(tmp_path, t=6, degradation=None, sound=False):
    """Truth [T, H, W, 3], its degraded video, and an estimate that is the truth, blurred."""
    truth = pattern(5 * t, 64, 96, speed=0.9)
    x = torch.from_numpy(truth).float().div(255).permute(3, 0, 1, 2)[None]
    y = (degradation or Degradation()).apply(x)[0].permute(1, 2, 3, 0).clamp(0, 1).mul(255).round().byte().numpy()
    blurred = truth.astype(float).copy()
    shifts = [(i, j) for i in (0, 1, 2) for j in (0, 1, 2)]
    blurred[:, 1:-1, 1:-1] = sum(truth[:, i : i + 62, j : j + 94].astype(float) for i, j in shifts) / 9
    low = write_video(tmp_path / "low.mkv", y, 24, codec="ffv1", pixels="bgr0", sound=sound)
    high = write_video(tmp_path / "high.mkv", blurred.astype(np.uint8), 120, codec="ffv1", pixels="bgr0", sound=sound)
    return truth, low, high


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2))


def as_video(frames):
    return torch.from_numpy(frames.copy()).float().div(255).permute(3, 0, 1, 2)[None]


def test_polish_is_one_data_step(tmp_path):
    _, low, high = pair(tmp_path)
    result = polish(high, low, tmp_path / "out", options=RestoreOptions())
    estimate, seen = VideoReader(high).frames(0, 30), VideoReader(low).frames(0, 6)
    A = Degradation()
    expected = A.data_step(as_video(estimate), as_video(seen), ALPHA * A.largest_eigenvalue())
    frames = np.stack([frame_of(tmp_path / "out", i) for i in range(30)])
    assert (as_video(frames) - expected.clamp(0, 1)).abs().max() < 0.51 / 255  # 8 bits
    assert np.mean(result.residuals) < 0.3 * float(A.residual(as_video(estimate), as_video(seen)).mean())


def frame_of(folder, i):
    from davsr.data.frames import read_image

    return read_image(folder / f"{i:08d}.png")


def test_polish_brings_the_estimate_nearer_to_the_truth(tmp_path):
    truth, low, high = pair(tmp_path, sound=True)
    polish(high, low, tmp_path / "out.mkv", options=LOSSLESS)
    told = about(tmp_path / "out.mkv")
    assert told["frames"] == 30 and told["size"] == (64, 96) and abs(told["rate"] - 120) < 0.5
    before, after = decode(high), decode(tmp_path / "out.mkv")
    assert psnr(after[:, 8:-8, 8:-8], truth[:, 8:-8, 8:-8]) > psnr(before[:, 8:-8, 8:-8], truth[:, 8:-8, 8:-8])
    assert sound_of(tmp_path / "out.mkv") == sound_of(high)


@pytest.mark.parametrize("tile", [0, 16])
def test_exposures_that_overlap_are_polished_together(tmp_path, tile):
    options = DegradationOptions(exposure=8, phase=-2)
    operator = Degradation.from_options(options)
    _, low, high = pair(tmp_path, t=14, degradation=operator)
    polish(
        high,
        low,
        tmp_path / "out",
        degradation=options,
        options=RestoreOptions(size_patch_testing=tile, size_patch_margin=6),
    )
    expected = operator.data_step(
        as_video(VideoReader(high).frames(0, 70)),
        as_video(VideoReader(low).frames(0, 14)),
        ALPHA * operator.largest_eigenvalue(),
    )
    frames = np.stack([frame_of(tmp_path / "out", i) for i in range(70)])
    difference = as_video(frames) - expected.clamp(0, 1)
    assert -10 * torch.log10(difference.square().mean()) > 50  # windows and tiles see their neighbours' end only


def test_videos_that_do_not_belong_together_are_refused(tmp_path):
    _, low, high = pair(tmp_path)
    short = write_video(tmp_path / "short.mkv", decode(high)[:-1], 120, codec="ffv1", pixels="bgr0")
    with pytest.raises(InputError, match="must have 30 frames of 96x64, 5 for each of the 6 frames of 24x16"):
        polish(short, low, tmp_path / "out.mkv")
    with pytest.raises(InputError, match="must not be the input"):
        polish(high, low, high, options=RestoreOptions(overwrite=True))
    with pytest.raises(InputError, match="alpha must be above 0"):
        polish(high, low, tmp_path / "out.mkv", alpha=0)
    assert not (tmp_path / "out.mkv").exists()
