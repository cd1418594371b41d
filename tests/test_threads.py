"""Idle threads sleep: set before torch is loaded, in whatever way the package is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from davsr.cli import COMMANDS

ROOT = Path(__file__).parent.parent
SETTINGS = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OPENBLAS_THREAD_TIMEOUT")
# Runs what follows it as Python would, up to the moment when torch or NumPy is to be loaded; then tells what OpenMP and
# BLAS will be told.
UP_TO_TORCH = """
import os, runpy, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numpy"):
            print(*(f"{key}={os.environ.get(key)}" for key in os.environ["TOLD"].split()))
            sys.stdout.flush()
            os._exit(0)

sys.meta_path.insert(0, Stop())
kind, name, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, "")
runpy.run_module(name, run_name="__main__") if kind == "module" else runpy.run_path(name, run_name="__main__")
"""
STARTS = [
    *(["module", "davsr.cli", name] for name in COMMANDS),
    ["script", "train.py"],
    ["script", "test.py"],
    ["module", "davsr.models.davsr"],
    *(
        ["module", f"benchmarks.{path.stem}"]
        for path in sorted(ROOT.glob("benchmarks/*.py"))
        if "import torch" in path.read_text()
    ),
]


def told(start: list[str], **environment: str) -> str:
    known = {k: v for k, v in os.environ.items() if k not in (*SETTINGS, "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", UP_TO_TORCH, *start]
    environment = known | environment | {"TOLD": " ".join(SETTINGS)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_every_command_tells_idle_threads_to_sleep(start):
    assert told(start) == "GOMP_SPINCOUNT=1000 KMP_BLOCKTIME=0 OPENBLAS_THREAD_TIMEOUT=4"


def test_what_the_user_has_set_stays():
    chosen = {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "3", "OPENBLAS_THREAD_TIMEOUT": "20"}
    assert told(STARTS[0], **chosen) == " ".join(f"{key}={value}" for key, value in chosen.items())
    assert told(STARTS[0], OMP_WAIT_POLICY="active") == " ".join(f"{key}=None" for key in SETTINGS)


def test_large_matrices_are_the_work_of_torch():
    """In a script that loads torch first NumPy's threads spin after each use, on the cores of torch's."""
    by_numpy = re.compile(r"\bnp\.(linalg|dot|vdot|inner|matmul|einsum|tensordot)\b")
    found = {
        path.name
        for path in (ROOT / "davsr/physics").rglob("*.py")
        if by_numpy.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"psf.py"}  # of a kernel, which is small: no other thread is woken
