"""Ops called directly with anything: an exception, never a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from davsr.ops import backend

ROOT = Path(__file__).parents[2]
needs_ops = pytest.mark.skipif(backend().name == "reference", reason="no compiled ops here")


@needs_ops
def test_a_few_hundred_calls_of_any_kind_leave_the_process_alive() -> None:
    command = [sys.executable, "-m", "tests.ops.calls", "--calls", "600", "--seed", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert "600 calls" in done.stdout and "answered" in done.stdout and "refused" in done.stdout


@needs_ops
@pytest.mark.parametrize("size", [0, 1, 7, 9, 100])
def test_a_bias_of_another_size_is_refused(size: int) -> None:
    b, c, o, g = 1, 8, 8, 2
    tensors = [torch.rand(b, n, 4, 4) for n in (c, 27 * g, 2, 2)]
    for level in torch.ops.davsr.cpu_levels():
        with pytest.raises(ValueError, match=r"deform_align: bias must be \[8\]"):
            torch.ops.davsr.deform_align(*tensors, torch.rand(o, c, 3, 3), torch.rand(size), g, 10.0, level)
