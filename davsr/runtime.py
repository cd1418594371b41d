"""Device, threads, precision and seed: decided here, once, for training, testing and restoration."""

from __future__ import annotations

import ctypes
import random
import sys
from typing import Literal

import numpy as np
import torch

from davsr.errors import InputError
from davsr.log import logger
from davsr.ops import log_backend
from davsr.options import Options

Precision = Literal["float32", "bfloat16", "float16"]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def setup(options: Options, *, rank: int = 0) -> torch.device:
    """Apply `options.device`, `threads`, `precision` and `seed`; say in the log what runs.

    Args:
        options: the run's options.
        rank: of this process among several on one machine; process i takes CUDA device i.

    Raises:
        InputError: when the device is not there or cannot work in the precision.
    """
    device = choose_device(options.device, rank)
    require_precision(options.precision, device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    seed(options.seed + rank)
    logger.info(f"torch {torch.__version__} on {describe(device)}, {options.precision}")
    log_backend(device)
    return device


def choose_device(name: str | torch.device, rank: int = 0) -> torch.device:
    """The device that an option names; `auto`: CUDA, then MPS, then CPU; `cuda`: that of process `rank`.

    `cuda:1`: that one.

    Raises:
        InputError: there is no such device here.
    """
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if not torch.cuda.is_available():
        there["cuda"] = 0
    name = str(name)
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    kind, colon, number = name.partition(":")
    index = int(number) if number.isascii() and number.isdigit() else 0 if not colon else -1
    if not 0 <= index < there.get(kind, 0):
        known = [k if k != "cuda" or n == 1 else f"cuda:0 to cuda:{n - 1}" for k, n in there.items() if n]
        raise InputError(f"device: {name} is not available here; use auto or one of {', '.join(known)}")
    if kind != "cuda":
        return torch.device(kind)
    return torch.device("cuda", index if colon else rank % there["cuda"])


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raise InputError where autocast does not serve the precision on the device."""
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision: float16 must run on a GPU; on the CPU use bfloat16 or float32")
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError("precision: bfloat16 must run on a GPU that has it; here use float16 or float32")


def autocast(precision: Precision, device: torch.device | str) -> torch.autocast:
    """The context in which the network runs; the data step leaves it by itself."""
    kind = torch.device(device).type
    if precision == "float32":
        return torch.autocast(kind, enabled=False)
    return torch.autocast(kind, dtype=getattr(torch, precision))


def keep_freed_memory() -> None:
    """From here on the C library (glibc) keeps memory that is freed, instead of returning it to the system.

    A training step and every window of a restoration free gigabytes that the next one takes again, and every page that
    comes fresh from the system costs a fault: up to 8 % of a step's time on a CPU, up to two thirds of that of a window
    of large frames. Elsewhere, and with other allocators, nothing changes.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """What is freed by now goes back to the system, where `keep_freed_memory` kept it (glibc)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def seed(value: int) -> None:
    """Seed every generator that this package or its libraries may draw from."""
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 (libraries may draw from the global generator, and runs must repeat)
    torch.manual_seed(value)


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB)"
    if device.type == "mps":
        return "Apple GPU"
    return f"CPU, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> float:
    """The largest memory in use so far, GiB: of the GPU, or resident memory of this process; 0 where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows, which does not tell
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
