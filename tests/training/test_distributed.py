"""Several processes: the same run as one, and one that ends together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from davsr.checkpoints.files import load_checkpoint
from davsr.errors import InputError
from davsr.ranks import Ranks
from tests.processes import output_of, wait_until
from tests.runs import moving_frames, write_clip, write_options

TRAIN = Path(__file__).parents[2] / "train.py"

# Rank 1 finds its loss not finite at its second step.
POISONED = """
import math, os, sys
from davsr.cli import main
from davsr.training.tasks import VideoObjective
forward, calls = VideoObjective.forward, iter(range(1000))
def poisoned(self, *args):
    loss, scalars = forward(self, *args)
    return (loss * math.nan if next(calls) == 1 and os.environ["RANK"] == "1" else loss), scalars
VideoObjective.forward = poisoned
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(write_clip(tmp_path / "clip", moving_frames(12)))


def start(folder: Path, ranks: int, *arguments: str, program: str | None = None) -> list[subprocess.Popen]:
    """One process per rank, as torchrun starts them; rank 0 holds the store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(ranks):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAIN.parent)}
        if ranks > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        command = [sys.executable, str(TRAIN), *arguments]
        if program:
            command = [sys.executable, "-c", program, "train", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
    return processes


def run(folder: Path, ranks: int, *arguments: str, program: str | None = None) -> list[str]:
    """The outputs by rank, once all have ended well."""
    processes = start(folder, ranks, *arguments, program=program)
    outputs = [output_of(process) for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)
    return outputs


def wait_for_step_3(folder: Path, processes: list[subprocess.Popen]) -> None:
    log = folder / "experiments/run/log.txt"
    wait_until(lambda: log.exists() and "step 3/" in log.read_text(), *processes)


def checkpoint(folder: Path, step: int) -> dict:
    return load_checkpoint(folder / "experiments" / "run" / "checkpoints" / f"step_{step:07d}.pt")


def folder_with_options(folder: Path, clip: str, **changes: object) -> tuple[Path, str]:
    folder.mkdir()
    source = {"kind": "frames", "path": clip}
    validation = {"sources": [{**source, "strides": [1, 2, 1]}], "frames": 2, "every": 1000}
    tree = {"data__sources": [source], "data__validation": validation, "train__batch": 4, "train__checkpoints_kept": 9}
    return folder, str(write_options(folder / "o.yml", **{**tree, **changes}))


def test_two_processes_are_one_run_and_ranks_may_change(tmp_path, clip):
    one, path = folder_with_options(tmp_path / "one", clip, train__iterations=6)
    run(one, 1, "-opt", path)
    two, path = folder_with_options(tmp_path / "two", clip, train__iterations=6)
    slices = (
        (1, 1e-9),
        (2, 1e-9),
        (2, 1e-9),
        (1, 0),
    )  # ranks, and minutes after which the slice ends: one step, or all
    outputs = [run(two, n, "-opt", path, "--auto-resume", "--set", f"train.minutes={m}") for n, m in slices]
    assert "1 process(es)" in outputs[0][0] and "2 process(es) x 1 part(s) x 2" in outputs[1][0]
    assert outputs[1][1] == ""  # only rank 0 writes
    whole, parts = checkpoint(one, 6), checkpoint(two, 6)
    assert parts["step"] == parts["updates"] == 6
    for name, weight in whole["model"].items():
        # float32 rounding of gradients that are summed in another order, magnified where Adam divides by small ones
        torch.testing.assert_close(parts["model"][name], weight, atol=1e-4, rtol=1e-3)
    logs = [(folder / "experiments/run/log.txt").read_text() for folder in (one, two)]
    scores = [line.split("psnr ")[1] for log in logs for line in log.splitlines() if "validation: " in line]
    assert len(scores) == 4 and scores[0] == scores[2]


def test_a_nonfinite_loss_of_one_rank_is_skipped_by_all_and_counted_once(tmp_path, clip):
    folder, path = folder_with_options(tmp_path / "f", clip, train__iterations=3, train__checkpoint_every=1)
    output = run(folder, 2, "-opt", path, program=POISONED)[0]
    assert "step 2 skipped: rank 1: loss nan on samples [6, 7]" in output
    first, second, third = (checkpoint(folder, step) for step in (1, 2, 3))
    assert (third["updates"], third["nonfinite"], third["nonfinite_row"]) == (2, 1, 0)
    for name, weight in first["model"].items():
        assert torch.equal(second["model"][name], weight)
        assert torch.isfinite(third["model"][name]).all()
    assert not torch.equal(third["model"]["enhance.conv_last.weight"], first["model"]["enhance.conv_last.weight"])


@pytest.mark.parametrize("dead", [1, 0])
def test_a_dead_rank_ends_the_run_and_is_named(tmp_path, clip, dead):
    folder, path = folder_with_options(tmp_path / "f", clip, train__iterations=100_000)
    processes = start(folder, 2, "-opt", path)
    wait_for_step_3(folder, processes)
    processes[dead].kill()
    output = output_of(processes[1 - dead])  # it ends by itself: the run has 100 000 steps before it
    assert processes[1 - dead].returncode == 1, output
    assert f"davsr: train: rank {dead} " in output and " died" in output and "Traceback" not in output, output
    processes[dead].communicate()


@pytest.mark.slow
def test_a_rank_that_hangs_counts_as_dead(tmp_path, clip):
    """No connection is closed here: only the signs of life end."""
    folder, path = folder_with_options(tmp_path / "f", clip, train__iterations=100_000)
    processes = start(folder, 2, "-opt", path)
    wait_for_step_3(folder, processes)
    processes[1].send_signal(signal.SIGSTOP)
    output = output_of(processes[0])
    processes[1].kill()
    assert processes[0].returncode == 1 and "davsr: train: rank 1 " in output and " died" in output, output
    processes[1].communicate()


def test_a_signal_to_one_rank_saves_and_ends_all(tmp_path, clip):
    folder, path = folder_with_options(tmp_path / "f", clip, train__iterations=100_000, train__checkpoint_every=50_000)
    processes = start(folder, 2, "-opt", path)
    wait_for_step_3(folder, processes)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [output_of(process) for process in processes]
    assert [p.returncode for p in processes] == [0, 128 + signal.SIGTERM], "\n".join(outputs)
    assert "another rank" in outputs[0]
    assert len(list((folder / "experiments/run/checkpoints").glob("step_*.pt"))) == 1


def test_torchrun_starts_it(tmp_path, clip):
    folder, path = folder_with_options(tmp_path / "f", clip, train__iterations=4, train__accumulate=2)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAIN.parent)}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(TRAIN),
        "-opt",
        path,
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 process(es) x 2 part(s) x 1" in done.stdout
    alone, path = folder_with_options(tmp_path / "alone", clip, train__iterations=4)
    run(alone, 1, "-opt", path)
    parts, whole = checkpoint(folder, 4), checkpoint(alone, 4)
    for name, weight in whole["model"].items():
        # as above: Adam's first steps magnify the rounding of small gradients
        torch.testing.assert_close(parts["model"][name], weight, atol=1e-4, rtol=1e-3)


def test_incomplete_variables_are_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"WORLD_SIZE is set but RANK is not; start several processes with torchrun"):
        Ranks.from_environment()
