"""The closed form of the data step for a dense point-spread function and a circular boundary, on half spectra.

With X = rfftn(x) over (T, H, W), Y = rfftn(y) over (t, h, w), B the transfer function of exposure and point-spread
function:

    Z = X + conj(B) unfold( (Y - fold(B X)) / (fold(|B|^2) + alpha) )

the Woodbury form of argmin_z ||y - A z||^2 + alpha ||z - x||^2. fold is the mean over the s_t s_h s_w aliased blocks of
the
*full* spectrum, so rfftn(decimate(v)) = fold(rfftn(v)); unfold is its tiling back. A half spectrum holds the columns
0 .. W//2; the others follow from V[-p, -r, -q] = conj(V[p, r, q]), which holds for the spectra of real signals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._extension import dense

_DTYPES = (torch.complex64, torch.complex128)


def fourier_division(
    x_hat: Tensor,  # [b, c, T, H, W//2+1] complex
    y_hat: Tensor,  # [b, c, t, h, w//2+1] complex
    otf: Tensor,  # [T, H, W//2+1] complex
    alpha: Tensor,  # [b] real
    *,
    scale: tuple[int, int, int],
    width: int,
    gram: Tensor | None = None,  # [t, h, w//2+1] real
) -> Tensor:
    """Half spectrum Z [b, c, T, H, W//2+1] of the data step; differentiable in x_hat, y_hat, alpha, otf (and gram).

    Args:
        x_hat, y_hat: unnormalised ``rfftn`` of the HR estimate and of the LR observation.
        otf: B, the ``rfftn`` of the point-spread function placed at its origin.
        alpha: penalty of each sample of the batch.
        scale: (s_t, s_h, s_w).
        width: W, the full HR width (a half spectrum does not tell odd from even).
        gram: ``fold_power(otf, ...)`` where the caller keeps it; computed otherwise.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    _check(x_hat, y_hat, otf, alpha, gram, scale, width)
    if gram is None:
        gram = fold_power(otf, scale=scale, width=width)
    if not _extension.available(x_hat.device.type):
        return fourier_division_reference(x_hat, y_hat, otf, alpha, scale=scale, width=width, gram=gram)
    x, y, b = (torch.view_as_real(v.resolve_conj()) for v in (x_hat, y_hat, otf))
    z, _ = torch.ops.davsr.fourier_division(x, y, b, gram, alpha, list(scale), width)
    return torch.view_as_complex(z)


def fourier_division_reference(
    x_hat: Tensor,  # [b, c, T, H, W//2+1] complex
    y_hat: Tensor,  # [b, c, t, h, w//2+1] complex
    otf: Tensor,  # [T, H, W//2+1] complex
    alpha: Tensor,  # [b] real
    *,
    scale: tuple[int, int, int],
    width: int,
    gram: Tensor | None = None,  # [t, h, w//2+1] real
) -> Tensor:
    """``fourier_division`` in plain PyTorch, differentiable by autograd."""
    _check(x_hat, y_hat, otf, alpha, gram, scale, width)
    if gram is None:
        gram = fold_power(otf, scale=scale, width=width)
    quotient = (y_hat - _fold(otf * x_hat, scale, width)) / (gram + alpha[:, None, None, None, None])
    s_t, s_h, s_w = scale
    spread = _unfold_width(quotient, s_w, width)  # [b, c, t, h, W//2+1]
    tiled = spread.repeat(1, 1, s_t, s_h, 1)
    return x_hat + otf.conj() * tiled


def fold_power(otf: Tensor, *, scale: tuple[int, int, int], width: int) -> Tensor:
    """fold(|B|^2) of a transfer function [T, H, W//2+1]: the eigenvalues of A A^T, real, [t, h, w//2+1]."""
    return _fold(torch.view_as_real(otf.resolve_conj()).square().sum(-1), scale, width)


def _fold(spectrum: Tensor, scale: tuple[int, int, int], width: int) -> Tensor:
    """Mean over the aliased blocks: half spectrum [..., T, H, W//2+1] -> [..., t, h, w//2+1]."""
    s_t, s_h, s_w = scale
    *batch, frames, height, columns = spectrum.shape
    blocks = spectrum.reshape(*batch, s_t, frames // s_t, s_h, height // s_h, columns)
    rows = blocks.mean(dim=(-5, -3))  # [..., t, h, W//2+1], itself the half spectrum of a real signal
    w = width // s_w
    alias = torch.arange(w // 2 + 1, device=spectrum.device) + w * torch.arange(s_w, device=spectrum.device)[:, None]
    mirrored = alias > width // 2
    direct = rows[..., torch.where(mirrored, 0, alias)]
    mirror = _negate_rows(rows)[..., torch.where(mirrored, width - alias, 0)]
    return torch.where(mirrored, mirror, direct).mean(dim=-2)


def _unfold_width(quotient: Tensor, s_w: int, width: int) -> Tensor:
    """Tile a half spectrum [..., t, h, w//2+1] along the width: [..., t, h, W//2+1]."""
    w = width // s_w
    column = torch.arange(width // 2 + 1, device=quotient.device) % w
    mirrored = column > w // 2
    direct = quotient[..., torch.where(mirrored, 0, column)]
    mirror = _negate_rows(quotient)[..., torch.where(mirrored, w - column, 0)]
    return torch.where(mirrored, mirror, direct)


def _negate_rows(spectrum: Tensor) -> Tensor:
    """conj(V[-p, -r, :]): what the mirrored columns of a real signal's half spectrum are read from."""
    return torch.conj(spectrum.flip(-3, -2).roll((1, 1), (-3, -2)))


def _check(
    x_hat: Tensor,
    y_hat: Tensor,
    otf: Tensor,
    alpha: Tensor,
    gram: Tensor | None,
    scale: tuple[int, int, int],
    width: int,
) -> None:
    def need(fits: bool, name: str, requirement: str, value: object) -> None:
        if not fits:
            raise ValueError(f"fourier_division: {name} must be {requirement}, got {value}")

    need(len(scale) == 3 and all(s >= 1 for s in scale), "scale", "three integers (s_t, s_h, s_w) of 1 or more", scale)
    need(x_hat.dtype in _DTYPES, "x_hat", "complex64 or complex128", x_hat.dtype)
    need(x_hat.dim() == 5, "x_hat", "[b, c, T, H, W//2+1]", list(x_hat.shape))
    b, c, *_ = x_hat.shape
    hr = list(x_hat.shape[2:])  # of a starred name the compiler of torch 2.6 makes a tuple, which equals no list
    need(min(hr) > 0, "x_hat", "at least one frequency on each axis", list(x_hat.shape))
    need(width // 2 + 1 == hr[2], "width", f"the W with W//2+1 = {hr[2]} columns of x_hat", width)
    for axis, size, s in zip(("frames", "rows", "columns"), (hr[0], hr[1], width), scale, strict=True):
        need(size % s == 0, "scale", f"a divisor of the {size} HR {axis}", s)
    lr = [hr[0] // scale[0], hr[1] // scale[1], width // scale[2] // 2 + 1]
    need(list(y_hat.shape) == [b, c, *lr], "y_hat", f"[b, c, t, h, w//2+1] = {[b, c, *lr]}", list(y_hat.shape))
    need(list(otf.shape) == hr, "otf", f"[T, H, W//2+1] = {hr}", list(otf.shape))
    need(list(alpha.shape) == [b], "alpha", f"[b] = [{b}]", list(alpha.shape))
    need(
        gram is None or list(gram.shape) == lr,
        "gram",
        f"[t, h, w//2+1] = {lr}",
        None if gram is None else list(gram.shape),
    )
    real = torch.float64 if x_hat.dtype == torch.complex128 else torch.float32
    others = {"y_hat": (y_hat, x_hat.dtype), "otf": (otf, x_hat.dtype), "alpha": (alpha, real), "gram": (gram, real)}
    for name, (tensor, dtype) in others.items():
        if tensor is not None:
            need(tensor.dtype == dtype, name, f"{dtype}, like x_hat", tensor.dtype)
            need(tensor.device == x_hat.device, name, f"on {x_hat.device}, like x_hat", tensor.device)


def _register() -> None:
    """Shapes for tracing, and the derivative. Called once, after the extension has been loaded."""

    @torch.library.register_fake("davsr::fourier_division")
    def _(
        x: Tensor,
        y: Tensor,
        otf: Tensor,
        gram: Tensor,
        alpha: Tensor,
        scale: Sequence[int],
        width: int,
        level: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        return dense(x), dense(y)

    @torch.library.register_fake("davsr::fourier_division_backward")
    def _(
        grad: Tensor,
        x: Tensor,
        otf: Tensor,
        gram: Tensor,
        alpha: Tensor,
        quotient: Tensor,
        scale: Sequence[int],
        width: int,
        otf_gradient: bool,
        level: str | None = None,
    ) -> tuple[Tensor, ...]:
        d_otf = dense(otf) if otf_gradient else otf.new_empty(0)
        return dense(grad), dense(quotient), d_otf, dense(gram), dense(alpha)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, _, otf, gram, alpha, ctx.scale, ctx.width, ctx.level = inputs
        ctx.save_for_backward(x, otf, gram, alpha, output[1])
        ctx.mark_non_differentiable(output[1])

    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, otf, gram, alpha, quotient = ctx.saved_tensors
        d_x, d_y, d_otf, d_gram, d_alpha = torch.ops.davsr.fourier_division_backward(
            grad, x, otf, gram, alpha, quotient, ctx.scale, ctx.width, ctx.needs_input_grad[2], ctx.level
        )
        return d_x, d_y, d_otf if ctx.needs_input_grad[2] else None, d_gram, d_alpha, None, None, None

    torch.library.register_autograd("davsr::fourier_division", backward, setup_context=setup_context)


_extension.when_loaded(_register)
