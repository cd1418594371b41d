"""The data step in residual form, as one function whose derivative is one data step more.

    u = (A A^T + alpha I)^-1 (y - A x),    z = x + A^T u

Autograd of its parts goes over the large video more often, and on a GPU waits for more launches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from davsr.physics.precision import full_precision

# (x, y, alpha, out) -> z, u; y may be None: zero. z into out where there is one.
Step = Callable[[Tensor, Tensor | None, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def residual_data_step(step: Step, x: Tensor, y: Tensor, alpha: Tensor, out: Tensor | None = None) -> Tensor:
    """z like x, into `out` where there is one; differentiable in x, y and alpha without it.

    x [b, c, T, H, W], y [b, c, t, h, w], alpha [b].
    """
    wanted = torch.is_grad_enabled() and any(v.requires_grad for v in (x, y, alpha))
    if out is None and wanted and not torch.compiler.is_compiling():
        z: Tensor = _ResidualForm.apply(x, y, alpha, step)[0]
        return z
    return step(x, y, alpha, out)[0]


class _ResidualForm(torch.autograd.Function):
    """z and u. With their gradients g and g_u:

    v = (A A^T + alpha I)^-1 (A g + g_u),    of x: g - A^T v,    of y: v,    of alpha: -<v, u>

    which is a data step from g for what was observed as -g_u: that has -v for u.
    """

    @staticmethod
    def forward(x: Tensor, y: Tensor, alpha: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        return step(x, y, alpha, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[2], output[1])
        ctx.step, ctx.sizes = inputs[3], inputs[0].shape

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        alpha, u = ctx.saved_tensors
        of_z, of_u = grads  # of u: in second derivatives alone
        if of_z is None and of_u is None:
            return None, None, None, None
        with full_precision(u):
            start = u.new_zeros(ctx.sizes) if of_z is None else of_z
            of_x, less = ctx.step(start, None if of_u is None else -of_u, alpha, None)
            of_alpha = (less * u).sum(dim=(1, 2, 3, 4)) if ctx.needs_input_grad[2] else None
        return of_x, -less, of_alpha, None
