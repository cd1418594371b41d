"""An output is made by one process at a time; a lock goes with its holder, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from davsr.errors import InputError
from davsr.guards.locks import locked

HOLD = """
import sys
from davsr.guards.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(output: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_it_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out.mp4"
    process = hold(output)
    with pytest.raises(InputError, match=rf"is being made by process {process.pid} on "), locked(output):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [p.name for p in output.parent.iterdir()] == [".out.mp4.lock"]  # it is left, and taken over
    with locked(output):
        assert str(os.getpid()) in (output.parent / ".out.mp4.lock").read_text()
    assert not list(output.parent.iterdir())


def test_a_forked_child_that_lives_on_holds_nothing(tmp_path: Path) -> None:
    ready, hold_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with locked(tmp_path / "out"):
            if os.fork() == 0:  # as a worker of a loader: it has the lock's file open, and outlives its parent
                os.read(hold_on[0], 1)
                os._exit(0)
            os.write(ready[1], b"x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.read(ready[0], 1)
    os.waitpid(child, 0)
    with locked(tmp_path / "out"):
        pass
    os.write(hold_on[1], b"x")


def test_the_same_process_does_not_get_it_twice_and_folders_that_stay_empty_go(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "out"
    with locked(output), pytest.raises(InputError, match="by this process already"), locked(output):
        pass
    assert not (tmp_path / "a").exists()
    with locked(output):
        output.mkdir()
    assert [p.name for p in output.parent.iterdir()] == ["out"]


def test_of_many_threads_one_at_a_time_holds_it(tmp_path: Path) -> None:
    inside, most, won = 0, 0, 0
    guard = threading.Lock()

    def attempt() -> None:
        nonlocal inside, most, won
        mine = 0
        for _ in range(1_000_000):  # as often as it takes: threads take turns as they like
            if mine == 25:
                return
            try:
                with locked(tmp_path / "out"):
                    with guard:
                        inside, won, mine = inside + 1, won + 1, mine + 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
            except InputError:
                continue

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and won == 100


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), locked(tmp_path / "out"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["/", "..", "."])
def test_an_output_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="with a name"), locked(name):
        pass
