"""Memory for results that nobody gave memory for."""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad

_LARGE = 2**22  # bytes: two large pages of x86
_MADV_HUGEPAGE = 14  # of Linux


def fresh_like(x: Tensor) -> Tensor | None:
    """Memory like x, contiguous, for an operation to write to; None where it should find its own.

    Linux is asked for large pages, as NumPy does for its arrays: memory that comes fresh from the system then costs one
    fault for 2 MiB instead of 512.
    """
    if x.device.type != "cpu" or x.nbytes < _LARGE or torch.compiler.is_compiling() or type(x) is not Tensor:
        return None
    if torch.is_grad_enabled() or forward_ad._current_level >= 0 or _functorch.peek_interpreter_stack() is not None:
        return None  # derivatives and transformations have no `out`
    out = torch.empty(x.shape, dtype=x.dtype)
    _ask_for_large_pages(out)
    return out


def _ask_for_large_pages(x: Tensor) -> None:
    advise = _madvise()
    if advise is not None:  # advice: where it is refused, small pages come
        first = -(-x.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (x.data_ptr() + x.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        advise(first, last - first, _MADV_HUGEPAGE)


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
