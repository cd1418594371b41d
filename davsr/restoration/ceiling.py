"""What a process has freed and kept goes back to the system where it would take more memory than it was to.

A network's volumes come and go in another order than they fit into each other's places: between those that are there,
holes stay that were written to. What is kept for the next volume (`davsr.runtime.keep_freed_memory`) is a fifth of all
then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import PAGESIZE
from pathlib import Path

from davsr.runtime import return_freed_memory

_LOOK = 0.02  # seconds: in it a volume that is written for the first time grows by some 50 MB
# Of what is resident: by how much it grows before all is looked through again, and after a while, in seconds. What a
# layer of a network frees, about a twentieth, the next one takes: that is not to come fresh every time.
_STEP, _LATER, _WHILE = 1 / 12, 1 / 24, 4.0
_STATM = Path("/proc/self/statm")


def resident_memory() -> float | None:
    """Bytes of this process that lie in memory; None where nothing tells (Linux does)."""
    try:
        return float(_STATM.read_text().split()[1]) * PAGESIZE
    except OSError:
        return None


@contextmanager
def kept_below(ceiling: float, *, begin: bool = False) -> Iterator[threading.Event]:
    """While the block runs, what is free goes back whenever more than `ceiling` bytes are resident, as they grow.

    Costs a few tenths of a second for each GB that is taken again.

    Args:
        begin: also before the block, however little is resident.

    Yields:
        An event that is set when something has gone back during the block.
    """
    resident, done, returned = resident_memory(), threading.Event(), threading.Event()
    if begin or (resident is not None and resident > ceiling):
        return_freed_memory()
    if resident is None:
        yield returned
        return

    began = resident_memory() or 0.0  # here: the thread may begin to run when the block has long taken memory

    def watch() -> None:
        least, looks = began, 0  # since the last time that something went back
        while not done.wait(_LOOK):
            looks += 1
            now = resident_memory() or 0.0
            least = min(least, now)
            if now > ceiling and now - least > now * (_LATER if looks * _LOOK > _WHILE else _STEP):
                return_freed_memory()
                least = resident_memory() or 0.0
                looks = 0
                returned.set()

    thread = threading.Thread(target=watch, name="davsr-ceiling", daemon=True)
    thread.start()
    try:
        yield returned
    finally:
        done.set()
        thread.join()
