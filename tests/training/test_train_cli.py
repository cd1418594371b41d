"""`train.py` as a process: what it says, how it ends, and that kill -9 costs nothing but time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from davsr.checkpoints.files import load_checkpoint
from davsr.cli import main
from tests.processes import output_of, wait_until
from tests.runs import moving_frames, write_clip, write_options

TRAIN = Path(__file__).parents[2] / "train.py"
KILLS = int(os.environ.get("DAVSR_TEST_KILLS", "3"))


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(write_clip(tmp_path / "clip", moving_frames(12)))


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAIN.parent)}
    command = [sys.executable, str(TRAIN), *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def lines(folder: Path) -> list[str]:
    log = folder / "experiments" / "run" / "log.txt"
    return log.read_text().splitlines() if log.exists() else []


def wait_for_steps(folder: Path, process: subprocess.Popen, steps: int) -> None:
    """Until the process has logged so many steps of its own."""
    before = sum(": loss" in line for line in lines(folder))
    wait_until(lambda: sum(": loss" in line for line in lines(folder)) >= before + steps, process)


def test_wrong_input_is_one_sentence_and_status_2(tmp_path, clip, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(write_options(tmp_path / "o.yml", data__sources=[{"kind": "frames", "path": clip}]))
    for override, message in (
        ("data.sources=[{kind: frames, path: nowhere}]", "nowhere does not exist"),
        ("train.iteration=3", "train.iteration is not an option; did you mean train.iterations?"),
        ("data.patch=64", "data.patch must fit every clip"),
        ("precision=float16", "precision: float16 must run on a GPU"),
    ):
        assert main(["train", "-opt", path, "--set", override]) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("davsr: ") and error.count("\n") == 1


def test_a_dry_run_checks_and_trains_nothing(tmp_path, clip, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(write_options(tmp_path / "o.yml", data__sources=[{"kind": "frames", "path": clip}]))
    assert main(["train", "-opt", path, "--dry-run"]) == 0
    assert "scale: [2, 4, 4]" in capsys.readouterr().out
    assert main(["train", "-opt", path, "--dry-run", "--set", "model.weights=none.pt"]) == 2
    assert "none.pt does not exist" in capsys.readouterr().err
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize("to_all", [False, True], ids=["to the process", "to its workers too"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_end_the_run(tmp_path, clip, number, to_all):
    run = {"data__sources": [{"kind": "frames", "path": clip}], "data__workers": 1}
    path = str(write_options(tmp_path / "o.yml", train__iterations=100_000, train__checkpoint_every=50_000, **run))
    process = start(tmp_path, "-opt", path)
    wait_for_steps(tmp_path, process, 3)
    if to_all:  # as a terminal does with Ctrl-C, and what stops a service with SIGTERM
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output = output_of(process)
    assert process.returncode == 128 + number, output
    assert f"({number.name}); go on with --auto-resume" in output and "Traceback" not in output
    saved = load_checkpoint(next((tmp_path / "experiments/run/checkpoints").glob("step_*.pt")))
    assert 3 <= saved["step"] < 100_000
    assert f"stopped after step {saved['step']} " in output


def test_kill_9_at_any_moment_costs_nothing_but_time(tmp_path, clip):
    run = {"data__sources": [{"kind": "frames", "path": clip}], "train__iterations": 60, "train__checkpoint_every": 3}
    final = []
    for name, kills in (("whole", 0), ("killed", KILLS)):
        folder = tmp_path / name
        folder.mkdir()
        path = str(write_options(folder / "o.yml", **run))
        moments = random.Random(4)
        for _ in range(kills):
            process = start(folder, "-opt", path, "--auto-resume")
            wait_for_steps(folder, process, moments.randint(4, 60 // (kills + 1)))
            time.sleep(moments.uniform(0, 0.1))  # about the length of a step: within one, or while it saves
            process.kill()
            output_of(process)
        process = start(folder, "-opt", path, "--auto-resume")
        output = output_of(process)
        assert process.returncode == 0, output
        assert kills == 0 or "goes on from" in output
        final.append(load_checkpoint(folder / "experiments/run/checkpoints/step_0000060.pt"))
    whole, killed = final
    for part in ("model", "ema"):
        for name, weight in whole[part].items():
            assert torch.equal(killed[part][name], weight), name
    for number, state in whole["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(killed["optimizer"]["state"][number][name], value), name
