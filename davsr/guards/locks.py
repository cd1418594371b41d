"""One process at a time makes an output: locks that go with their holder."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from davsr.errors import InputError
from davsr.guards.names import beside

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FAR = 2**30  # the byte that is locked on Windows, where a locked byte cannot be read
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
# The system's locks do not keep a process from itself.
_HELD: set[Path] = set()
_HELD_GUARD = threading.Lock()


@contextmanager
def locked(output: str | Path) -> Iterator[None]:
    """Hold `.name.lock` beside an output while it is made; folders above it are made, and go again if they stay empty.

    The system frees the lock when its holder ends, however it ends, so that one left by a killed process is simply
    taken over: there is nothing to wait for. The file names the holder's process and host.

    Raises:
        InputError: another process, or another thread of this one, is making the output.
    """
    lock = beside(Path(output), ".", ".lock")
    lock = lock.parent.resolve() / lock.name
    with _HELD_GUARD:
        if lock in _HELD:
            raise InputError(f"output {output} is being made by this process already")
        _HELD.add(lock)
    made = [folder for folder in lock.parents if not folder.exists()]
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(lock, output)
        try:
            yield
        finally:
            _release(lock, descriptor)
    finally:
        _HELD.discard(lock)
        for folder in made:
            with suppress(OSError):  # it holds what was made
                folder.rmdir()


def _acquire(lock: Path, output: str | Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if not _try(descriptor):
            holder = _holder(descriptor)
            os.close(descriptor)
            raise InputError(f"output {output} is being made by {holder}: wait for it, or choose another output")
        # A holder that ended between opening and locking has removed this very file: then the next one counts.
        if _is_open_at(lock, descriptor):
            break
        os.close(descriptor)
    with suppress(OSError):  # on a full disk the lock holds without a name in it
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    return descriptor


def _release(lock: Path, descriptor: int) -> None:
    if sys.platform == "win32":  # an open file cannot be removed there
        os.close(descriptor)
        with suppress(OSError):  # the next holder has it open
            lock.unlink()
        return
    if _is_open_at(lock, descriptor):
        with suppress(OSError):  # the folder has become read-only: a lock that nobody holds hinders nobody
            lock.unlink()
    os.close(descriptor)


def _is_open_at(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _try(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            # A lock of the process, which forked workers do not inherit: they may outlive it for a while.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in _UNSUPPORTED:  # a file system without locks: by the name that is written in it
            return not _is_alive(descriptor)
        return False


def _written(descriptor: int) -> tuple[int, str] | None:
    """Process and host that the file names."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        tree = json.loads(os.read(descriptor, 1000))
        return int(tree["pid"]), str(tree["host"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _holder(descriptor: int) -> str:
    written = _written(descriptor)
    return f"process {written[0]} on {written[1]}" if written else "another process"


def _is_alive(descriptor: int) -> bool:
    written = _written(descriptor)
    if written is None or written[1] != socket.gethostname() or written[0] == os.getpid():
        return False
    try:
        os.kill(written[0], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
