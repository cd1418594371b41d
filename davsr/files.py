"""Files that are whole or absent: everything that the package writes is made beside its place, synced, and moved there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from davsr.errors import InputError


def partial_name(path: Path) -> Path:
    """Where `path` is made until it is whole: hidden, so that no reader takes it for a frame, a clip or a checkpoint."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A place to write a file to that becomes `path` when the block ends; an error leaves `path` as it was.

    Raises:
        InputError: naming the file, when it cannot be written, for instance because the disk is full.
    """
    partial = partial_name(path)
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write bytes; see `writing`."""
    with writing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; see `writing`."""
    write_file(path, text.encode("utf-8"))


def write_json(path: Path, tree: Any, *, indent: int | None = None) -> None:
    """Write plain values as JSON; see `writing`."""
    write_text(path, json.dumps(tree, indent=indent))


def write_png(path: Path, frame: np.ndarray) -> None:
    """Write a frame, uint8 RGB [h, w, 3], as PNG; see `writing`."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    write_file(path, encoded.data)


def sync(path: Path) -> None:
    """Have the disk hold a file's content before its name appears: power may fail as well."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
