"""The data step in residual form, as one function whose derivative is one data step more.

    u = (A A^T + alpha I)^-1 (y - A x),    z = x + A^T u

Autograd of its parts goes over the large video more often, and on a GPU waits for more launches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from davsr.physics.precision import full_precision


class StepParts(NamedTuple):
    """What the data step of an operator A is made of; x [b, c, T, H, W], y [b, c, t, h, w], alpha [b]."""

    apply: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    misfit: Callable[[Tensor, Tensor], Tensor]  # of x, y: y - A x
    add_adjoint: Callable[[Tensor, Tensor, Tensor | None], Tensor]  # of x, y, out: x + A^T y
    solve: Callable[[Tensor, Tensor], Tensor]  # of r, alpha: (A A^T + alpha I)^-1 r


def residual_data_step(A: StepParts, x: Tensor, y: Tensor, alpha: Tensor, out: Tensor | None = None) -> Tensor:
    """z like x, into `out` where there is one; differentiable in x, y and alpha without it."""
    wanted = torch.is_grad_enabled() and any(v.requires_grad for v in (x, y, alpha))
    if out is None and wanted and not torch.compiler.is_compiling():
        z: Tensor = _ResidualForm.apply(x, y, alpha, A)[0]
        return z
    return A.add_adjoint(x, A.solve(A.misfit(x, y), alpha), out)


class _ResidualForm(torch.autograd.Function):
    """z and u. With their gradients g and g_u:

    v = (A A^T + alpha I)^-1 (A g + g_u),    of x: g - A^T v,    of y: v,    of alpha: -<v, u>
    """

    @staticmethod
    def forward(x: Tensor, y: Tensor, alpha: Tensor, A: StepParts) -> tuple[Tensor, Tensor]:
        u = A.solve(A.misfit(x, y), alpha)
        return A.add_adjoint(x, u, None), u

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[2], output[1])
        ctx.A = inputs[3]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        alpha, u = ctx.saved_tensors
        A: StepParts = ctx.A
        of_z, of_u = grads  # of u: in second derivatives alone
        with full_precision(u):
            seen = [v for v in (of_u, None if of_z is None else A.apply(of_z)) if v is not None]
            if not seen:
                return None, None, None, None
            v = A.solve(sum(seen[1:], seen[0]), alpha)
            less = -v
            of_x = of_alpha = None
            if ctx.needs_input_grad[0]:
                of_x = A.adjoint(less) if of_z is None else A.add_adjoint(of_z, less, None)
            if ctx.needs_input_grad[2]:
                of_alpha = (less * u).sum(dim=(1, 2, 3, 4))
        return of_x, v, of_alpha, None
