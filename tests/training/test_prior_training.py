"""The stages of the learned prior: still pictures, then clips whose rounds are computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from davsr.data.frames import write_image
from davsr.errors import InputError
from davsr.models.recurrent_prior import RecurrentPrior
from davsr.options import Options, load_options
from davsr.training.samples.dataset import VideoSamples
from davsr.training.samples.rounds_cache import CachedRounds
from davsr.training.samples.stills import imperfect
from davsr.training.tasks import VideoTask
from davsr.training.trainer import train


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of noise that is smooth enough to restore."""
    folder = tmp_path / "stills"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        coarse = rng.integers(0, 256, size=(24, 28, 3)).astype(np.uint8)
        write_image(folder / f"{number}.png", np.kron(coarse, np.ones((4, 4, 1), np.uint8)))
    return folder


def first_stage(pictures: Path, **changes: object) -> Options:
    options = load_options("options/train/prior_pictures.yml")
    source = replace(options.data.sources[0], path=str(pictures), candidates=2)
    data = replace(
        options.data, sources=(source,), patch=32, workers=0, validation=replace(options.data.validation, sources=())
    )
    enhancement = replace(options.model.enhancement, channels=8, blocks=1)
    learning = replace(options.train, iterations=2, batch=2, minutes=0)
    return replace(options, data=data, model=replace(options.model, enhancement=enhancement), train=learning, **changes)


def on_clips(pictures: Path, folder: Path, stage: str = "prior_clips", **changes: object) -> Options:
    """A stage on clips, small; `changes`: of options.train."""
    options = load_options(f"options/train/{stage}.yml")
    source = replace(options.data.sources[0], path=str(pictures))
    data = replace(
        options.data, sources=(source,), frames=2, patch=32, samples=2, rounds_cache=str(folder), workers=0, cache="",
        validation=replace(options.data.validation, sources=()),
    )  # fmt: skip
    small = {"channels": 8, "blocks": 1, "recurrent_blocks": 1, "fusion_channels": 6, "fusion_blocks": 1}
    model = replace(
        options.model,
        weights=None,
        rounds=replace(options.model.rounds, count=1),
        enhancement=replace(options.model.enhancement, trunk_weights=None, **small),
    )
    learning = replace(options.train, iterations=3, minutes=0, **changes)
    return replace(options, data=data, model=model, train=learning)


def test_stages_follow_one_another(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second, third = (
        first_stage(pictures),
        on_clips(pictures, tmp_path / "kept", "prior_recurrence"),
        on_clips(pictures, tmp_path / "kept"),
    )
    monkeypatch.chdir(tmp_path)
    outcome = train(first)
    assert outcome.checkpoint is not None
    enhancement = replace(second.model.enhancement, trunk_weights=str(outcome.checkpoint))
    second = replace(second, model=replace(second.model, enhancement=enhancement))
    task = VideoTask(second, torch.device("cpu"), fresh=True)
    assert isinstance(task.model.enhance, RecurrentPrior)
    taught = torch.load(outcome.checkpoint, weights_only=True)["ema"]["enhance.trunk.last.weight"]
    torch.testing.assert_close(task.model.enhance.trunk.last.weight.detach(), taught)
    assert taught.abs().sum() > 0
    outcome = train(second)
    assert outcome.checkpoint is not None
    known = torch.load(outcome.checkpoint, weights_only=True)["ema"]
    assert not known["enhance.fusion.last.weight"].any() and known["enhance.recurrence.merge.weight"].any()
    third = replace(third, model=replace(third.model, weights=str(outcome.checkpoint)))
    task = VideoTask(third, torch.device("cpu"), fresh=True)
    for name, weight in task.model.state_dict().items():
        torch.testing.assert_close(weight, known[name])
    outcome = train(third)
    assert outcome.checkpoint is not None and outcome.state.step == 3
    assert torch.load(outcome.checkpoint, weights_only=True)["ema"]["enhance.fusion.last.weight"].any()


def loss_and_gradients(options: Options) -> tuple[Tensor, dict[str, Tensor | None]]:
    torch.manual_seed(0)
    task = VideoTask(options, torch.device("cpu"), fresh=True)
    loss, _ = task.objective(*task.inputs(task.samples[0], 0))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in task.model.named_parameters()}


