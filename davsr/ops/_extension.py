"""Finds and loads the compiled extension, and says what runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

import torch


class Backend(NamedTuple):
    """What computes the ops on one kind of device, and why."""

    name: str  # "cpu-avx512", "cpu-avx2", "cpu-baseline", "cuda" or "reference"
    reason: str

    def __str__(self) -> str:
        return f"ops backend: {self.name} ({self.reason})"


# What csrc/schema.cpp registers. An extension of another version lacks some of it, and is not used at all.
_REGISTERED = (
    "deform_align",
    "deform_align_backward",
    "fourier_division",
    "fourier_division_backward",
    "motion_mismatch",
    "motion_mismatch_backward",
    "motion_blend",
    "motion_blend_backward",
    "flatten",
    "flatten_backward",
    "to_cells",
    "add_cells_",
    "conv3x3",
    "cpu_levels",
    "has_cuda",
    "built_for",
)
_AGAIN = "build it again: pip install --no-build-isolation --force-reinstall --no-deps ."


def _load() -> str:
    """Load the extension. Returns why it is missing, or an empty string."""
    if os.environ.get("DAVSR_REFERENCE", "0") == "1":
        return "DAVSR_REFERENCE=1"
    folder = Path(os.environ.get("DAVSR_EXTENSION_FOLDER", Path(__file__).resolve().parent.parent))
    found = [folder / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES if (folder / f"_C{suffix}").is_file()]
    if not found:
        return f"the extension is not built; with a C++ compiler {_AGAIN}"
    try:
        torch.ops.load_library(str(found[0]))
    except OSError as error:  # built against another torch, typically: an undefined symbol
        return f"{found[0].name} does not load into torch {torch.__version__}: {error}; {_AGAIN}"
    absent = [name for name in _REGISTERED if not hasattr(torch.ops.davsr, name)]
    if absent:
        return f"{found[0].name} is of another davsr and lacks {', '.join(absent)}; {_AGAIN}"
    built_for = torch.ops.davsr.built_for()
    if built_for.split(".")[:2] != torch.__version__.split(".")[:2]:  # torch promises no binary interface between them
        return f"{found[0].name} was built for torch {built_for}, this is {torch.__version__}; {_AGAIN}"
    return ""


# Found at import, and constant from then on: torch.compile and torch.export see a plain choice.
_MISSING = _load()
_DEVICES = () if _MISSING else ("cpu", "cuda") if torch.ops.davsr.has_cuda() else ("cpu",)


def when_loaded(register: Callable[[], None]) -> None:
    """Where there is an extension, let an op add its fake and its derivative."""
    if not _MISSING:
        register()


def available(device_type: str) -> bool:
    """Whether the extension has kernels for tensors of this device type."""
    return device_type in _DEVICES


@cache
def _backend(device_type: str) -> Backend:
    if _MISSING:
        return Backend("reference", _MISSING)
    if not available(device_type):
        return Backend("reference", f"the extension has no kernels for {device_type} tensors")
    if device_type == "cuda":
        return Backend("cuda", "compiled kernels")
    return Backend(f"cpu-{torch.ops.davsr.cpu_levels()[0]}", f"compiled kernels, {torch.get_num_threads()} threads")


def backend(device: str | torch.device = "cpu") -> Backend:
    """What runs the ops for tensors on ``device``, and the reason (``conv3x3`` is compiled for CPUs alone)."""
    return _backend(torch.device(device).type)


@cache
def log_backend(device: str | torch.device = "cpu") -> None:
    """Write the backend's line to the ``davsr`` logger, once per process and device."""
    chosen = backend(device)
    level = logging.WARNING if chosen.name == "reference" else logging.INFO
    logging.getLogger("davsr").log(level, str(chosen))
