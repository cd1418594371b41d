"""The whole way from clips to scores, pictures and tables, and what happens to wrong input."""

from __future__ import annotations

import csv
import json
import math
import sys
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.data.clips import open_clip
from davsr.data.frames import read_image
from davsr.errors import InputError
from davsr.evaluation.clip_folder import picture_frames
from davsr.evaluation.metrics import psnr, ssim
from davsr.evaluation.pairs import open_scored_pairs
from davsr.evaluation.scoring import Residual
from davsr.evaluation.tables import BASELINE, ClipResult, StageScores, aligned, clip_rows
from davsr.evaluation.tester import evaluate
from davsr.models.interpolation import Interpolation
from davsr.options import InterpolationOptions
from davsr.physics.degradation import Degradation
from davsr.pixels import as_tensor
from tests.evaluation.sets import options, scores


def test_given_pairs_score_as_the_same_clips_degraded_on_the_fly(data: Path, tmp_path: Path) -> None:
    for name, given in {"pairs": [f"test.input={data}/lq"], "fly": []}.items():
        evaluate(options(f"name={name}", f"test.truth={data}/gt", "test.save=none", *given), tmp_path)
    pairs, fly = scores(tmp_path / "pairs"), scores(tmp_path / "fly")
    assert list(pairs) == ["a", "b"]
    for name in pairs:
        assert pairs[name]["stages"] == fly[name]["stages"]


def test_scores_are_those_of_the_written_frames(data: Path, tmp_path: Path) -> None:
    evaluate(options("name=run", f"test.truth={data}/gt/a", "test.pictures=2"), tmp_path)
    folder = tmp_path / "run" / "a"
    truth = as_tensor(open_clip(data / "gt" / "a").frames(0, 20))
    written = as_tensor(open_clip(folder / "frames").frames(0, 20))
    stage = scores(tmp_path / "run")["a"]["stages"]["z_1"]
    assert stage["psnr_per_frame"] == pytest.approx(psnr(written, truth).tolist())
    assert stage["psnr"] == pytest.approx(psnr(written, truth)[2:-2].mean().item())
    assert stage["ssim"] == pytest.approx(ssim(written, truth)[2:-2].mean().item())

    video = open_clip(folder / "restored.mp4")
    assert (len(video), video.size, video.rate) == (20, (64, 80), 24 * 5)
    luma = [frames.float().mean(dim=1) for frames in (as_tensor(video.frames(0, 20)), written)]
    error = (luma[0] - luma[1]).square().mean().sqrt()
    assert error < 8  # levels; a texture of saturated colours, whose chroma video halves (seen: 4.7)
    nearest = (luma[0][5:15, None] - luma[1][None, 5:15]).square().mean(dim=(2, 3)).argmin(dim=1)
    assert nearest.tolist() == list(range(10))
    assert len(list(folder.glob("comparison_*.png"))) == 2
    assert [p.name for p in tmp_path.rglob("*.partial*")] == []


def test_tables_agree(data: Path, tmp_path: Path) -> None:
    results = evaluate(options("name=run", f"test.truth={data}/gt", "test.save=none", "test.pictures=0"), tmp_path)
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    average = summary["average"]["z_1"]["psnr"]
    assert average == pytest.approx(np.mean([r.mean("z_1", "psnr") for r in results]))
    assert f"{average:.2f}" in aligned(clip_rows(results, "ours")).splitlines()[-1]
    assert "8 bits" in summary["protocol"]
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["clip"], r["stage"]) for r in rows] == [(c, s) for c in "ab" for s in (BASELINE, "x_0", "z_1", "truth")]
    with (tmp_path / "run" / "frames.csv").open() as file:
        frames = [float(r["psnr"]) for r in csv.DictReader(file) if (r["clip"], r["stage"]) == ("b", "x_0")]
    assert frames == pytest.approx(results[1].stages["x_0"].psnr, rel=1e-5)


