"""Idle threads sleep: set before torch is loaded, in whatever way the package is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from davsr.cli import COMMANDS

ROOT = Path(__file__).parent.parent
# Runs what follows it as Python would, up to the moment when torch is to be loaded; then tells what OpenMP will be
# told.
UP_TO_TORCH = """
import os, runpy, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(*(f"{key}={os.environ.get(key)}" for key in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")))
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
    known = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", UP_TO_TORCH, *start]
    done = subprocess.run(command, cwd=ROOT, env={**known, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_every_command_tells_idle_threads_to_sleep(start):
    assert told(start) == "GOMP_SPINCOUNT=1000 KMP_BLOCKTIME=0"


def test_what_the_user_has_set_stays():
    assert told(STARTS[0], GOMP_SPINCOUNT="7", KMP_BLOCKTIME="3") == "GOMP_SPINCOUNT=7 KMP_BLOCKTIME=3"
    assert told(STARTS[0], OMP_WAIT_POLICY="active") == "GOMP_SPINCOUNT=None KMP_BLOCKTIME=None"
