"""Windows and tiles against the whole clip: how far they are apart, and that no seam is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.overlap import compare, seam_gradient
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.cli import main
from davsr.data.clips import open_clip
from davsr.evaluation.pairs import SAMPLE
from davsr.options import EnhancementOptions, FlowNetOptions, ModelOptions
from davsr.restoration.cutting import Plan
from davsr.restoration.planning import default_margin, default_overlap
from davsr.restoration.windows import model_restorer, restore_clip
from tests.videos import about, decode, pattern, sound_of, write_video


def texture(t, side):
    """Moving noise of the finest grain that LR frames hold, everywhere alike: a seam has nothing to hide in."""
    rng = np.random.default_rng(0)
    still = rng.uniform(0.2, 0.8, (side, side + 2 * t, 3)).astype(np.float32)
    frames = np.stack([still[:, 2 * j : 2 * j + side] for j in range(t)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()[None]


@pytest.fixture(scope="module", params=["training-free", "network"])
def model(request):
    torch.manual_seed(0)
    if request.param == "training-free":
        return load_model(model=TRAINING_FREE)
    small = EnhancementOptions(
        channels=8, blocks=1, feature_blocks=1, reconstruction_blocks=1, hr_channels=8, groups=2,
        flow=FlowNetOptions(levels=2, channels=(8,), kernel=3),
    )  # fmt: skip
    network = load_model(model=ModelOptions(iterations=1, enhancement=small))
    with torch.no_grad():  # training starts near the identity, where nothing could be seen
        network.enhance.conv_last.weight.mul_(10)
    return network


def test_tiles_come_near_the_whole_frame_and_leave_no_seam(model):
    lq = texture(2, 80)
    margin = default_margin(model)
    scale, step = model.degradation.scale, model_restorer(model)
    tile = (80 + 2 * margin) // 2
    whole, tiled = (restore_clip(step, lq, scale, plan) for plan in (Plan(), Plan(0, 0, tile, margin)))
    assert compare(tiled, whole)[0] > 50
    assert seam_gradient(tiled, 80, tile, margin, 4) < 1.05 * seam_gradient(whole, 80, tile, margin, 4)
    bare = restore_clip(step, lq, scale, Plan(0, 0, 40, 0))
    assert seam_gradient(bare, 80, 40, 0, 4) > 1.02 * seam_gradient(whole, 80, 40, 0, 4), "the measure sees a seam"


def test_windows_come_near_the_whole_clip(model):
    lq = texture(9, 24)
    overlap = default_overlap(model.degradation_options, model)
    scale, step = model.degradation.scale, model_restorer(model)
    whole, parts = (restore_clip(step, lq, scale, plan) for plan in (Plan(), Plan(6, overlap)))
    assert compare(parts, whole)[0] > 50


def test_windows_of_the_shipped_model_come_near_the_whole_clip():
    """On what is real: rounds go by the motion, and grain at random has one that every window finds differently."""
    frames = open_clip(SAMPLE).frames(0, 45)[:, 32:224, 80:272]
    model = load_model()
    x = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 255
    lq = model.degradation.apply(x).transpose(1, 2)
    whole, parts = (
        restore_clip(model_restorer(model), lq, model.degradation.scale, plan) for plan in (Plan(), Plan(6, 4))
    )
    assert compare(parts, whole)[0] > 50


def test_the_command_restores_and_polishes(tmp_path, capsys):
    source = write_video(tmp_path / "in.mp4", pattern(4), 25, sound=True)
    fast = ["--model", "training-free", "--preset", "ultrafast", "--device", "cpu"]
    assert main(["restore", str(source), str(tmp_path / "out.mp4"), *fast, "--exposure", "2.5", "--sigma", "0.01"]) == 0
    told = capsys.readouterr().out
    assert "exposure 2.5 of 5" in told and "sigma 0.01" in told and "||y - A x||" in told
    assert (tmp_path / "out.mp4.log").read_text().count("LR frames 0..3") == 1
    assert about(tmp_path / "out.mp4")["frames"] == 20 and sound_of(tmp_path / "out.mp4") == sound_of(source)

    polish = ["polish", str(tmp_path / "out.mp4"), "--input", str(source), "--preset", "ultrafast", "--exposure", "2.5"]
    assert main([*polish, "--device", "cpu"]) == 0
    assert decode(tmp_path / "out-polished.mp4").shape == decode(tmp_path / "out.mp4").shape

    assert main(["restore", str(source), str(tmp_path / "out.mp4"), *fast]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["restore", str(tmp_path / "absent.mp4"), str(tmp_path / "x.mp4"), *fast]) == 2
    assert "does not exist" in capsys.readouterr().err
