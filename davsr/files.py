"""Files that are whole or absent: everything that the package writes is made beside its place, synced, and moved there.

Folders that it may delete carry a mark; a folder without one is somebody else's.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from davsr.errors import InputError
from davsr.guards.limits import limit
from davsr.guards.names import beside

MARK = ".davsr"  # an empty file in every folder that this package made and may delete
_CHECKSUM = "checksum"  # key of a record


def partial_name(path: Path) -> Path:
    """Where `path` is made until it is whole.

    Hidden, so that no reader takes it for a frame, a clip or a checkpoint.
    """
    return beside(path, ".", ".partial")


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
    """Write text as UTF-8; see `writing`.

    What is not text, in a name of a file, becomes an escape that JSON and YAML know.
    """
    write_file(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, tree: Any, *, indent: int | None = None) -> None:
    """Write plain values as JSON; see `writing`."""
    write_text(path, json.dumps(tree, indent=indent))


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is absent, or damaged in any way."""
    try:
        if path.stat().st_size > limit("RECORD_BYTES"):
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_record(path: Path, tree: Mapping[str, Any]) -> None:
    """Write plain values that a later run goes on from, with their checksum; see `writing`."""
    write_json(path, {**tree, _CHECKSUM: _checksum(tree)})


def read_record(path: Path) -> dict[str, Any] | None:
    """What `write_record` wrote.

    None where it is absent or differs in a bit: work is done again rather than done wrong.
    """
    tree = read_json(path)
    if not isinstance(tree, dict) or tree.pop(_CHECKSUM, None) != _checksum(tree):
        return None
    return tree


def _checksum(tree: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(tree, sort_keys=True).encode())


def claim(folder: Path) -> None:
    """Make a folder, or go on with one that a run before has made: from here on it is ours to fill and to delete.

    Raises:
        InputError: something else is there.
    """
    require_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def renew(folder: Path) -> None:
    """`claim` a folder, and empty it where a run before has left something."""
    require_ours(folder)
    remove_ours(folder)
    claim(folder)


def require_ours(folder: Path) -> None:
    """Raise InputError where something is in the place of a folder that this package did not make."""
    if not is_ours(folder) and (folder.is_symlink() or folder.exists()):
        raise InputError(f"{folder} is in the way, and this program did not make it: move it, or choose another output")


def is_ours(folder: Path) -> bool:
    """Whether a folder carries the mark. An empty one counts too: a run may end between its making and its marking."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / MARK).is_file() or not any(folder.iterdir())


def remove_ours(folder: Path) -> None:
    """Delete a folder of ours, the mark last: a run that ends meanwhile leaves what the next one knows for its own."""
    if not is_ours(folder):
        return
    for path in folder.iterdir():
        if path.name == MARK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / MARK).unlink(missing_ok=True)
    folder.rmdir()


def write_png(path: Path, frame: np.ndarray) -> None:
    """Write a frame, uint8 RGB [h, w, 3], as PNG; see `writing`."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    write_file(path, encoded.data)


def sync(path: Path) -> None:
    """Have the disk hold a file's content before its name appears: power may fail as well."""
    with path.open("r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())
