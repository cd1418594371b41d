"""load_model: from nothing, from a checkpoint of ours, from published names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import davsr
from davsr import config
from davsr.checkpoints.files import FORMAT, save_checkpoint
from davsr.checkpoints.fit import WeightsError
from davsr.checkpoints.loading import ALONG_MOTION, SHIPPED, TRAINING_FREE, initial_model, load_model
from davsr.data.clips import open_clip
from davsr.errors import InputError
from davsr.evaluation.metrics import psnr
from davsr.models.davsr import DAVSR
from davsr.options import (
    DegradationOptions,
    EnhancementOptions,
    FlowNetOptions,
    ModelOptions,
    Options,
    RoundsOptions,
    load_options,
)
from davsr.pixels import to_uint8
from tests.golden import CASES, formula_weights, shapes

SMALL = ModelOptions(
    iterations=1,
    enhancement=EnhancementOptions(channels=8, blocks=1, groups=2, hr_channels=4, flow=FlowNetOptions(2, (8,), 3)),
)


def checkpoint(path: Path, network: DAVSR, options: object) -> Path:
    torch.save({"format": FORMAT, "model": network.state_dict(), "ema": None, "options": options}, path)
    return path


def test_training_free_needs_no_weights() -> None:
    model = davsr.load_model("training-free")
    assert model.options == davsr.load_model(model=TRAINING_FREE).options == TRAINING_FREE
    assert not model.training
    assert not list(model.parameters())
    lq = torch.rand(1, 2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    frames, stages = model(lq, return_stages=True)
    assert frames.shape == (1, 10, 3, 64, 80)
    observed = model.degradation.apply(frames.transpose(1, 2)).transpose(1, 2)
    before = model.degradation.apply(stages.x0).transpose(1, 2)
    assert (observed - lq).norm() < 0.5 * (before - lq).norm()  # the data step moves towards the data


def test_checkpoint_of_ours_brings_its_options(tmp_path: Path) -> None:
    degradation = DegradationOptions(scale=(3, 2, 2))
    network = DAVSR(SMALL, degradation)
    tree = config.to_tree(Options(degradation=degradation, model=SMALL))
    loaded = davsr.load_model(checkpoint(tmp_path / "ours.pt", network, tree))
    assert loaded.options == SMALL
    assert loaded.degradation.scale == (3, 2, 2)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(network.state_dict()), rtol=0, atol=0)
    other = davsr.load_model(tmp_path / "ours.pt", degradation=DegradationOptions(scale=(3, 2, 2), exposure=2))
    assert other.degradation.exposure == 2


def test_published_checkpoint_brings_its_conventions(tmp_path: Path) -> None:
    case = CASES["trilinear_beta"]
    torch.save(formula_weights(shapes("trilinear_beta"), case.seed), tmp_path / "published.pth")
    model = davsr.load_model(tmp_path / "published.pth")
    assert (model.degradation.boundary, model.degradation.phase) == ("circular", -2)
    assert model.options.iterations == case.iterations
    assert model.options.interpolation.method == "trilinear"


def test_what_does_not_tell_its_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no options"):
        davsr.load_model(checkpoint(tmp_path / "bare.pt", DAVSR(SMALL), None))
    with pytest.raises(InputError, match="does not exist"):
        davsr.load_model(tmp_path / "none.pt")


def test_options_name_weights_of_parts(tmp_path: Path) -> None:
    network = DAVSR(SMALL)
    assert network.enhance is not None
    torch.save(
        {"format": FORMAT, "model": network.enhance.flow.state_dict(), "ema": None, "options": {}}, tmp_path / "flow.pt"
    )
    tree = config.to_tree(SMALL)
    tree["enhancement"]["flow"]["weights"] = str(tmp_path / "flow.pt")
    started = initial_model(config.build(ModelOptions, tree))
    assert started.enhance is not None
    torch.testing.assert_close(
        dict(started.enhance.flow.state_dict()), dict(network.enhance.flow.state_dict()), rtol=0, atol=0
    )
    tree["interpolation"]["weights"] = str(tmp_path / "flow.pt")
    with pytest.raises(InputError, match=r"model\.interpolation\.weights is given, but this network has no such part"):
        initial_model(config.build(ModelOptions, tree))


def test_rounds_start_from_those_of_another_model(tmp_path: Path) -> None:
    rounds = RoundsOptions(count=2, channels=4)
    given = DAVSR(ModelOptions(iterations=1, rounds=rounds, enhancement=EnhancementOptions(kind="none")))
    assert given.rounds is not None
    for parameter in given.rounds.parameters():
        torch.nn.init.normal_(parameter)
    path = checkpoint(tmp_path / "rounds.pt", given, {})
    frames = EnhancementOptions(kind="frames", channels=4, blocks=1)
    wanted = dataclasses.replace(rounds, weights=str(path))
    started = initial_model(ModelOptions(iterations=1, rounds=wanted, enhancement=frames))
    assert started.rounds is not None
    torch.testing.assert_close(dict(started.rounds.state_dict()), dict(given.rounds.state_dict()), rtol=0, atol=0)
    with pytest.raises(WeightsError, match="12 missing: log_steps, trust"):
        initial_model(
            ModelOptions(
                rounds=dataclasses.replace(wanted, weights=str(checkpoint(tmp_path / "no.pt", DAVSR(SMALL), {})))
            )
        )


def test_a_model_knows_what_it_was_trained_for(tmp_path):
    options = load_options(None, ["data.exposures=[5, 3]", "data.sigma=[0, 0.01]", "model.rounds.count=1"])
    model = DAVSR.from_options(options)
    save_checkpoint(tmp_path / "m.pt", {"model": model.state_dict(), "ema": None, "options": config.to_tree(options)})
    trained = load_model(tmp_path / "m.pt").trained
    assert trained is not None and trained.outside(options.degradation, 0.005) == []
    other = DegradationOptions(scale=(2, 4, 4), psf="box", exposure=8)
    assert trained.outside(other, 0.1) == [
        "scale 2x4x4: the model was trained for 5x4x4",
        "psf box: the model was trained for bicubic",
        "exposure 8: the model was trained for 3 to 5",
        "sigma 0.1: the model was trained for 0 to 0.01",
    ]
    assert load_model(model=TRAINING_FREE).trained is None


def test_the_motion_options_are_the_best_without_weights():
    assert load_options(Path(__file__).parents[2] / "options/test/motion.yml").model == ALONG_MOTION
    assert load_model(model=ALONG_MOTION).learned is False


@torch.inference_mode()
def test_the_shipped_model_is_small_and_better_than_none():
    assert SHIPPED.stat().st_size < 3e6
    model, free = load_model(), load_model(model=TRAINING_FREE)
    assert model.learned and sum(p.numel() for p in model.parameters()) < 1.5e6
    assert model.trained is not None and model.trained.scale == (5, 4, 4)
    gt = open_clip(SHIPPED.with_name("sample.mp4")).frames(0, 25)[:, 96:224, 160:288]
    truth = torch.from_numpy(gt.copy()).permute(0, 3, 1, 2)
    x = truth.float().div(255).transpose(0, 1)[None]
    lq = to_uint8(model.degradation.apply(x)).float().div(255).transpose(1, 2)
    ours, theirs = (float(psnr(to_uint8(network(lq)[0]), truth)[2:-2].mean()) for network in (model, free))
    assert ours > theirs + 0.5


def test_a_file_of_the_first_format_restores_as_it_did():
    """The model that shipped first, whose rounds were options of the interpolation; the sum is what it gave then."""
    model = load_model("tests/data/davsr_tiny_version_1.pt")
    assert (model.options.rounds.count, model.options.rounds.channels) == (12, 8)
    with torch.inference_mode():
        frames = model(torch.rand(1, 3, 3, 16, 20, generator=torch.Generator().manual_seed(0)))
    assert float(frames.double().sum()) == pytest.approx(113922.12544, rel=1e-6)


def test_options_are_understood_by_their_earlier_names():
    old = load_options(None, ["model.interpolation={rounds: 3, channels: 4, weights: some.pt, resize: bicubic}"])
    assert old.model.rounds == RoundsOptions(count=3, channels=4, weights="some.pt")
    assert old.model.interpolation.weights is None
    with pytest.raises(InputError, match=r"model\.rounds\.count is given, and again"):
        load_options(None, ["model.interpolation.rounds=3", "model.rounds.count=3"])
