"""Waiting for other processes: for what they do, never for a time that a loaded machine may exceed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

HUNG = 1200  # seconds after which a process that neither ends nor gets on is taken for hung; nothing is measured by it


def wait_until(reached: Callable[[], bool], *processes: subprocess.Popen) -> None:
    """Until `reached` holds; fails where a process ends before, with what it printed."""
    for _ in range(100 * HUNG):
        if reached():
            return
        for process in processes:
            assert process.poll() is None or reached(), process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("the processes neither ended nor got on")


def output_of(process: subprocess.Popen) -> str:
    """What a process printed, once it has ended."""
    output, _ = process.communicate(timeout=HUNG)
    return output
