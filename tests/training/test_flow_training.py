"""Pretraining of the flow network on synthetic motion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from davsr.checkpoints.files import load_checkpoint
from davsr.checkpoints.loading import SHIPPED, initial_model, load_model
from davsr.models.warp import warp
from davsr.options import ModelOptions, Options, load_options
from davsr.training.trainer import train
from davsr.training.validation import known_shifts
from tests.runs import moving_frames, options, write_clip, write_photos


def flow_options(tmp_path: Path, **changes: object) -> Options:
    photos = write_photos(tmp_path / "photos", 3, cell=16)
    clip = write_clip(tmp_path / "real", moving_frames(3, 64, 64))
    return options(
        train__task="flow",
        data__sources=[{"kind": "synthetic", "path": str(photos), "speed": [0.5, 3.0], "layers": 0}],
        data__flow_motion=4,
        data__patch=32,
        data__frames=8,
        data__validation={"sources": [{"kind": "frames", "path": str(clip)}], "every": 1000},
        model__enhancement__flow={"levels": 2, "channels": [32, 16], "kernel": 5},
        **changes,
    )


def test_motion_is_learned_and_serves_the_whole_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    o = flow_options(tmp_path, train__iterations=200, train__batch=8, train__rate=2e-3, train__log_every=50)
    train(o)
    lines = [json.loads(line) for line in Path("experiments/run/metrics.jsonl").read_text().splitlines()]
    start, end = [line for line in lines if "epe" in line]
    assert end["epe"] < 0.88 * start["epe"]
    assert end["epe_visible"] <= end["epe"] and end["epe_shift"] < start["epe_shift"]
    best = Path("experiments/run/checkpoints/best.pt")
    flow = {"levels": 2, "channels": [32, 16], "kernel": 5, "weights": str(best)}
    model = initial_model(options(model__enhancement__flow=flow).model)
    torch.testing.assert_close(dict(model.enhance.flow.state_dict()), load_checkpoint(best)["ema"])


def test_known_shifts_are_what_they_say(tmp_path):
    shifts = known_shifts(flow_options(tmp_path))
    assert len(shifts) == 3
    for reference, support, flow in shifts:
        field = flow.view(1, 2, 1, 1).expand(1, 2, 32, 32)
        warped = warp(support.float(), field)
        torch.testing.assert_close(warped[..., 8:-8, 8:-8], reference.float()[..., 8:-8, 8:-8])


def test_the_committed_options_belong_together():
    folder = Path(__file__).parents[2] / "options" / "train"
    names = (
        "flow_tiny",
        "rve_tiny",
        "davsr_tiny",
        "davsr_tiny_film",
        "davsr_tiny_frames",
        "finetune",
        "prior_pictures",
        "prior_clips",
        "prior_recurrence",
    )
    flow, rve, tiny, film, frames, finetune, pictures, clips, recurrence = (
        load_options(folder / f"{name}.yml") for name in names
    )
    assert flow.train.task == "flow" and {o.train.task for o in (rve, tiny, film)} == {"video"}
    assert rve.model.enhancement.flow == flow.model.enhancement.flow
    assert film.model == tiny.model
    rounds = replace(frames.model.rounds, weights=None)
    assert rounds == film.model.rounds
    prior = clips.model.enhancement
    shipped = replace(clips.model, weights=None)
    assert replace(recurrence.model, enhancement=replace(recurrence.model.enhancement, trunk_weights=None)) == shipped
    assert replace(finetune.model, weights=None) == shipped == load_model(SHIPPED).options
    trunk = pictures.model.enhancement
    assert (trunk.channels, trunk.blocks) == (prior.channels, prior.blocks)
    assert load_options(folder / "davsr_reds.yml").model == ModelOptions()
