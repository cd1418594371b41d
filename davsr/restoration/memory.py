"""Memory that is free, as the system, the container and the GPU tell it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

from davsr.log import logger

_UNKNOWN = 2 * 2**30  # bytes that are taken to be free where nothing tells


def free_memory(device: torch.device) -> float:
    """Bytes that this process may still take on the device; on the CPU the least of what system and container leave."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return max(min(free_in_system(), *free_in_containers()), 0.0)


def free_in_system(proc: Path = Path("/proc")) -> float:
    """Bytes that the system could give: Linux tells, Windows too; of others half of what is installed."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass  # not Linux
    kernel = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    if kernel is not None:
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        if kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
            return float(status.available)
    sysconf = getattr(os, "sysconf", None)  # not on Windows
    if sysconf is not None:
        return float(sysconf("SC_PAGE_SIZE") * sysconf("SC_PHYS_PAGES")) / 2
    logger.warning(f"memory: nothing tells how much is free; planning for {_UNKNOWN / 2**30:g} GB, see restore.memory")
    return float(_UNKNOWN)


def free_in_containers(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> list[float]:
    """Bytes that each limited control group around this process leaves, of version 1 and 2.

    Pages of files count as used there, though the kernel takes them back before it refuses anything: they are free.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2, also beside version 1
            roots, names = [groups, groups / "unified"], ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            roots, names = [groups / "memory"], ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        for root in roots:
            # The path may be the host's, of which the container sees only the end; limits of outer groups hold as well.
            inner = Path(path.lstrip("/"))
            folders = [root / part for part in (inner, *inner.parents)]
            left += [
                free for free in (_left_in(folder, *names) for folder in dict.fromkeys(folders)) if free is not None
            ]
    return left


def _left_in(folder: Path, limit: str, used: str, prefix: str) -> float | None:
    """What one control group leaves; None where it has no limit, or is not there."""
    try:
        limited, taken = (float((folder / name).read_text()) for name in (limit, used))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or `max`
        return None
    files = sum(float(statistics.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
    return limited - max(taken - files, 0.0)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        *((f"other_{n}", ctypes.c_uint64) for n in range(5)),
    )