def test_baseline_is_that_of_the_whole_clip_whatever_the_windows(data: Path, tmp_path: Path) -> None:
    lq = as_tensor(open_clip(data / "lq" / "a").frames(0, 4)).float() / 255
    direct = Interpolation(InterpolationOptions(method="linear"))(lq[None], Degradation())[0].transpose(0, 1)
    truth = as_tensor(open_clip(data / "gt" / "a").frames(0, 20))
    expected = psnr(direct.clamp(0, 1).mul(255).round().byte(), truth).tolist()
    for window in (1, 2, 0):
        name = f"name=w{window}"
        evaluate(
            options(name, f"test.truth={data}/gt/a", "test.save=none", f"test.num_frame_testing={window}"), tmp_path
        )
        assert scores(tmp_path / f"w{window}")["a"]["stages"][BASELINE]["psnr_per_frame"] == pytest.approx(expected)


def test_stages_match_the_model(data: Path, tmp_path: Path) -> None:
    """Windows of the whole clip: every stage is the model's, each with its own residual."""
    evaluate(options("name=run", f"test.truth={data}/gt/a", "test.save=none", "test.num_frame_testing=0"), tmp_path)
    stages = scores(tmp_path / "run")["a"]["stages"]
    lq = as_tensor(open_clip(data / "lq" / "a").frames(0, 4)).float()[None] / 255
    model = load_model(model=TRAINING_FREE)
    _, made = model(lq, return_stages=True)
    truth = as_tensor(open_clip(data / "gt" / "a").frames(0, 20))
    for name in ("x_0", "z_1"):
        video = made.named()[name].clamp(0, 1)
        shown = video[0].transpose(0, 1).mul(255).round().byte()
        # 0.01 dB: windows keep frames in 16 bits, which moves a few values across a rounding edge (seen: 0.001)
        assert stages[name]["psnr_per_frame"] == pytest.approx(psnr(shown, truth).tolist(), abs=0.01)
        residual = model.degradation.residual(video, lq.transpose(1, 2))[0]
        assert stages[name]["residual_per_frame"] == pytest.approx(residual.tolist(), rel=1e-3)
    assert stages["z_1"]["psnr"] > stages["x_0"]["psnr"]
    assert stages["z_1"]["residual"] < 0.5 * stages["x_0"]["residual"]


@pytest.mark.parametrize(("exposure", "phase"), [(5, 0), (7.5, 0), (13, -4), (2, 3)])
def test_residual_of_stretches_is_that_of_the_whole(data: Path, exposure: float, phase: int) -> None:
    degradation = Degradation(exposure=exposure, phase=phase)
    lq = open_clip(data / "lq" / "a")
    x = as_tensor(open_clip(data / "gt" / "a").frames(0, 20)).float() / 255
    expected = degradation.residual(
        x.transpose(0, 1)[None], as_tensor(lq.frames(0, 4)).transpose(0, 1)[None].float() / 255
    )
    residual = Residual(degradation, lq, torch.device("cpu"))
    values = [v for start in range(0, 20, 5) for v in residual.push(x[start : start + 5])] + residual.finish()
    assert values == pytest.approx(expected[0].tolist(), rel=1e-4, abs=1e-7)


def test_without_truth_there_are_frames_and_residuals_but_no_scores(data: Path, tmp_path: Path) -> None:
    (result,) = evaluate(
        options("name=run", f"test.input={data}/lq/b", "test.save=frames", "test.pictures=1"), tmp_path
    )
    assert not result.measured and math.isnan(result.mean("z_1", "psnr"))
    assert len(result.stages["z_1"].residual) == 2
    assert len(list((tmp_path / "run" / "b" / "frames").glob("*.png"))) == 10
    assert scores(tmp_path / "run")["b"]["stages"]["z_1"]["psnr"] is None


def test_preview_is_the_clip_of_those_frames(data: Path, tmp_path: Path) -> None:
    (result,) = evaluate(
        options("name=run", f"test.truth={data}/gt/a", "test.frames=1:3", "test.save=frames"), tmp_path
    )
    assert result.lr == (2, 16, 20) and len(result.stages["z_1"].psnr) == 10
    assert len(list((tmp_path / "run" / "a" / "frames").iterdir())) == 10


