"""The parts of the average along the motion, for callers who weigh neighbours themselves: see ``_motion_average``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._extension import dense
from davsr.ops._grid import sample, sampling_grid

_DTYPES = (torch.float32, torch.float64)
MOST_STEPS = 16


def motion_mismatch(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    *,
    cell: tuple[int, int],
    steps: Sequence[int],
) -> Tensor:
    """Mean squared difference e [b, steps, T, h, w] of every frame and its neighbours, moved to it; differentiable."""
    check("motion_mismatch", a, motion, steps)
    check_cell("motion_mismatch", a, cell)
    if not _extension.available(a.device.type):
        return motion_mismatch_reference(a, motion, cell=cell, steps=steps)
    error: Tensor = torch.ops.davsr.motion_mismatch(a, motion, list(cell), list(steps))
    return error


def motion_mismatch_reference(a: Tensor, motion: Tensor, *, cell: tuple[int, int], steps: Sequence[int]) -> Tensor:
    """``motion_mismatch`` in plain PyTorch."""
    check("motion_mismatch", a, motion, steps)
    check_cell("motion_mismatch", a, cell)
    b, _, T, H, W = a.shape
    errors = []
    for step in steps:
        low, high, neighbour = _neighbour(a, motion, step)
        error = a.new_zeros(b, T, H // cell[0], W // cell[1])
        if neighbour is not None:
            square = (neighbour - a[:, :, low:high].transpose(1, 2)).square().mean(dim=2)
            error = torch.cat([error[:, :low], F.avg_pool2d(square, cell), error[:, high:]], dim=1)
        errors.append(error)
    return torch.stack(errors, dim=1)


def motion_blend(
    a: Tensor,  # [b, c, T, H, W]
    motion: Tensor,  # [b, T, 2, H, W]
    weight: Tensor,  # [b, steps, T, h, w]
    *,
    steps: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Mean [b, c, T, H, W] of every frame and its neighbours, moved to it and weighted, and the support [b, T, H,
    W].
    """
    check("motion_blend", a, motion, steps)
    _check_weight(a, weight, steps)
    if not _extension.available(a.device.type):
        return motion_blend_reference(a, motion, weight, steps=steps)
    mean, support = torch.ops.davsr.motion_blend(a, motion, weight, list(steps))
    return mean, support


