"""Logging: plain lines on the console, the same with times in a file; progress bars only on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from davsr.errors import LINE_ENDS, printable
from davsr.guards.console import silence

logger = logging.getLogger("davsr")


# `logger.info(message, extra=BEGINS)`: the input is accepted and work begins. Until then a log file is not made, so
# that a run which is refused leaves nothing behind.
BEGINS = {"davsr_begins": True}


class _Console(logging.Handler):
    """Writes above a running progress bar; warnings go to stderr. Work goes on when nobody listens any more."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = False

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO | None = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        prefix = "davsr: " if record.levelno >= logging.WARNING else ""
        if stream is None or self._gone:  # the program was started without one
            return
        try:
            with tqdm.external_write_mode(stream):
                stream.write(f"{prefix}{printable(self.format(record), keep=LINE_ENDS)}\n")
                stream.flush()
        except (OSError, ValueError):  # closed at the other end, or at ours
            self._gone = True
            silence(stream)


class _File(logging.FileHandler):
    """A log file that is made when work begins; what was said before it comes first."""

    def __init__(self, path: Path, waits: bool) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._waits, self._gone = waits, False
        self._waiting: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if self._gone:
            return
        self._waiting.append(record)
        if self._waits and not getattr(record, "davsr_begins", False):
            return
        if self.stream is None:
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        self._waits = False
        waiting, self._waiting = self._waiting, []
        for earlier in waiting:
            super().emit(earlier)

    def handleError(self, record: logging.LogRecord) -> None:  # the name in the standard library
        """On a full disk the log ends: whether the work can go on is said by what writes the work."""
        self._gone = True


@contextmanager
def logging_to(
    file: str | Path | None = None, *, console: bool = True, waits: bool = False
) -> Iterator[logging.Logger]:
    """The project's logger, with a console (of the first process of several) and, if named, a file that is appended to.

    The handlers go when the context ends, so that a program which uses this package keeps its own logging.

    Args:
        waits: the file is made when work begins (see `BEGINS`).
    """
    handlers: list[logging.Handler] = [_Console()] if console else []
    if file is not None:
        handlers.append(_File(Path(file), waits))
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = not handlers
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield logger
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
        logger.propagate = propagate


def progress(
    total: int | None, description: str, unit: str = "frame", iterable: Iterable[Any] | None = None
) -> tqdm[Any]:
    """A `tqdm` bar on stderr, silent when that is not a terminal."""
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=f" {unit}s",
        file=sys.stderr,
        disable=sys.stderr is None or not sys.stderr.isatty(),
        leave=False,
        dynamic_ncols=True,
    )
