"""The data step of dense PSFs: Fourier division on half spectra, and conjugate gradients on the LR grid."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import fourier_division
from davsr.physics.factors import AxisFactor, PlaneFactor


def fourier_data_step(x: Tensor, y: Tensor, alpha: Tensor, time: AxisFactor, plane: PlaneFactor) -> Tensor:
    """The data step of a circular model on half spectra, residual form (design: Z = X + conj(B) unfold(...)).

    x [b, c, T, H, W], y [b, c, t, h, w], alpha [b] -> z like x.
    """
    frames, height, width = x.shape[2:]
    otf = plane.transfer(time, frames, height, width, x)
    x_hat = torch.fft.rfftn(x, dim=(2, 3, 4))
    y_hat = torch.fft.rfftn(y, dim=(2, 3, 4))
    gram = plane.gram(time, frames, height, width, x)
    z_hat = fourier_division(x_hat, y_hat, otf, alpha, scale=(time.scale, *plane.scale), width=width, gram=gram)
    return torch.fft.irfftn(z_hat, s=(frames, height, width), dim=(2, 3, 4))


def spectral_data_step_reference(
    x: Tensor, y: Tensor, alpha: Tensor, otf: Tensor, scale: tuple[int, int, int]
) -> Tensor:
    """The data step in the form the paper prints it, on full HR spectra; kept for tests and benchmarks.

        R = conj(B) F(y^) + alpha F(x),   z = F^-1[(R - conj(B) unfold(fold(B R) / (fold(|B|^2) + alpha))) / alpha]

    y^ is y with zeros between its samples, fold the mean over the s_t s_h s_w aliased blocks, unfold its tiling.
    x [b, c, T, H, W], y [b, c, t, h, w], alpha [b], otf the full DFT [T, H, W] of the PSF -> z like x.
    """
    s_t, s_h, s_w = scale
    t, h, w = y.shape[2:]

    def fold(spectrum: Tensor) -> Tensor:
        blocks = spectrum.view(*spectrum.shape[:-3], s_t, t, s_h, h, s_w, w)
        return blocks.mean(dim=(-6, -4, -2))

    stuffed = torch.zeros_like(x)
    stuffed[:, :, ::s_t, ::s_h, ::s_w] = y
    a = alpha.view(-1, 1, 1, 1, 1)
    right = otf.conj() * torch.fft.fftn(stuffed, dim=(2, 3, 4)) + a * torch.fft.fftn(x, dim=(2, 3, 4))
    quotient = fold(otf * right) / (fold(otf.abs().square()) + a)
    z_hat = (right - otf.conj() * quotient.repeat(1, 1, s_t, s_h, s_w)) / a
    return torch.fft.ifftn(z_hat, dim=(2, 3, 4)).real


def conjugate_gradients(plane: PlaneFactor, r: Tensor, time: Tensor, alpha: Tensor, tolerance: float | None) -> Tensor:
    """Solve (time_j P P^T + alpha) u_j = r_j for every frame j, preconditioned in the plane's basis.

    Args:
        r: right-hand sides [b, c, t, h, w].
        time: eigenvalue of the temporal factor for each frame, [t, 1, 1].
        alpha: [b, 1, 1, 1, 1].
        tolerance: relative residual to reach; None: 1e-6 in float32, 1e-12 in float64.

    The gradient is one more solve with the same matrix (implicit differentiation).

    Raises:
        RuntimeError: if the tolerance is not reached within 1000 iterations.
    """
    if tolerance is None:
        tolerance = 1e-12 if r.dtype == torch.float64 else 1e-6
    return _ConjugateGradients.apply(r, alpha, time, plane, tolerance)


class _ConjugateGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, r: Tensor, alpha: Tensor, time: Tensor, plane: PlaneFactor, tolerance: float) -> Tensor:
        u = _iterate(plane, r, time, alpha, tolerance)
        ctx.save_for_backward(u, alpha, time)
        ctx.plane, ctx.tolerance = plane, tolerance
        return u

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        u, alpha, time = ctx.saved_tensors
        adjoint = _iterate(ctx.plane, gradients[0], time, alpha, ctx.tolerance)
        return adjoint, -(adjoint * u).sum(dim=(1, 2, 3, 4), keepdim=True), None, None, None


def _iterate(plane: PlaneFactor, r: Tensor, time: Tensor, alpha: Tensor, tolerance: float) -> Tensor:
    h, w = r.shape[3:]
    spectrum = time * plane.eigenvalues(h, w, r) + alpha

    def precondition(v: Tensor) -> Tensor:
        return plane.from_basis(plane.to_basis(v) / spectrum, w)

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(3, 4), keepdim=True)

    u = torch.zeros_like(r)
    residual = r
    target = tolerance * inner(r, r).sqrt()
    z = precondition(residual)
    direction = z
    rho = inner(residual, z)
    for _ in range(1000):
        if bool((inner(residual, residual).sqrt() <= target).all()):
            return u
        image = time * plane.apply(plane.adjoint(direction)) + alpha * direction
        # A frame whose right-hand side is zero has rho = 0 and stays at u = 0.
        step = rho / inner(direction, image).clamp_min(torch.finfo(r.dtype).tiny)
        u = u + step * direction
        residual = residual - step * image
        z = precondition(residual)
        rho, previous = inner(residual, z), rho
        direction = z + rho / previous.clamp_min(torch.finfo(r.dtype).tiny) * direction
    raise RuntimeError(f"degradation.solver: cg did not reach the relative residual {tolerance} in 1000 iterations")


def alpha_per_sample(alpha: float | Tensor, x: Tensor) -> Tensor:
    """Alpha [b] like x [b, ...], of a number or [b]; ValueError where it is not above 0."""
    if not isinstance(alpha, Tensor):
        if not alpha > 0:
            raise ValueError(f"degradation.data_step: alpha must be above 0, got {alpha}")
        return x.new_full((x.shape[0],), alpha)
    if alpha.dim() == 0:
        alpha = alpha.expand(x.shape[0])
    if alpha.shape != x.shape[:1]:
        raise ValueError(f"degradation.data_step: alpha must be a number or [{x.shape[0]}], got {list(alpha.shape)}")
    if alpha.device.type == "cpu" and not torch.compiler.is_compiling():
        # not a number passes, and shows in the result: a diverged network tells so by its loss
        if any(value <= 0 for value in alpha.tolist()):
            raise ValueError(f"degradation.data_step: alpha must be above 0, got {alpha.tolist()}")
        return alpha.to(x)
    alpha = alpha.to(x)  # to look at values on a GPU is to wait for it: there a wrong one makes the result not a number
    if torch.compiler.is_compiling():
        return torch.where(alpha > 0, alpha, torch.nan)
    return F.threshold(alpha, 0.0, torch.nan)  # one launch, of which `where` takes three
