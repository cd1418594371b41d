"""Which precision what is computed in, images and sums as the clip, convolutions as their weights; and where."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SLACK = 4096  # numbers


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """What images, flows, sums and the data step are computed in: float64 if any of these tensors is, else float32."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def like_weights(x: Tensor, module: nn.Module) -> Tensor:
    """x in the precision of a module's weights, for its convolutions to take; what has no weights takes x as it is."""
    weight = next(module.parameters(), None)
    return x if weight is None else x.to(weight.dtype)


def needs_gradient(module: nn.Module, *inputs: Tensor | None) -> bool:
    """Whether a derivative is wanted of these inputs, or of the module's weights: memory then cannot be used again."""
    if not torch.is_grad_enabled():
        return False
    return any(x is not None and x.requires_grad for x in (*inputs, *module.parameters()))


def share_memory(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors lie in the same memory, as an estimate and what was observed may at scale 1."""
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


def empty_volume(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Memory for a video in whose place, once it is freed, another of the same size fits.

    The C library (glibc) looks for more than a tensor's size to align it in: a hole of exactly that size stays empty.
    """
    size = math.prod(shape)
    return like.new_empty(size + _SLACK, dtype=dtype)[:size].view(shape)
