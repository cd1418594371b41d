"""A camera that is a product of three axes, and its transpose, in one pass over the large video each.

Along every axis, LR sample i is a sum of neighbouring HR samples, which beyond the border are mirrored or periodic:

    (A x)_i = sum_k taps[k] x[scale i + start + k]

Linear: each op is the other's derivative. On a GPU each axis is one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from davsr.ops import _extension

_DTYPES = (torch.float32, torch.float64)


class Axes(NamedTuple):
    """What the camera does along time, rows and columns: three of each."""

    taps: tuple[tuple[float, ...], ...]
    start: tuple[int, ...]  # of the first tap, HR samples from scale i
    scale: tuple[int, ...]
    circular: bool  # beyond the borders: periodic, or half-sample symmetric


def camera_compiled(x: Tensor) -> bool:
    """Whether `camera` and `camera_adjoint` have kernels for tensors like x."""
    return x.dtype in _DTYPES and _extension.available(x.device.type)


def camera(x: Tensor, axes: Axes, y: Tensor | None = None) -> Tensor:
    """A x [b, c, t, h, w] of x [b, c, T, H, W], or y - A x; differentiable.

    Raises:
        ValueError: the sizes do not belong together, or a dtype is not float32 or float64.
    """
    _check("camera", "x", x)
    if any(n % s for n, s in zip(x.shape[2:], axes.scale, strict=True)):
        raise ValueError(f"camera: (T, H, W) of x must be multiples of the scale {axes.scale}, got {list(x.shape)}")
    low = [*x.shape[:2], *(n // s for n, s in zip(x.shape[2:], axes.scale, strict=True))]
    _check_sizes("camera", "y", y, low, x)
    if not camera_compiled(x):
        return camera_reference(x, axes, y)
    made: Tensor = torch.ops.davsr.camera(x, y, *axes.taps, axes.start, axes.scale, axes.circular)
    return made


def camera_adjoint(y: Tensor, axes: Axes, x: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """A^T y [b, c, T, H, W] of y [b, c, t, h, w], or x + A^T y; differentiable.

    Args:
        out: memory for x + A^T y, possibly x itself, where no derivative is wanted.

    Raises:
        ValueError: as `camera`.
    """
    _check("camera_adjoint", "y", y)
    high = [*y.shape[:2], *(n * s for n, s in zip(y.shape[2:], axes.scale, strict=True))]
    _check_sizes("camera_adjoint", "x", x, high, y)
    if not camera_compiled(y):
        made = camera_adjoint_reference(y, axes, x)
        return made if out is None else out.copy_(made)
    rest = (*axes.taps, axes.start, axes.scale, axes.circular)
    if out is not None:
        torch.ops.davsr.camera_adjoint_(out, y, None if x is out else x, *rest)
        return out
    spread: Tensor = torch.ops.davsr.camera_adjoint(y, x, *rest)
    return spread


def camera_reference(x: Tensor, axes: Axes, y: Tensor | None = None) -> Tensor:
    """``camera`` in plain PyTorch, differentiable by autograd."""
    for dim, taps, start, scale in zip((2, 3, 4), axes.taps, axes.start, axes.scale, strict=True):
        places = _places(x.shape[dim], len(taps), start, scale, axes.circular).to(x.device)
        x = (x.index_select(dim, places).unfold(dim, len(taps), scale) * x.new_tensor(taps)).sum(dim=-1)
    return x if y is None else y - x


def camera_adjoint_reference(y: Tensor, axes: Axes, x: Tensor | None = None) -> Tensor:
    """``camera_adjoint`` in plain PyTorch, differentiable by autograd."""
    for dim, taps, start, scale in zip((2, 3, 4), axes.taps, axes.start, axes.scale, strict=True):
        places = _places(scale * y.shape[dim], len(taps), start, scale, axes.circular).to(y.device)
        spread = y.new_zeros(*y.shape[:dim], scale * y.shape[dim], *y.shape[dim + 1 :])
        for k, weight in enumerate(taps):
            spread = spread.index_add(dim, places[k:][::scale][: y.shape[dim]], weight * y)
        y = spread
    return y if x is None else x + y


def _places(size: int, taps: int, start: int, scale: int, circular: bool) -> Tensor:
    """The HR samples at positions start, start + 1, ... that an axis of `size` HR samples has taps at."""
    positions = start + torch.arange(size - scale + taps)
    if circular:
        return positions % size
    folded = positions % (2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def _check(op: str, name: str, video: Tensor) -> None:
    if video.dim() != 5 or min(video.shape[1:]) == 0:
        raise ValueError(f"{op}: {name} must be [b, c, T, H, W], got {list(video.shape)}")
    if video.dtype not in _DTYPES:
        raise ValueError(f"{op}: {name} must be float32 or float64, got {video.dtype}")


def _check_sizes(op: str, name: str, other: Tensor | None, sizes: list[int], like: Tensor) -> None:
    if other is not None and (list(other.shape) != sizes or other.dtype != like.dtype):
        raise ValueError(f"{op}: {name} must be {sizes} of {like.dtype}, got {list(other.shape)} of {other.dtype}")


def _register() -> None:
    """Shapes for tracing, and the derivatives. Called once, after the extension has been loaded."""

    @torch.library.register_fake("davsr::camera")
    def _(
        x: Tensor,
        y: Tensor | None,
        time: Sequence[float],
        rows: Sequence[float],
        columns: Sequence[float],
        start: Sequence[int],
        scale: Sequence[int],
        circular: bool,
        level: str | None = None,
    ) -> Tensor:
        return x.new_empty(*x.shape[:2], *(n // s for n, s in zip(x.shape[2:], scale, strict=True)))

    @torch.library.register_fake("davsr::camera_adjoint")
    def _(
        y: Tensor,
        x: Tensor | None,
        time: Sequence[float],
        rows: Sequence[float],
        columns: Sequence[float],
        start: Sequence[int],
        scale: Sequence[int],
        circular: bool,
        level: str | None = None,
    ) -> Tensor:
        return y.new_empty(*y.shape[:2], *(n * s for n, s in zip(y.shape[2:], scale, strict=True)))

    @torch.library.register_fake("davsr::camera_adjoint_")
    def _(
        out: Tensor,
        y: Tensor,
        x: Tensor | None,
        time: Sequence[float],
        rows: Sequence[float],
        columns: Sequence[float],
        start: Sequence[int],
        scale: Sequence[int],
        circular: bool,
        level: str | None = None,
    ) -> None:
        return None

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.subtracted, *ctx.rest = inputs
        ctx.subtracted = ctx.subtracted is not None

    def camera_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_x = torch.ops.davsr.camera_adjoint(-grad if ctx.subtracted else grad, None, *ctx.rest)
        return d_x, grad if ctx.subtracted else None, *[None] * 7

    def adjoint_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ops.davsr.camera(grad, None, *ctx.rest), grad if ctx.subtracted else None, *[None] * 7

    torch.library.register_autograd("davsr::camera", camera_backward, setup_context=keep)
    torch.library.register_autograd("davsr::camera_adjoint", adjoint_backward, setup_context=keep)


_extension.when_loaded(_register)
