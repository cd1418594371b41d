"""The training loop: what a step does, what it refuses, and that a run can be cut anywhere."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import cv2
import pytest
import torch

from davsr.checkpoints.files import load_checkpoint
from davsr.checkpoints.loading import load_model
from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.options import Options
from davsr.training import trainer
from davsr.training.losses import VideoObjective, charbonnier
from davsr.training.record import Record
from davsr.training.tasks import VideoTask
from davsr.training.trainer import TrainingError, train
from tests.runs import moving_frames, options, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("data") / "clip", moving_frames(12)))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def small(clip: str, **changes: object) -> Options:
    return options(data__sources=[{"kind": "frames", "path": clip}], **changes)


def newest(name: str = "run") -> dict:
    files = sorted(Path("experiments", name, "checkpoints").glob("step_*.pt"))
    return load_checkpoint(files[-1])


def assert_same(a: dict, b: dict) -> None:
    """Two checkpoints hold the same bits."""
    assert a.keys() == b.keys()
    for key in a.keys() - {"options"}:  # those hold the name of the run
        if isinstance(a[key], dict):
            assert_same(a[key], b[key])
        elif isinstance(a[key], torch.Tensor):
            assert torch.equal(a[key], b[key]), key
        else:
            assert a[key] == b[key], key


def metrics(name: str = "run") -> list[dict]:
    return [json.loads(line) for line in Path("experiments", name, "metrics.jsonl").read_text().splitlines()]


# -- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_everything_behind(tmp_path):
    clip = str(write_clip(tmp_path / "clip", moving_frames(4, 32, 32, speed=0.5)))  # a single sample, again and again
    validation = {"sources": [{"kind": "frames", "path": clip}], "frames": 2, "every": 10}
    run = {"train__iterations": 30, "train__checkpoint_every": 10, "train__rate": 3e-3, "data__flips": False}
    outcome = train(small(clip, data__validation=validation, **run))
    assert outcome.state.step == outcome.state.updates == 30
    folder = Path("experiments/run")
    assert [f.name for f in sorted((folder / "checkpoints").iterdir())] == [
        "best.pt",
        *(f"step_00000{n}.pt" for n in (10, 20, 30)),
    ]
    records = metrics()
    losses = [r["loss"] for r in records if "loss" in r]
    assert len(losses) == 30 and losses[-1] < 0.95 * losses[0]
    scores = {r["step"]: r["psnr"] for r in records if "psnr" in r}
    assert list(scores) == [0, 10, 20, 30] and scores[30] > scores[0]
    validation_losses = {r["step"]: r["validation_loss"] for r in records if "validation_loss" in r}
    assert list(validation_losses) == [0, 10, 20, 30] and validation_losses[30] < validation_losses[0]
    logged = next(r for r in records if r.get("step") == 30 and "loss" in r)
    assert {
        "rate",
        "grad_norm",
        "alpha_1",
        "alpha_2",
        "beta_1",
        "beta_2",
        "offset",
        "step_seconds",
        "wait_seconds",
    } <= logged.keys()
    assert logged["offset"] > 0 and 0 < logged["alpha_1"] < 1
    for picture in ("curves.png", "validation/0000030/clip-s1-0000.png"):
        assert cv2.imread(str(folder / picture)) is not None
    text = (folder / "log.txt").read_text()
    assert "step 30/30: loss" in text and "validation: " in text and "windows by stride" in text
    best = load_model(folder / "checkpoints" / "best.pt")  # what test.py does with it
    assert best(torch.rand(1, 2, 3, 8, 8)).shape == (1, 4, 3, 32, 32)
    assert "optimizer" not in load_checkpoint(folder / "checkpoints" / "best.pt")
    averaged = load_checkpoint(folder / "checkpoints" / "best.pt")["ema"]
    torch.testing.assert_close(best.state_dict(), averaged)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_and_two_steps_equal_four(clip, precision):
    run = {"precision": precision, "train__clip_norm": 0.5, "data__sigma": [0, 0.05], "data__exposures": [1, 2]}
    train(small(clip, name="whole", **run))
    stopped = small(clip, name="parts", **run)
    train_steps(stopped, 2)
    train(stopped, auto_resume=True)
    assert_same(newest("whole"), newest("parts"))
    assert [r["loss"] for r in metrics("whole")] == [r["loss"] for r in metrics("parts")]


def train_steps(o: Options, steps: int) -> None:
    """Train as if SIGTERM came in step `steps`: saved and left, of a longer run."""
    done = trainer.Trainer._step

    def step(self: trainer.Trainer, *args: object) -> bool:
        stop = done(self, *args)
        if self.state.step == steps:
            self.stop.signal = signal.SIGTERM
            return True
        return stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "_step", step)
        outcome = train(o)
    assert outcome.signal == signal.SIGTERM and outcome.state.step == steps


def test_a_run_goes_on_from_whatever_was_saved_last(clip):
    """As after kill -9: log and metrics are ahead of the checkpoint, a half written file lies about."""
    train(small(clip, name="whole", train__iterations=5))
    o = small(clip, name="parts", train__iterations=5)
    train_steps(o, 2)
    folder = Path("experiments/parts")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    (folder / "checkpoints" / "step_0000004.pt.tmp").write_bytes(b"half")
    train(o, auto_resume=True)
    assert_same(newest("whole"), newest("parts"))
    assert [r["step"] for r in metrics("parts")] == [1, 2, 3, 4, 5]


def test_a_run_is_not_overwritten(clip):
    train(small(clip, train__iterations=1))
    with pytest.raises(InputError, match=r"holds a run already \(step_0000001.pt\); use --auto-resume"):
        train(small(clip, train__iterations=1))
    with pytest.raises(InputError, match=r"step_0000001.pt: does not fit model options"):
        train(small(clip, model__enhancement__channels=12), auto_resume=True)
    assert train(small(clip, train__iterations=1), auto_resume=True).state.step == 1


def test_time_limits_cut_a_run_into_slices(clip):
    train(small(clip, name="whole"))
    o = small(clip, name="parts", train__minutes=1e-9)
    for steps in (1, 2, 3, 4):
        assert train(o, auto_resume=True).state.step == steps
    whole, parts = newest("whole"), newest("parts")
    assert_same(
        {k: whole[k] for k in ("model", "ema", "optimizer")}, {k: parts[k] for k in ("model", "ema", "optimizer")}
    )


# -- steps ---------------------------------------------------------------------------------------------------------


def test_parts_of_a_batch_make_the_same_step(clip):
    train(small(clip, name="whole", train__batch=4, train__iterations=2))
    train(small(clip, name="parts", train__batch=4, train__iterations=2, train__accumulate=4))
    whole, parts = newest("whole"), newest("parts")
    for name, weight in whole["model"].items():
        torch.testing.assert_close(
            parts["model"][name], weight, atol=2e-5, rtol=1e-4
        )  # Adam's first steps magnify rounding
    with pytest.raises(InputError, match=r"train.batch: must be a multiple of 1 \(processes\) \* 3 .* got 4"):
        train(small(clip, name="odd", train__batch=4, train__accumulate=3))


def test_a_frozen_flow_network_stays_and_then_learns(clip):
    o = small(clip, train__flow_frozen=2, train__iterations=3, train__checkpoint_every=1, train__checkpoints_kept=9)
    torch.manual_seed(o.seed)
    start = {k: v.clone() for k, v in DAVSR.from_options(o).state_dict().items()}
    train(o)
    folder = Path("experiments/run/checkpoints")
    for step, frozen in ((2, True), (3, False)):
        weights = load_checkpoint(folder / f"step_{step:07d}.pt")["model"]
        same = [torch.equal(weights[k], start[k]) for k in start if ".flow." in k and k.endswith("weight")]
        assert all(same) if frozen else not any(same)
        assert not torch.equal(weights["enhance.conv_last.weight"], start["enhance.conv_last.weight"])


def test_an_interpolation_that_is_frozen_does_not_learn(clip):
    changes = {
        "model__interpolation": {"method": "flow"},
        "model__rounds": {"count": 1, "channels": 4},
        "model__enhancement": {"kind": "frames", "channels": 4, "blocks": 1},
    }
    learned = {}
    for frozen in (True, False):
        o = small(clip, train__iterations=2, train__interpolation_frozen=frozen, name=f"frozen_{frozen}", **changes)
        torch.manual_seed(o.seed)
        start = {k: v.clone() for k, v in DAVSR.from_options(o).state_dict().items()}
        train(o)
        weights = load_checkpoint(Path(f"experiments/{o.name}/checkpoints/step_0000002.pt"))["model"]
        learned[frozen] = {k.split(".")[0] for k in start if not torch.equal(weights[k], start[k])}
    assert learned == {True: {"enhance", "hyper"}, False: {"rounds", "enhance", "hyper"}}


def test_what_learns_is_not_changed_within_a_run(clip):
    """The moments of the optimiser are those of what learned: other parts are no run that goes on."""
    changes = {
        "model__interpolation": {"method": "flow"},
        "model__rounds": {"count": 1, "channels": 4},
        "model__enhancement": {"kind": "frames", "channels": 4, "blocks": 1},
    }
    train(small(clip, train__iterations=1, **changes))
    with pytest.raises(
        InputError, match=r"its optimiser does not fit this network: its groups of parameters are others"
    ):
        train(small(clip, train__iterations=2, train__interpolation_frozen=True, **changes), auto_resume=True)


@pytest.mark.parametrize("rounds", [{}, {"count": 1, "channels": 4}], ids=["no weights", "all of them frozen"])
def test_a_model_without_anything_to_learn_is_refused(clip, rounds):
    changes = {
        "model__interpolation": {"method": "flow"},
        "model__rounds": rounds,
        "model__hyper": {"kind": "fixed"},
        "model__enhancement": {"kind": "none"},
    }
    with pytest.raises(InputError, match=r"train: this model has nothing to learn: choose model\.enhancement\.kind"):
        train(small(clip, train__interpolation_frozen=True, **changes))


def with_bad_losses(monkeypatch: pytest.MonkeyPatch, bad: set[int], value: float = math.nan) -> None:
    """The loss of these calls (from 0) is not finite."""
    calls = iter(range(1000))
    forward = VideoObjective.forward

    def broken(self: VideoObjective, *args: object) -> tuple:
        loss, scalars = forward(self, *args)
        return (loss * value if next(calls) in bad else loss), scalars

    monkeypatch.setattr(VideoObjective, "forward", broken)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nonfinite_step_changes_nothing(clip, monkeypatch, value):
    o = small(clip, train__iterations=3, train__checkpoint_every=1, train__checkpoints_kept=9)
    with_bad_losses(monkeypatch, {1}, value)
    outcome = train(o)
    assert (outcome.state.step, outcome.state.updates, outcome.state.nonfinite, outcome.state.nonfinite_row) == (
        3,
        2,
        1,
        0,
    )
    first, second, third = (load_checkpoint(Path(f"experiments/run/checkpoints/step_000000{n}.pt")) for n in (1, 2, 3))
    for part in ("model", "ema"):
        assert_same(first[part], second[part])
    assert_same(first["optimizer"]["state"], second["optimizer"]["state"])
    assert not torch.equal(third["model"]["enhance.conv_last.weight"], first["model"]["enhance.conv_last.weight"])
    log = Path("experiments/run/log.txt").read_text()
    assert f"step 2 skipped: rank 0: loss {value} on samples [2, 3]" in log
    assert metrics()[-1]["skipped"] == 1
    assert all(math.isfinite(v) for r in metrics() for v in r.values())


def test_too_many_nonfinite_steps_end_the_run(clip, monkeypatch):
    with_bad_losses(monkeypatch, {1, 3, 4, 5})
    with pytest.raises(
        TrainingError, match=r"3 non-finite steps in a row, the last one 6 .*samples \[10, 11\].*step_0000004.pt"
    ):
        train(small(clip, train__iterations=9, train__nonfinite_limit=3))


def test_checkpointed_gradients_are_the_same(clip):
    gradients = []
    for saving in (False, True):
        o = small(clip, train__gradient_checkpointing=saving, train__stage_weight=0.5)
        torch.manual_seed(0)
        task = VideoTask(o, torch.device("cpu"), fresh=True)
        loss, _ = task.objective(*task.inputs(task.samples[0], 0))
        loss.backward()
        gradients.append({name: p.grad for name, p in task.model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
    assert all(g is not None for g in gradients[0].values())


def test_earlier_stages_count_by_their_weight(clip):
    losses = {}
    for weight in (0.0, 0.5):
        torch.manual_seed(0)
        task = VideoTask(small(clip, train__stage_weight=weight), torch.device("cpu"), fresh=True)
        lq, gt, sigma, degradation, _ = task.inputs(task.samples[0], 0)
        losses[weight] = task.objective(lq, gt, sigma, degradation)[0]
        _, stages = task.model(lq, sigma, degradation=degradation, return_stages=True)
    first = charbonnier(stages.x[0], gt.transpose(1, 2), 1e-6)
    torch.testing.assert_close(losses[0.5], losses[0.0] + 0.5 * first)


def test_initial_weights_are_taken(clip):
    train(small(clip, name="first", train__iterations=1))
    best = Path("experiments/first/checkpoints/step_0000001.pt")
    train(small(clip, name="second", train__iterations=1, train__rate=1e-9, model__weights=str(best)))
    averaged = load_checkpoint(best)["ema"]
    for name, weight in newest("second")["model"].items():
        torch.testing.assert_close(weight, averaged[name], atol=1e-7, rtol=1e-4)  # one step of rate 1e-9


def test_bad_validation_is_named_at_start(clip):
    short = {"sources": [{"kind": "frames", "path": clip, "frames": "0:1"}]}
    with pytest.raises(
        InputError, match=r"data.validation.sources\[0\]: clip must have at least 2 frames at stride 1, got 1"
    ):
        train(small(clip, data__validation=short))
    with pytest.raises(InputError, match=r"data.validation.sources\[0\].kind: must be video"):
        train(small(clip, data__validation={"sources": [{"kind": "synthetic", "path": clip}]}))
    assert not list(Path("experiments/run").glob("checkpoints/*"))


def test_figures_go_to_tensorboard_where_it_is_wanted(tmp_path):
    pytest.importorskip("tensorboard")
    record = Record(tmp_path, tensorboard=True)
    record.write(3, {"loss": 0.25})
    record.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(3, 0.25)]


def test_the_loss_is_an_option(clip):
    train(options(train__loss="psnr", data__sources=[{"kind": "frames", "path": clip}]))
    record = json.loads(Path("experiments/run/metrics.jsonl").read_text().splitlines()[-1])
    assert -0.6 < record["loss"] < -0.05
