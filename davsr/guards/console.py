"""The terminal: what is printed obeys no file, a reader that has gone is no error, Ctrl-C is an answer at any time."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any, NoReturn

from davsr.errors import LINE_ENDS, printable


class Parser(argparse.ArgumentParser):
    """An argument parser whose messages are printable, whatever the arguments were, and that takes no empty value.

    A script's variable that was never set would mean the default, and as a path the current folder.
    """

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if not arg_string and action.nargs != argparse.PARSER:
            raise argparse.ArgumentError(action, "must not be empty")
        return super()._get_value(action, arg_string)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message, keep=LINE_ENDS), file)


class _Printable:
    """A text stream on which control characters arrive as escapes: names of clips and tensors come from files."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text, keep=LINE_ENDS))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Within it `print` writes no control characters but line ends and tabs."""
    if sys.stdout is None:  # closed before the program began: what is printed goes nowhere
        yield
        return
    with contextlib.redirect_stdout(_Printable(sys.stdout)):
        yield


def silence(stream: IO[str] | IO[bytes]) -> None:
    """From here on a stream leads nowhere: its reader has gone, and the end of the process must not try again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it is no file, or closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def opencv_unheard() -> Iterator[None]:
    """Within it OpenCV prints nothing of its own about a file: whoever reads one says what is wrong with it."""
    import cv2

    log: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # the latter from OpenCV 5 on
    level = log.getLogLevel()
    if level == 0:  # silent already: by the user, or by another thread, which also ends it
        yield
        return
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(level)


def begin_process() -> None:
    """For a process that is one command: nothing is made while modules load, so that Ctrl-C ends it at once.

    Where a shell lets it ignore Ctrl-C, as that of a script does with what it starts in the background, so it does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal need not know every letter


def work_begins() -> None:
    """Modules are loaded: from here on Ctrl-C is an exception, and what is open is closed."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_process(code: int) -> int:
    """The exit code, once what was printed has arrived; 1 instead of 0 where it could not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            silence(stream)
            code = code or 1
    return code


def _end_at_once(_: int, __: FrameType | None) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"davsr: interrupted\n")
    os._exit(128 + signal.SIGINT)
