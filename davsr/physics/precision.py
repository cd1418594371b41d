"""The precision that A works in: float32 at least, whatever is around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision raised to float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Neither autocast nor, on a GPU, TF32, which keeps 10 bits of the mantissa of what is called float32."""
    off = torch.autocast(x.device.type, enabled=False)
    return off if x.device.type != "cuda" or torch.compiler.is_compiling() else _without_tf32(off)


@contextmanager
def _without_tf32(inner: AbstractContextManager[Any]) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        with inner:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
