"""Waiting for other processes: for what they do, never for a time that a loaded machine may exceed."""

from __future__ import annotations

import subprocess
import sys
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


_HELD = """
import importlib, sys, threading
owner, name, calls, *arguments = sys.argv[1:]
module, _, kind = owner.partition(":")
owner = importlib.import_module(module)
owner = getattr(owner, kind) if kind else owner
work, lock, done = getattr(owner, name), threading.Lock(), []

def held(*given, **more):
    made = work(*given, **more)
    with lock:
        done.append(1)
        if len(done) == int(calls):
            print("held", flush=True)
            sys.stdin.read()
    return made

setattr(owner, name, held)
from davsr.cli import main
raise SystemExit(main(arguments))
"""


def start_and_hold(owner: str, name: str, calls: int, *arguments: object) -> subprocess.Popen[bytes]:
    """A command of `davsr` that stands still after so many calls of a function, until its input ends.

    However loaded the machine is, it can be ended there; `communicate` ends its input.

    Args:
        owner: the module that looks the function up, or `module:class`.
    """
    command = [sys.executable, "-c", _HELD, owner, name, str(calls), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    while (line := process.stdout.readline()) != b"held\n":
        assert line, process.communicate()
    return process
