"""The degradation between two clips is measured: a wrong phase, PSF, pairing or position is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from davsr.cli import main
from davsr.config import to_tree
from davsr.data.clips import Clip, open_clip
from davsr.files import write_png
from davsr.options import DegradationOptions
from davsr.physics.degradation import Degradation
from davsr.prepare.degrade import degrade_clips
from davsr.prepare.verify import Measurement, measure

SAMPLE = Path(__file__).parents[2] / "davsr" / "assets" / "sample.mp4"
ROUNDING = 12**-0.5  # root mean square of rounding to 8 bits, levels


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """25 frames of a real moving clip, 160x128."""
    folder = tmp_path_factory.mktemp("gt")
    for i, frame in enumerate(open_clip(SAMPLE).crop(range(10, 35), 80, 150, 128, 160)):
        write_png(folder / f"{i:08d}.png", frame)
    return open_clip(folder)


def degraded(gt: Clip, folder: Path, options: DegradationOptions) -> Clip:
    degrade_clips([gt], folder, Degradation.from_options(options), to_tree(options), nested=False)
    return open_clip(folder)


def found(gt: Clip, folder: Path, made: DegradationOptions, expected: DegradationOptions) -> Measurement:
    return measure(degraded(gt, folder, made), gt, expected)


STANDARD = DegradationOptions()


@pytest.mark.parametrize(
    "made,fault",
    [
        (STANDARD, ""),
        (DegradationOptions(phase=1), "phase is 1 instead of 0"),
        (DegradationOptions(phase=-1), "phase is -1 instead of 0"),
        (DegradationOptions(psf="box"), "PSF is box instead of bicubic"),
        (DegradationOptions(psf="gaussian"), "PSF is gaussian 1.6 instead of bicubic"),
        (DegradationOptions(psf="delta"), "PSF is delta instead of bicubic"),
        (DegradationOptions(exposure=4, phase=1), "phase is 1 instead of 0, exposure is 4 instead of 5"),
        (DegradationOptions(scale=(1, 4, 4), phase=-1), "phase is -1 instead of 0"),
        (DegradationOptions(scale=(5, 1, 1), phase=2), "phase is 2 instead of 0"),
    ],
)
def test_what_made_a_pair_is_measured(gt: Clip, tmp_path: Path, made: DegradationOptions, fault: str) -> None:
    result = found(gt, tmp_path / "lq", made, DegradationOptions(scale=made.scale))
    assert result.fault == fault
    assert result.best.phase == made.phase
    assert 0 < result.best_residual < 1.1 * ROUNDING  # less where a mean of 5 equal frames needs no rounding
    assert measure(open_clip(tmp_path / "lq"), gt, made).fault == ""


def test_a_kernel_of_the_users_is_a_candidate(gt: Clip, tmp_path: Path) -> None:
    kernel = np.outer(*[np.hanning(11)[1:-1]] * 2)
    np.save(tmp_path / "psf.npy", kernel / kernel.sum())
    made = DegradationOptions(psf=str(tmp_path / "psf.npy"))
    assert found(gt, tmp_path / "lq", made, made).fault == ""
    assert measure(open_clip(tmp_path / "lq"), gt, STANDARD).fault != ""


def test_another_scene_and_a_moved_one_are_told(gt: Clip, tmp_path: Path) -> None:
    lq = degraded(gt, tmp_path / "lq", STANDARD)
    (tmp_path / "other").mkdir()
    (tmp_path / "moved").mkdir()
    for i, frame in enumerate(lq.frames(0, len(lq))):
        write_png(tmp_path / "other" / f"{i}.png", frame[::-1, ::-1])
        half = np.array([[1, 0, 0.5], [0, 1, -0.25]])  # LR pixels
        write_png(tmp_path / "moved" / f"{i}.png", cv2.warpAffine(frame, half, (40, 32), borderMode=cv2.BORDER_REFLECT))
    assert "do not show the same" in measure(open_clip(tmp_path / "other"), gt, STANDARD).fault
    moved = measure(open_clip(tmp_path / "moved"), gt, STANDARD)
    assert moved.fault
    assert moved.shift == pytest.approx((0.5, -0.25), abs=0.15)  # measured (0.50, -0.24); first order, and it blurs


def test_a_still_clip_leaves_the_phase_open(gt: Clip, tmp_path: Path) -> None:
    (tmp_path / "still").mkdir()
    for i in range(20):
        write_png(tmp_path / "still" / f"{i}.png", gt.frames(0, 1)[0])
    still = open_clip(tmp_path / "still")
    result = found(still, tmp_path / "lq", DegradationOptions(phase=2), STANDARD)
    assert result.fault == ""
    assert result.ties >= 100  # every phase and exposure


def test_the_command_reports_and_refuses(gt: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, phase in (("a", 0), ("b", 1)):
        (tmp_path / "gt").mkdir(exist_ok=True)
        (tmp_path / "gt" / name).symlink_to(gt.path)
        (tmp_path / "lq").mkdir(exist_ok=True)
        degraded(gt, tmp_path / "lq" / name, DegradationOptions(phase=phase))
    command = ["prepare", "verify", "--input", str(tmp_path / "lq"), "--truth", str(tmp_path / "gt"), "--samples", "1"]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert "phase 1, exposure 5, PSF bicubic" in printed.out
    assert "1 of 2 pairs" in printed.err and "clip b: phase is 1 instead of 0" in printed.err
    assert main([*command[:3], str(tmp_path / "lq" / "a"), "--truth", str(gt.path)]) == 0
    assert "all 1 pairs fit: phase 0, exposure 5, PSF bicubic" in capsys.readouterr().out
    (tmp_path / "lq" / "b" / "00000004.png").unlink()
    assert main(command) == 2
    assert "must have 20 frames of 160x128 for the 4 of 40x32" in capsys.readouterr().err
    assert main([*command[:3], str(gt.path), "--truth", str(gt.path)]) == 2
    assert "must have 125 frames of 640x512" in capsys.readouterr().err
