"""What is freed and kept goes back to the system where a process would grow beyond its ceiling."""

from __future__ import annotations

import subprocess
import sys

import pytest

from davsr.restoration import planning
from davsr.restoration.ceiling import kept_below, resident_memory

_HOLES = """
import sys, threading, torch
from davsr.restoration.ceiling import kept_below, resident_memory
from davsr.runtime import keep_freed_memory
keep_freed_memory()
size = 32 * 2**20
blocks = [torch.ones(size, dtype=torch.uint8) for _ in range(12)]
del blocks[::2]  # holes of 192 MB, between what is still there
held, room = resident_memory(), float(sys.argv[1]) * size
grown, run = threading.Event(), threading.Thread.run
if sys.argv[2] == "late":  # as on a busy machine: nobody looks before all has been taken
    threading.Thread.run = lambda thread: (grown.wait(), run(thread))
with kept_below(held + room, begin=sys.argv[2] == "begin") as returned:
    began = resident_memory()
    more = [torch.ones(2 * size, dtype=torch.uint8) for _ in range(4)]  # which fit into none of them
    grown.set()
    gone = returned.wait(600) if room < 4 * 2 * size else returned.is_set()
print(began < held - 4 * size, gone, resident_memory() < held + 4 * 2 * size - 4 * size)
"""


def holes(room: int, how: str = "") -> list[str]:
    """Whether memory went back before the block, within it, and is gone; `room` below the ceiling, in blocks."""
    run = subprocess.run([sys.executable, "-c", _HOLES, str(room), how], capture_output=True, text=True, check=True)
    return run.stdout.split()


@pytest.mark.skipif(resident_memory() is None, reason="only Linux tells what is resident")
def test_what_was_freed_goes_back_where_the_process_would_grow_beyond_its_ceiling() -> None:
    assert holes(2) == ["False", "True", "True"]
    assert holes(2, "late") == ["False", "True", "True"]
    assert holes(100) == ["False", "False", "False"]  # as without a ceiling
    assert holes(100, "begin") == ["True", "False", "True"]


def test_a_ceiling_leaves_room_below_what_is_stated() -> None:
    assert planning.ceiling(0.75) < 0.75 * planning.GIGABYTE
    assert planning.ceiling(0.0) == planning.ceiling(planning.MODEST)


def test_what_the_block_raises_comes_through() -> None:
    with pytest.raises(KeyError), kept_below(0.0):
        raise KeyError
