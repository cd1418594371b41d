"""Machines that lack what others have: float64 on a GPU, modules of Unix, a boundary of `grid_sample`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from davsr.checkpoints.loading import ALONG_MOTION, TRAINING_FREE, load_model
from davsr.data import colour
from davsr.data.video import VideoWriter
from davsr.evaluation import metrics
from davsr.ops import clamped_to_border, sample, sampling_grid
from davsr.physics.degradation import Degradation
from davsr.runtime import widest_float


class NoFloat64(TorchDispatchMode):
    """Stands for a GPU without float64.

    Refuses every operation that takes or makes such a tensor of more than one value.

    What the host computes by itself, NumPy's arrays on their way to the device, comes in by `aten::lift_fresh` and a
    copy.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64 and result.numel() > 1:
            raise TypeError(f"no float64 here: {func}")
        return result


def test_apples_gpus_have_no_float64():
    assert widest_float(torch.device("mps")) == torch.float32
    assert widest_float(torch.device("cpu")) == widest_float(torch.device("cuda", 1)) == torch.float64


# Sums and starting values that never leave the CPU.
ON_THE_CPU = {"prepare/verify.py", "training/tasks.py", "models/hyper.py"}


def test_nothing_else_is_made_float64_on_a_device():
    package = Path(__file__).parents[1] / "davsr"
    for path in sorted(package.rglob("*.py")):
        if str(path.relative_to(package)) not in ON_THE_CPU:
            text = path.read_text(encoding="utf-8").replace(".cpu().double()", "")
            assert ".double()" not in text and "dtype=torch.float64" not in text, path


@pytest.mark.parametrize("solver", ["separable", "fourier", "cg"])
def test_the_operator_works_without_float64(solver):
    degradation = Degradation(boundary="circular" if solver == "fourier" else "reflect", solver=solver)
    x = torch.rand(1, 3, 10, 16, 24, generator=torch.Generator().manual_seed(0))
    y = degradation.apply(x)
    expected = degradation.data_step(x, y, 0.1)  # its bases are on the device now
    with NoFloat64():
        assert torch.equal(degradation.data_step(x, degradation.apply(x), torch.tensor([0.1])), expected)


def test_scores_without_float64_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8, generator=generator) for _ in range(2))
    exact = metrics.psnr(a, b), metrics.ssim(a, b)
    asked: list[torch.device] = []
    monkeypatch.setattr(metrics, "widest_float", lambda device: asked.append(device) or torch.float32)
    torch.testing.assert_close(metrics.ssim(a, b), exact[1], rtol=0, atol=1e-6)  # float32 sums of a strip
    assert asked
    assert metrics.psnr(a, b).dtype == metrics.ssim(a, b).dtype == torch.float64
    squares = (a.double() - b.double()).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(exact[0], 10 * torch.log10(255**2 / squares))


def test_positions_moved_to_the_border_sample_as_a_padding_by_it():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()
    flow = (6 * torch.randn(2, 2, 5, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    grid = sampling_grid(flow)
    padded = sample(x, grid, padding="border")
    clamped = sample(x, clamped_to_border(grid, 5, 7), padding="zeros")
    torch.testing.assert_close(clamped, padded)
    for a, b in zip(
        torch.autograd.grad(clamped.square().sum(), (x, flow), retain_graph=True),
        torch.autograd.grad(padded.square().sum(), (x, flow)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


# What Windows' Python does not have; the package must import, say its memory, and prepare its loader's workers all the
# same.
WITHOUT = """
import importlib, os, pkgutil, signal, sys, types
import davsr

def import_all():
    for module in pkgutil.walk_packages(davsr.__path__, "davsr."):
        if not module.name.endswith(("._C", "__main__")):
            importlib.import_module(module.name)

import_all()  # what others need of Unix is theirs
for name in [name for name in sys.modules if name.startswith("davsr.")]:
    del sys.modules[name]
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
sys.platform = "win32"
for name in ("sysconf", "fork", "sched_getaffinity", "getuid", "O_NOFOLLOW"):
    delattr(os, name)
for name in ("alarm", "SIGALRM", "SIGHUP", "SIGKILL"):
    delattr(signal, name)
import_all()

import torch
from davsr.runtime import keep_freed_memory, peak_memory
from davsr.training.samples.dataset import _patient_with_signals
keep_freed_memory()
assert peak_memory(torch.device("cpu")) == 0
_patient_with_signals(0)
print("fine")
"""


def test_modules_and_calls_that_windows_lacks_are_not_needed():
    environment = {**os.environ, "DAVSR_REFERENCE": "1"}  # the compiled operations register themselves once
    command = [sys.executable, "-c", WITHOUT]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "fine", done.stderr


@pytest.mark.parametrize("name", ["rounds", "training-free"])
def test_a_model_without_weights_works_where_its_clip_lies(name, monkeypatch):
    """On the device `meta`: tensors without numbers, which refuse to meet those of the CPU."""
    model = load_model(model={"rounds": ALONG_MOTION, "training-free": TRAINING_FREE}[name])
    assert not list(model.parameters())
    place = torch.device("meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it knows no such device
    x, y = torch.rand(1, 3, 5, 16, 16, device=place), torch.rand(1, 3, 1, 4, 4, device=place)
    if model.rounds is not None:
        motion, sigma = torch.rand(1, 5, 2, 16, 16, device=place), torch.rand(1, device=place)
        x = model.rounds(x.requires_grad_(), y, motion, model.degradation, sigma)
    alpha, _ = model.hyper(torch.rand(1, device=place), model.degradation)
    z = model.degradation.data_step(x, y, alpha[:, 0])
    assert z.device == place and z.shape == (1, 3, 5, 16, 16)


def test_what_older_torch_does_not_know_is_not_asked_for():
    """torch 2.6 takes no reason for what a compiler leaves out."""
    code = "import torch; f = torch.compiler.disable; torch.compiler.disable = lambda fn=None, recursive=True: f(fn, recursive)"
    command = [sys.executable, "-c", f"{code}; import davsr.physics.degradation"]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True)


class _FrameOfPyAV15:
    """Tells its matrix and range, but neither transfer nor primaries."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame

    def __getattr__(self, name: str) -> object:
        if name in ("color_trc", "color_primaries"):
            raise AttributeError(name)
        return getattr(self._frame, name)


def test_what_an_older_frame_does_not_tell_its_stream_does(tmp_path: Path) -> None:
    """The oldest PyAV that is allowed reads videos, with their colours."""
    with VideoWriter(tmp_path / "a.mkv", 24) as writer:
        for _ in range(2):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    with av.open(str(tmp_path / "a.mkv")) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        told = colour.tags(stream, frame)
        assert colour.tags(stream, _FrameOfPyAV15(frame)) == told
        assert told["transfer"] == told["primaries"] == 1  # BT.709
