"""Names that become files and folders: checked once, where they come in."""

from __future__ import annotations

import re
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from davsr.errors import InputError

IN_THE_MAKING = (".partial", ".lock", ".tmp")  # suffixes of hidden files and folders that are not whole yet
_LONGEST = 200  # bytes of a clip's name: file systems take 255, and results add to it
_FILE_NAME = 255  # bytes that file systems take for a name


def given(path: str | Path, what: str) -> Path:
    """A path that somebody gave.

    Raises:
        InputError: it is empty, which would mean the current folder: a variable of a script that was never set.
    """
    if path == "":
        raise InputError(f"{what} must be a path, got ''")
    return Path(path)


def beside(path: Path, before: str, after: str, *, name: str | None = None) -> Path:
    """A file or folder of ours beside an output: `before`, the output's name (or `name`) and `after`.

    Where that is longer than file systems take, the end of the name gives way to a checksum of it.

    Raises:
        InputError: the output has no name, as `.` and `/`.
    """
    if path.name in ("", ".."):
        raise InputError(f"output {path} must be a file or folder with a name")
    name = path.name if name is None else name
    encoded = name.encode("utf-8", "surrogateescape")
    room = _FILE_NAME - len(before.encode()) - len(after.encode("utf-8", "surrogateescape"))
    if len(encoded) > room:
        mark = f"~{zlib.crc32(encoded):08x}"
        name = encoded[: room - len(mark)].decode("utf-8", "ignore") + mark
    return path.with_name(f"{before}{name}{after}")


def require_clip_name(name: str, source: object) -> None:
    """Raise InputError unless a clip's name is that of one plain file: results are written under it.

    Args:
        source: where the clip lies, for the message.
    """
    fault = _fault(name)
    if fault:
        raise InputError(f"{source} holds a clip named {name!r}: a name must {fault}")


def require_run_name(name: str) -> None:
    """Raise InputError unless `options.name` is a relative path that stays below the folder it is taken in."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        raise InputError(f"options: name must be relative, got {name!r}")
    for part in name.split("/"):
        fault = _fault(part)
        if fault:
            raise InputError(f"options: name must {fault}, got {name!r}")


def require_device_name(name: str) -> None:
    """Raise InputError unless `options.device` names a device, one that may not be there."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        raise InputError(f"options: device must be auto, cpu, mps, cuda or cuda:N, got {name!r}")


def require_apart(targets: list[Path], inputs: list[Path]) -> None:
    """Raise InputError where writing or replacing one of `targets` would touch an input: the same, or around it."""
    for source in inputs:
        place = source.resolve()
        for target in targets:
            own = target.resolve()
            if own == place or own in place.parents:
                raise InputError(f"output {target} must not be the input {source}, nor hold it: choose another name")


def _fault(name: str) -> str:
    """What a name must be and is not; empty: it is a plain file name."""
    if name in ("", ".", ".."):
        return "not be empty, . or .."
    if any(separator in name for separator in "/\\"):
        return "hold no / and no \\"
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "hold no control characters"
    if name.startswith(".") and name.endswith(IN_THE_MAKING):
        return f"not look like an output in the making ({', '.join(IN_THE_MAKING)})"
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST:
        return f"be at most {_LONGEST} bytes long"
    return ""
