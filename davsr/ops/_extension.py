"""Finds and loads the compiled extension, and says what runs."""

from __future__ import annotations

import logging
import os
import re
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
    "motion_average",
    "motion_average_backward",
    "motion_average_",
    "flatten",
    "flatten_",
    "flatten_backward",
    "motion_round_",
    "learned_round_",
    "trusted_average_kept",
    "trusted_average_backward_",
    "flatten_with_detail",
    "flatten_with_detail_backward",
    "momentum_backward_",
    "warp_between_",
    "fusion_cells",
    "fusion_pixels",
    "camera",
    "camera_adjoint",
    "camera_adjoint_",
    "data_step_",
    "conv3x3",
    "conv3x3_points",
    "conv3x3_weight_gradient",
    "cpu_levels",
    "has_cuda",
    "built_for",
)
_BUILT_FOR = re.compile(rb"davsr: built for torch ([\w.+-]+)")  # as csrc/schema.cpp has it
_AGAIN = "build it again in davsr's sources: pip install --no-build-isolation --force-reinstall --no-deps ."


def _load() -> str:
    """Load the extension. Returns why it is missing, or an empty string."""
    if os.environ.get("DAVSR_REFERENCE", "0") == "1":
        return "DAVSR_REFERENCE=1"
    folder = Path(os.environ.get("DAVSR_EXTENSION_FOLDER", Path(__file__).resolve().parent.parent))
    found = [folder / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES if (folder / f"_C{suffix}").is_file()]
    if not found:
        return f"the extension is not built; with a C++ compiler {_AGAIN}"
    said = _BUILT_FOR.search(found[0].read_bytes())  # only those of before version 0.2.0 do not say it
    if said and (wrong := _of_another_torch(found[0].name, said[1].decode())):
        return wrong
    try:
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        return f"{found[0].name} does not load into torch {torch.__version__}: {error}; {_AGAIN}"
    absent = [name for name in _REGISTERED if not hasattr(torch.ops.davsr, name)]
    if absent:
        return f"{found[0].name} is of another davsr and lacks {', '.join(absent)}; {_AGAIN}"
    return _of_another_torch(found[0].name, torch.ops.davsr.built_for())


def _of_another_torch(library: str, built_for: str) -> str:
    """What to do about an extension for another torch, or nothing: torch promises no binary interface between its minor
    versions.
    """
    minor = ".".join(built_for.split(".")[:2])
    if minor == ".".join(torch.__version__.split(".")[:2]):
        return ""
    return (
        f"{library} was built for torch {built_for}, this is {torch.__version__}: PyTorch's own operations run, slower, "
        f"with the same results; install torch {minor}, or {_AGAIN}"
    )


# Found at import, and constant from then on: torch.compile and torch.export see a plain choice.
_MISSING = _load()
_DEVICES = () if _MISSING else ("cpu", "cuda") if torch.ops.davsr.has_cuda() else ("cpu",)


def serves_without_gradient(*tensors: torch.Tensor) -> bool:
    """Whether a kernel for float32 on the CPU that has no derivative may take these tensors."""
    return (
        all(v.device.type == "cpu" and v.dtype == torch.float32 for v in tensors)
        and not (torch.is_grad_enabled() and any(v.requires_grad for v in tensors))
        and not torch.compiler.is_compiling()
        and available("cpu")
    )


def when_loaded(register: Callable[[], None]) -> None:
    """Where there is an extension, let an op add its fake and its derivative."""
    if not _MISSING:
        register()


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """Memory for a dense tensor of the same sizes."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


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


def log_backend(device: str | torch.device = "cpu") -> None:
    """Write the backend's line to the ``davsr`` logger, once per process and kind of device."""
    _log_backend(torch.device(device).type)


@cache
def _log_backend(device_type: str) -> None:
    chosen = _backend(device_type)
    level = logging.WARNING if chosen.name == "reference" else logging.INFO
    logging.getLogger("davsr").log(level, str(chosen))
