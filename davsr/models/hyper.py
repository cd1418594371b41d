"""Penalties alpha_k of the data step and beta_k of the prior (HyPaNet: Cao et al., ECCV 2022)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.errors import InputError
from davsr.physics.operator import Operator

FLOOR = 1e-6  # keeps the penalties positive, so that the data step stays well posed


class HyPaNet(nn.Module):
    """(alpha_1..K, beta_1..K) from (sigma, s_t, s_h): three pointwise layers and a softplus.

    Starts at `alpha` and `beta` for sigma = 0 at `scale`: with a zero bias alpha would be 0.69, far above the
    eigenvalues of A A^T, which switches the data step off for the first thousand steps of training.

    Args:
        iterations: K.
        scale: (s_t, s_h, s_w) at which the start is exact.
        alpha, beta: values to start from, above 1e-6.
    """

    def __init__(self, iterations: int, scale: tuple[int, int, int], *, alpha: float, beta: float) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not value > FLOOR:
                raise InputError(f"model.hyper.{name} must start above {FLOOR:g} where it is learned, got {value}")
        self.iterations = iterations
        self.layers = nn.Sequential(
            nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2 * iterations)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        start = torch.tensor([alpha] * iterations + [beta] * iterations, dtype=torch.float64) - FLOOR
        with torch.no_grad():
            hidden = self.layers[:-1](torch.tensor([0.0, float(scale[0]), float(scale[1])]))
            inverse_softplus = torch.where(start > 20, start, torch.log(torch.expm1(start.clamp(max=20))))
            last.bias.copy_(inverse_softplus.float() - last.weight @ hidden)

    def forward(self, sigma: Tensor, A: Operator) -> tuple[Tensor, Tensor]:
        """alpha, beta, each [b, K], for the noise `sigma` [b], a fraction of full scale.

        In the precision of `sigma`, always.
        """
        s_t, s_h, _ = A.scale
        x = torch.stack([sigma, torch.full_like(sigma, s_t), torch.full_like(sigma, s_h)], dim=1)
        with torch.autocast(sigma.device.type, enabled=False):
            for layer in self.layers:
                x = F.linear(x, layer.weight.to(x), layer.bias.to(x)) if isinstance(layer, nn.Linear) else layer(x)
            penalties = F.softplus(x) + FLOOR
        return penalties[:, : self.iterations], penalties[:, self.iterations :]


class FixedHyper(nn.Module):
    """The same alpha and beta for every iteration, sample and noise level; nothing to learn.

    Args:
        alpha: times the largest eigenvalue of A A^T of the operator in use.
    """

    def __init__(self, iterations: int, *, alpha: float, beta: float) -> None:
        super().__init__()
        if not (alpha > 0 and math.isfinite(alpha)):
            raise InputError(f"model.hyper.alpha must be a positive number, got {alpha}")
        self.iterations, self.alpha, self.beta = iterations, alpha, beta

    def forward(self, sigma: Tensor, A: Operator) -> tuple[Tensor, Tensor]:
        """alpha, beta, each [b, K], on the device of `sigma` [b]."""
        ones = torch.ones(sigma.shape[0], self.iterations, dtype=sigma.dtype, device=sigma.device)
        return ones * (self.alpha * A.largest_eigenvalue()), ones * self.beta
