"""Lower precision, less memory, compilation: the same training at another price."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from davsr.checkpoints.files import load_checkpoint
from davsr.training.trainer import train
from tests.runs import moving_frames, options, write_clip

# Peak memory of one step of a network with 16 channels on 15 frames of 96x96, beyond what the process had before
STEP = """
import resource, sys, torch
from tests.runs import options
from davsr.models.davsr import DAVSR
from davsr.training.tasks import VideoObjective
torch.set_num_threads(1)
o = options(model__iterations=3, model__enhancement={"channels": 16, "blocks": 3, "hr_channels": 16, "groups": 4})
torch.manual_seed(0)
model = DAVSR.from_options(o)
model.enhance.gradient_checkpointing = sys.argv[1] == "saving"
def step(t, side):
    generator = torch.Generator().manual_seed(1)
    lq, gt = (torch.rand(1, *size, generator=generator) for size in ((t, 3, side // 4, side // 4), (2 * t, 3, side, side)))
    loss, _ = VideoObjective(model, o)(lq, gt, torch.zeros(1), None)
    loss.backward()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(2, 32)
model.zero_grad()
before = peak()
step(7, 96)
print(peak() - before)
torch.save([p.grad for p in model.parameters()], sys.argv[2])
"""


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(write_clip(tmp_path / "clip", moving_frames(12)))


def losses(name: str) -> list[float]:
    records = Path("experiments", name, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in records]


def test_bfloat16_follows_float32(clip):
    for precision in ("float32", "bfloat16"):
        source = [{"kind": "frames", "path": clip}]
        train(options(name=precision, precision=precision, data__sources=source, train__iterations=20))
    exact, rounded = losses("float32"), losses("bfloat16")
    assert len(rounded) == 20 and all(math.isfinite(loss) for loss in rounded)
    assert exact != rounded
    for a, b in zip(exact, rounded, strict=True):
        assert abs(a - b) <= 0.02 * a
    weights = load_checkpoint(Path("experiments/bfloat16/checkpoints/step_0000020.pt"))
    for tensors in (weights["model"], weights["ema"]):
        assert all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors.values())


def test_checkpointing_saves_memory_and_keeps_gradients(tmp_path):
    root = Path(__file__).parents[2]
    # glibc keeps freed memory by default; here it goes back, so that the peak is that of the tensors
    environment = {**os.environ, "PYTHONPATH": str(root), "MALLOC_MMAP_THRESHOLD_": "65536"}
    peaks, gradients = [], []
    for mode in ("plain", "saving"):
        command = [sys.executable, "-c", STEP, mode, str(tmp_path / mode)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
        gradients.append(torch.load(tmp_path / mode))
    assert peaks[1] <= 0.45 * peaks[0], peaks
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)  # sums in another order


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_steps(clip):
    for name, compiled in (("plain", False), ("compiled", True)):
        train(options(name=name, data__sources=[{"kind": "frames", "path": clip}], train__compile=compiled))
    a, b = (load_checkpoint(Path(f"experiments/{name}/checkpoints/step_0000004.pt")) for name in ("plain", "compiled"))
    assert a["model"].keys() == b["model"].keys()
    for name, weight in a["model"].items():
        torch.testing.assert_close(b["model"][name], weight, atol=1e-4, rtol=1e-3)  # fused sums, magnified by Adam
