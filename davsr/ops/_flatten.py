"""A step down the total variation of every frame, colours coupled (Rudin, Osher and Fatemi, 1992), smooth where it is
flat.

With u = D x the differences to the right and below, of all colours of a pixel, and q = |u|^2 + flat^2:

    x - step D^T (u / sqrt q)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._extension import dense

_DTYPES = (torch.float32, torch.float64)


def flatten(x: Tensor, step: Tensor | float, *, flat: float, out: Tensor | None = None) -> Tensor:
    """The step, [b, c, T, H, W] like x; differentiable in x and step.

    Args:
        x: frames, float32 or float64.
        step: its size.
        flat: gradient up to which total variation counts quadratically.
        out: memory for the result, like x and not x itself, where no derivative is wanted.

    Raises:
        ValueError: a shape or dtype does not fit, or `flat` is not positive.
    """
    _check(x, flat)
    if not _extension.available(x.device.type):
        made = flatten_reference(x, step, flat=flat)
        return made if out is None else out.copy_(made)
    step = torch.as_tensor(step, dtype=x.dtype, device=x.device)
    if out is not None:
        torch.ops.davsr.flatten_(out, x, step, flat)
        return out
    flattened: Tensor = torch.ops.davsr.flatten(x, step, flat)
    return flattened


def flatten_gradient(grad: Tensor, x: Tensor, step: Tensor, *, flat: float) -> Tensor:
    """The gradient of x for that of ``flatten``'s result, where the op is compiled."""
    of_x: Tensor = torch.ops.davsr.flatten_backward(grad, x, step, flat)[0]
    return of_x


def flatten_reference(x: Tensor, step: Tensor | float, *, flat: float) -> Tensor:
    """``flatten`` in plain PyTorch, differentiable by autograd."""
    _check(x, flat)
    dx, dy = torch.diff(x, dim=4), torch.diff(x, dim=3)
    square = F.pad(dx.square().sum(dim=1, keepdim=True), (0, 1)) + F.pad(
        dy.square().sum(dim=1, keepdim=True), (0, 0, 0, 1)
    )
    weight = (square + flat**2).rsqrt() * step
    dx, dy = dx * weight[..., :-1], dy * weight[..., :-1, :]
    return x + F.pad(dx, (0, 1)) - F.pad(dx, (1, 0)) + F.pad(dy, (0, 0, 0, 1)) - F.pad(dy, (0, 0, 1, 0))


def _check(x: Tensor, flat: float) -> None:
    if x.dim() != 5 or min(x.shape[1:]) == 0:
        raise ValueError(f"flatten: x must be [b, c, T, H, W], got {list(x.shape)}")
    if x.dtype not in _DTYPES:
        raise ValueError(f"flatten: x must be float32 or float64, got {x.dtype}")
    if not flat > 0:
        raise ValueError(f"flatten: flat must be above 0, got {flat}")


def _register() -> None:
    """Shapes for tracing, and the derivative. Called once, after the extension has been loaded."""

    @torch.library.register_fake("davsr::flatten")
    def _(x: Tensor, step: Tensor, flat: float, level: str | None = None) -> Tensor:
        return dense(x)

    @torch.library.register_fake("davsr::flatten_")
    def _(out: Tensor, x: Tensor, step: Tensor, flat: float, level: str | None = None) -> None:
        return None

    @torch.library.register_fake("davsr::flatten_backward")
    def _(grad: Tensor, x: Tensor, step: Tensor, flat: float, level: str | None = None) -> tuple[Tensor, Tensor]:
        return dense(x), dense(step)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, step, ctx.flat, ctx.level = inputs
        ctx.save_for_backward(x, step)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_x, d_step = torch.ops.davsr.flatten_backward(grad, *ctx.saved_tensors, ctx.flat, ctx.level)
        return d_x, d_step, None, None

    torch.library.register_autograd("davsr::flatten", backward, setup_context=setup_context)


_extension.when_loaded(_register)
