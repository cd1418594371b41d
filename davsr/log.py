"""Logging: plain lines on the console, the same with times in a file; progress bars only on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

logger = logging.getLogger("davsr")


class _Console(logging.Handler):
    """Writes above a running progress bar; warnings go to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        prefix = "davsr: " if record.levelno >= logging.WARNING else ""
        with tqdm.external_write_mode(stream):
            stream.write(f"{prefix}{self.format(record)}\n")
            stream.flush()


@contextmanager
def logging_to(file: str | Path | None = None, *, console: bool = True) -> Iterator[logging.Logger]:
    """The project's logger, with a console (of the first process of several) and, if named, a file that is appended to.

    The handlers go when the context ends, so that a program which uses this package keeps its own logging.
    """
    handlers: list[logging.Handler] = [_Console()] if console else []
    if file is not None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
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


def progress(total: int | None, description: str, unit: str = "frame", iterable: Iterable[Any] | None = None) -> Any:
    """A `tqdm` bar on stderr, silent when that is not a terminal."""
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=f" {unit}s",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        dynamic_ncols=True,
    )