def test_a_single_lr_frame_and_a_tiled_window_work(data: Path, tmp_path: Path) -> None:
    tiles = ["test.size_patch_testing=12", "test.size_patch_margin=4"]
    evaluate(options("name=one", f"test.truth={data}/gt/a", "test.frames=0:1", "test.save=none"), tmp_path)
    evaluate(options("name=tiles", f"test.truth={data}/gt/a", "test.save=none", *tiles), tmp_path)
    evaluate(options("name=whole", f"test.truth={data}/gt/a", "test.save=none"), tmp_path)
    tiled, whole = (scores(tmp_path / n)["a"]["stages"]["z_1"]["psnr"] for n in ("tiles", "whole"))
    assert tiled == pytest.approx(whole, abs=1.0)  # dB, on 16x20 pixels with 4 of context (seen: 0.3)


def test_crop_takes_what_the_scale_divides(data: Path) -> None:
    wanted = options(f"test.truth={data}/odd", "test.crop=true").test
    (pair,) = open_scored_pairs(wanted, Degradation(), 0)
    assert pair.truth is not None
    assert (len(pair.truth), pair.truth.size, len(pair.lq), pair.lq.size) == (10, (64, 80), 2, (16, 20))


def test_pictures_show_the_frames_between_exposures() -> None:
    assert picture_frames(45, 3, Degradation()) == {9, 24, 39}
    assert picture_frames(2, 5, Degradation(scale=(1, 4, 4))) <= {0, 1}
    assert picture_frames(10, 0, Degradation()) == set()


def test_equal_frames_are_infinitely_good_in_valid_json(tmp_path: Path) -> None:
    result = ClipResult("x", (1, 4, 4), (5, 16, 16), 0.0, 0, {BASELINE: StageScores([math.inf], [1.0], [0.0])})
    from davsr.evaluation.tables import write_tables

    write_tables(tmp_path, [result], {})
    text = (tmp_path / "metrics.json").read_text()
    assert "Infinity" not in text and json.loads(text)["average"][BASELINE]["psnr"] == "inf"


def test_sample_gains_half_a_decibel_by_mathematics_alone(tmp_path: Path) -> None:
    (result,) = evaluate(
        options("test.frames=3:6", "test.save=none", "test.pictures=1", "test.temporal=false"), tmp_path
    )
    assert result.mean("z_1", "psnr") > result.mean(BASELINE, "psnr") + 0.5
    (picture,) = tmp_path.rglob("comparison_*.png")
    assert read_image(picture).shape[1] > 1000


def test_rate_option_sets_the_rate_of_frames_without_time(data: Path, tmp_path: Path) -> None:
    evaluate(options("name=run", f"test.truth={data}/gt/b", "test.rate=23.976023976", "test.save=video"), tmp_path)
    assert open_clip(tmp_path / "run" / "b" / "restored.mp4").rate == Fraction(24000, 1001) * 5


def test_lpips_is_asked_only_for_baseline_and_output(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distance(torch.nn.Module):
        """Stands in for the package, whose weights are not to be had everywhere: the mean absolute difference."""

        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape == b.shape == (1, 3, 64, 80) and a.min() >= -1 and a.max() <= 1
            return (a - b).abs().mean()

    changes = ["name=run", f"test.truth={data}/gt/b", "test.lpips=alex", "test.save=frames"]
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=Distance))
    (result,) = evaluate(options(*changes), tmp_path)
    restored = as_tensor(open_clip(tmp_path / "run" / "b" / "frames").frames(0, 10)).float()
    truth = as_tensor(open_clip(data / "gt" / "b").frames(0, 10)).float()
    assert result.stages["z_1"].lpips == pytest.approx(
        ((restored - truth) / 127.5).abs().mean(dim=(1, 2, 3)).tolist(), rel=1e-4
    )
    assert [name for name, s in result.stages.items() if s.lpips] == [BASELINE, "z_1"]

    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(InputError, match=r"test.lpips alex needs the package lpips"):
        evaluate(options(*changes), tmp_path)
