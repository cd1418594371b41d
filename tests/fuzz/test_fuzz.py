"""A fixed small number of cases of every kind, from a fixed seed: none of them is anything but taken or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.fuzz.kinds import KINDS
from tests.fuzz.mutate import mutate_bytes, mutate_tree

CASES = 700
ROOT = Path(__file__).parents[2]


def test_mutated_input_is_taken_or_refused() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # a process of its own: it forks
    command = [sys.executable, "-m", "tests.fuzz", "--cases", str(CASES), "--seed", "20", "--processes", "2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    last = next(line for line in done.stdout.splitlines() if line.startswith("all"))
    assert int(last.split()[1]) == CASES
    assert all(any(line.startswith(kind) for line in done.stdout.splitlines()) for kind in KINDS)


def test_mutations_are_functions_of_the_seed() -> None:
    tree = {"a": [1, {"b": 2.5}], "c": "text"}
    for number in range(50):
        one, two = (np.random.default_rng([1, number]) for _ in range(2))
        assert mutate_bytes(one, b"0123456789" * 9) == mutate_bytes(two, b"0123456789" * 9)
        assert repr(mutate_tree(one, tree)) == repr(mutate_tree(two, tree))
    assert tree == {"a": [1, {"b": 2.5}], "c": "text"}
