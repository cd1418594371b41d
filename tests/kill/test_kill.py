"""A fixed small number of ended runs.

Every command that writes, ended once and started again, is what it would have been.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 30
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_is_lost_and_the_end_is_the_same() -> None:
    command = [sys.executable, "-m", "tests.kill", "--runs", str(RUNS), "--seed", "20"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{RUNS} runs, seed 20: 0 lost something or differ" in done.stdout