def motion_blend_reference(a: Tensor, motion: Tensor, weight: Tensor, *, steps: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``motion_blend`` in plain PyTorch."""
    check("motion_blend", a, motion, steps)
    _check_weight(a, weight, steps)
    b, _, T, H, W = a.shape
    total, support = a.transpose(1, 2), a.new_ones(b, T, 1, H, W)
    for k, step in enumerate(steps):
        low, high, neighbour = _neighbour(a, motion, step)
        if neighbour is not None:
            raised = F.interpolate(weight[:, k, low:high], size=(H, W), mode="bilinear", align_corners=False)[
                :, :, None
            ]
            around = (0, 0, 0, 0, 0, 0, low, T - high)
            total = total + F.pad(raised * neighbour, around)
            support = support + F.pad(raised, around)
    return (total / support).transpose(1, 2), support[:, :, 0]


def _neighbour(a: Tensor, motion: Tensor, step: int) -> tuple[int, int, Tensor | None]:
    """Frames [low, high) that have a neighbour at `step`, and it, moved to them: [b, high - low, c, H, W]."""
    b, _, T = a.shape[:3]
    low, high = max(0, -step), min(T, T - step)
    if low >= high:
        return 0, 0, None
    moved = sample(
        a[:, :, low + step : high + step].transpose(1, 2).flatten(0, 1),
        sampling_grid(step * motion[:, low:high].flatten(0, 1)),
        padding="border",
    )
    return low, high, moved.unflatten(0, (b, high - low))


def check(op: str, a: Tensor, motion: Tensor, steps: Sequence[int]) -> None:
    """Whether video, motion and steps belong together; raises ValueError in the name of `op`."""
    if a.dim() != 5 or min(a.shape[1:]) == 0:
        raise ValueError(f"{op}: a must be [b, c, T, H, W], got {list(a.shape)}")
    if a.dtype not in _DTYPES:
        raise ValueError(f"{op}: a must be float32 or float64, got {a.dtype}")
    b, _, T, H, W = a.shape
    if motion.shape != (b, T, 2, H, W):
        raise ValueError(f"{op}: motion must be [b, T, 2, H, W] = {[b, T, 2, H, W]}, got {list(motion.shape)}")
    _check_like(op, "motion", motion, a)
    if not 0 < len(steps) <= MOST_STEPS:
        raise ValueError(f"{op}: steps must be 1 to {MOST_STEPS} distances, got {list(steps)}")


def check_cell(op: str, a: Tensor, cell: tuple[int, int]) -> None:
    """Whether a cell fits into the frames of `a`; raises ValueError in the name of `op`."""
    H, W = a.shape[3:]
    if len(cell) != 2 or not (1 <= cell[0] <= H and 1 <= cell[1] <= W):
        raise ValueError(f"{op}: cell must be two sides within the frame of {H}x{W}, got {cell}")


def _check_weight(a: Tensor, weight: Tensor, steps: Sequence[int]) -> None:
    b, _, T, H, W = a.shape
    fits = weight.dim() == 5 and weight.shape[:3] == (b, len(steps), T)
    if not fits or not (1 <= weight.shape[3] <= H and 1 <= weight.shape[4] <= W):
        raise ValueError(
            f"motion_blend: weight must be [b, steps, T, h, w] = {[b, len(steps), T]} and cells of at least a pixel, "
            f"got {list(weight.shape)}"
        )
    _check_like("motion_blend", "weight", weight, a)


def _check_like(op: str, name: str, tensor: Tensor, a: Tensor) -> None:
    if tensor.dtype != a.dtype or tensor.device != a.device:
        raise ValueError(f"{op}: {name} must be {a.dtype} on {a.device}, like a, got {tensor.dtype} on {tensor.device}")


def _register() -> None:
    """Shapes for tracing, and the derivatives. Called once, after the extension has been loaded."""

    @torch.library.register_fake("davsr::motion_mismatch")
    def _(a: Tensor, motion: Tensor, cell: Sequence[int], steps: Sequence[int], level: str | None = None) -> Tensor:
        b, _, T, H, W = a.shape
        return a.new_empty(b, len(steps), T, H // cell[0], W // cell[1])

    @torch.library.register_fake("davsr::motion_mismatch_backward")
    def _(
        grad: Tensor,
        a: Tensor,
        motion: Tensor,
        cell: Sequence[int],
        steps: Sequence[int],
        motion_gradient: bool,
        level: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        return dense(a), dense(motion) if motion_gradient else motion.new_empty(0)

    @torch.library.register_fake("davsr::motion_blend")
    def _(
        a: Tensor, motion: Tensor, weight: Tensor, steps: Sequence[int], level: str | None = None
    ) -> tuple[Tensor, Tensor]:
        b, _, T, H, W = a.shape
        return dense(a), a.new_empty(b, T, H, W)

    @torch.library.register_fake("davsr::motion_blend_backward")
    def _(
        d_mean: Tensor,
        d_support: Tensor,
        a: Tensor,
        motion: Tensor,
        weight: Tensor,
        mean: Tensor,
        support: Tensor,
        steps: Sequence[int],
        motion_gradient: bool,
        level: str | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return dense(a), dense(weight), dense(motion) if motion_gradient else motion.new_empty(0)

    def keep_for_mismatch(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, motion, ctx.cell, ctx.steps, ctx.level = inputs
        ctx.save_for_backward(a, motion)

    def mismatch_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1]
        d_a, d_motion = torch.ops.davsr.motion_mismatch_backward(
            grad, *ctx.saved_tensors, ctx.cell, ctx.steps, wanted, ctx.level
        )
        return d_a, d_motion if wanted else None, None, None, None

    def keep_for_blend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        a, motion, weight, ctx.steps, ctx.level = inputs
        ctx.save_for_backward(a, motion, weight, *output)

    def blend_backward(ctx: Any, d_mean: Tensor, d_support: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1]
        d_a, d_weight, d_motion = torch.ops.davsr.motion_blend_backward(
            d_mean, d_support, *ctx.saved_tensors, ctx.steps, wanted, ctx.level
        )
        return d_a, d_motion if wanted else None, d_weight, None, None

    torch.library.register_autograd("davsr::motion_mismatch", mismatch_backward, setup_context=keep_for_mismatch)
    torch.library.register_autograd("davsr::motion_blend", blend_backward, setup_context=keep_for_blend)


_extension.when_loaded(_register)
