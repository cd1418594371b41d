"""The camera's response: a sensor averages light, while frames hold what a display is sent."""

from __future__ import annotations

import torch
from torch import Tensor

from davsr.physics.degradation import Degradation


def to_linear(x: Tensor) -> Tensor:
    """sRGB values to linear light (IEC 61966-2-1); odd below 0, so that overshoot survives the way there and back."""
    size = x.abs()
    light = torch.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055).pow(2.4))
    return torch.copysign(light, x)


def to_srgb(light: Tensor) -> Tensor:
    """The inverse of `to_linear`."""
    size = light.abs()
    # The clamp keeps the power's gradient finite where the other branch is taken.
    x = torch.where(size <= 0.0031308, size * 12.92, 1.055 * size.clamp_min(0.0031308).pow(1 / 2.4) - 0.055)
    return torch.copysign(x, light)


class LinearLight:
    """A degradation that acts on linear light, for frames in sRGB: y = g(A g^-1(x)).

    The data step solves argmin_z ||g^-1(y) - A g^-1(z)||^2 + alpha ||g^-1(z) - g^-1(x)||^2: closed form in linear
    light. What surrounds it, interpolation and network, goes on working with sRGB values, which they were made for.
    """

    def __init__(self, degradation: Degradation) -> None:
        self.inner = degradation
        self.scale = degradation.scale
        self.centre = degradation.centre

    @property
    def psf(self) -> str | None:
        """The name of the point-spread function."""
        return self.inner.psf

    @property
    def exposure(self) -> float:
        """HR frames that one LR frame integrates."""
        return self.inner.exposure

    def spatial(self) -> LinearLight:
        """See `Degradation.spatial`."""
        return LinearLight(self.inner.spatial())

    def apply(self, x: Tensor) -> Tensor:
        """[b, c, T, H, W] -> [b, c, t, h, w], both sRGB."""
        return to_srgb(self.inner.apply(to_linear(x)))

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y of the linear part: y and the result are linear light."""
        return self.inner.adjoint(y)

    def data_step(self, x: Tensor, y: Tensor, alpha: float | Tensor, *, out: Tensor | None = None) -> Tensor:
        """See `Degradation.data_step`; x, y and the result are sRGB."""
        z = to_srgb(self.inner.data_step(to_linear(x), to_linear(y), alpha))
        return z if out is None else out.copy_(z)

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Root mean square of y - g(A g^-1(x)) per batch entry and LR frame, [b, t]."""
        return (y - self.apply(x)).square().mean(dim=(1, 3, 4)).sqrt()

    def largest_eigenvalue(self) -> float:
        """Of A A^T, in linear light."""
        return self.inner.largest_eigenvalue()

    def describe(self) -> str:
        """One line for logs."""
        return f"{self.inner.describe()}, in linear light"