def test_pictures_by_themselves_teach_the_trunk(pictures: Path, tmp_path: Path):
    """At the start the fusion passes half of the detail on; a weight on pictures adds to what the trunk is told."""
    (frames, of_frames), (both, of_both), (alone, of_pictures), (twice, _) = (
        loss_and_gradients(on_clips(pictures, tmp_path / "kept", frames_weight=weight, pictures_weight=more))
        for weight, more in ((1.0, 0.0), (1.0, 2.0), (0.0, 1.0), (3.0, 2.0))
    )
    torch.testing.assert_close(both, frames + 2 * alone)
    torch.testing.assert_close(twice, 3 * frames + 2 * alone)
    trunk, fusion = "enhance.trunk.last.weight", "enhance.fusion.last.weight"
    torch.testing.assert_close(of_both[trunk], of_frames[trunk] + 2 * of_pictures[trunk])
    assert of_frames[fusion] is not None and of_pictures[fusion] is None


@pytest.mark.parametrize(
    "weight,kind,says",
    [
        (0.0, "recurrent", "train.frames_weight and train.pictures_weight are both 0"),
        (1.0, "frames", "train.frames_weight: 0 needs model.enhancement.kind recurrent"),
    ],
)
def test_pictures_alone_need_what_makes_them(pictures: Path, tmp_path: Path, weight: float, kind: str, says: str):
    options = on_clips(pictures, tmp_path / "kept", "prior_recurrence", pictures_weight=weight)
    enhancement = replace(options.model.enhancement, kind=kind)
    with pytest.raises(InputError, match=f"^{says}"):
        VideoTask(replace(options, model=replace(options.model, enhancement=enhancement)), torch.device("cpu"), True)


def test_rounds_are_computed_once(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = on_clips(pictures, tmp_path / "kept")
    samples = CachedRounds(options)
    first = [samples[index] for index in range(2)]
    monkeypatch.setattr(CachedRounds, "_compute", lambda *_: pytest.fail("computed again"))
    again = CachedRounds(options)
    for index in (0, 1, 2, 5):
        kept, known = again[index], first[index % 2]
        assert torch.equal(kept["gt"], known["gt"]) and kept["index"] == [index]
        assert torch.equal(kept["before"][0]["x_0"], known["before"][0]["x_0"])


def test_what_is_kept_is_what_the_model_would_compute(pictures: Path, tmp_path: Path):
    task = VideoTask(on_clips(pictures, tmp_path / "kept"), torch.device("cpu"), fresh=True)
    lq, gt, sigma, A, before = task.inputs(task.samples[3], 3)
    assert before is not None
    with torch.no_grad():
        kept, computed = (task.model(lq, sigma, degradation=A, start=s) for s in (before, None))
    # x_0 is kept in 8 bits, a quarter of a level off on average; motion in half precision
    assert (kept - computed).abs().mean() < 0.3 / 255
    assert gt.shape == kept.shape


def test_what_cannot_be_kept_is_refused(pictures: Path, tmp_path: Path):
    options = on_clips(pictures, tmp_path)
    for data, model, sentence in (
        ({"samples": 0}, {}, "data.samples: must be a multiple"),
        ({}, {"rounds": replace(options.model.rounds, count=0)}, "there are no rounds to keep"),
    ):
        with pytest.raises(InputError, match=sentence):
            CachedRounds(replace(options, data=replace(options.data, **data), model=replace(options.model, **model)))


def test_stills_are_crops_of_the_pictures_and_need_clips_of_one_frame(pictures: Path):
    options = first_stage(pictures)
    options = replace(options, data=replace(options.data, imperfect=0.0))
    samples = VideoSamples(options)
    assert samples[0]["gt"].shape == (1, 1, 3, 32, 32)
    assert torch.equal(samples[7]["gt"], samples[7]["gt"]) and not torch.equal(samples[7]["gt"], samples[8]["gt"])
    with pytest.raises(InputError, match=r"data\.sources\[0\]\.kind: stills are for data\.frames 1"):
        VideoSamples(replace(options, data=replace(options.data, frames=2)))


def test_imperfect_truths_are_worse_and_the_same_for_all_frames():
    frame = np.random.default_rng(0).integers(0, 256, size=(32, 32, 3)).astype(np.uint8)
    frames = np.stack([frame, frame])
    changed = [imperfect(frames, np.random.default_rng(seed)) for seed in range(30)]
    assert all(c.shape == frames.shape and c.dtype == np.uint8 for c in changed)
    same = [np.array_equal(c, frames) for c in changed]
    assert 5 < sum(same) < 25  # 0.7 * 0.8 * 0.7 = 0.39 of them stay as they are
