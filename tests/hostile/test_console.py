"""What a terminal gets: no control characters, no traceback, the usual exit codes, whoever stops listening or presses
Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import davsr.doctor
from davsr.cli import main
from davsr.log import logger, logging_to
from davsr.training.signals import StopRequest

DAVSR = [sys.executable, "-m", "davsr.cli"]


def test_names_from_files_do_not_reach_the_terminal_as_they_are(tmp_path: Path, capsys) -> None:
    torch.save({"levels.0.0.weight\x1b[2J\x07": torch.zeros(2)}, tmp_path / "x.pt")
    main(["weights", "inspect", str(tmp_path / "x.pt"), "--all"])
    (tmp_path / "a\x1b[31m").mkdir()
    main(["restore", str(tmp_path / "a\x1b[31m"), "out.mp4"])
    with pytest.raises(SystemExit):
        main(["restore", "\x1b[2J", "b", "c\x07"])
    shown = "".join(capsys.readouterr())
    assert "\\x1b[2J" in shown and "\\x1b[31m" in shown
    assert all(c.isprintable() or c == "\n" for c in shown)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "davsr: a/b: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "davsr: No space left on device\n"),
        (OSError("without a number"), "davsr: without a number\n"),
        (MemoryError(), "davsr: there is not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "davsr: there is not enough memory",
        ),
    ],
)
def test_what_the_system_refuses_is_a_sentence(monkeypatch, capsys, error: Exception, sentence: str) -> None:
    def refused(args: object) -> int:
        raise error

    monkeypatch.setattr(davsr.doctor, "run", refused)
    assert main(["doctor"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(sentence) and shown.count("\n") == 1


def test_work_goes_on_when_its_console_is_closed(tmp_path: Path, monkeypatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with logging_to(tmp_path / "log.txt"):
        logger.info("first")
        logger.info("second")
    monkeypatch.setattr(sys, "stdout", None)
    with logging_to(tmp_path / "log.txt"):
        logger.info("third")
    assert [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "first",
        "second",
        "third",
    ]


@pytest.mark.parametrize("ending", ["| head -1", ">&-", "2>&- >&-", "> /dev/full", "| true"])
def test_a_reader_that_has_gone_is_no_traceback(ending: str) -> None:
    command = f"{sys.executable} -m davsr.cli test --dry-run {ending}"
    if ending == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode in (0, 1, 2)


def test_ctrl_c_is_an_answer_while_modules_load_and_after() -> None:
    """The moment is drawn, and any is right: the exit code is 130, or the command has come to its end."""
    for share in (0.1, 0.5, 0.9):
        process = subprocess.Popen([*DAVSR, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        modules = Path(f"/proc/{process.pid}/maps")
        # By what is loaded, not by time: libraries appear one by one.
        while process.poll() is None and modules.exists() and modules.read_text().count(".so") < 600 * share:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=300)
        assert "Traceback" not in error and process.returncode in (130, 0), (share, error)


@pytest.mark.parametrize(
    "handler, expected",
    [("default_int_handler", (130, "davsr: interrupted\n")), ("SIG_IGN", (0, ""))],
    ids=["of a terminal", "that a script started in the background"],
)
def test_a_process_that_was_told_to_end_says_so_once(handler: str, expected: tuple[int, str]) -> None:
    """Unless the shell lets it ignore that: Ctrl-C is for what the script waits for."""
    code = f"import os, signal, davsr.doctor as d\nsignal.signal(signal.SIGINT, signal.{handler})\n"
    code += "d.run = lambda args: os.kill(os.getpid(), signal.SIGINT) or 0\n"
    code += "from davsr.cli import command\nraise SystemExit(command(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == expected


def test_training_of_the_background_ignores_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.reason
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.reason == "SIGTERM"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
