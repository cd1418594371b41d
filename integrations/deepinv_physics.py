"""davsr.Degradation as physics of DeepInverse (deepinv): `A`, `A_adjoint`, `prox_l2`, so that its solvers run on it.

from integrations.deepinv_physics import SpaceTimeCamera

physics = SpaceTimeCamera(davsr.Degradation(scale=(5, 4, 4)))
y = physics(x)  # [b, c, T, H, W] -> [b, c, t, h, w]
"""

from __future__ import annotations

from typing import Any

import deepinv
import torch
from torch import Tensor

import davsr


class SpaceTimeCamera(deepinv.physics.LinearPhysics):  # type: ignore[misc]  # deepinv has no types
    """y = A x + n with the closed-form proximal step of A.

    Args:
        degradation: the operator; None: scale (5, 4, 4), an open shutter, the bicubic point-spread function.
        further: what `deepinv.physics.LinearPhysics` takes, such as `noise_model`.
    """

    def __init__(self, degradation: davsr.Degradation | None = None, **further: Any) -> None:
        super().__init__(**further)
        self.degradation = degradation or davsr.Degradation()

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """Sharp video [b, c, T, H, W] -> observed [b, c, t, h, w]."""
        return self.degradation.apply(x)

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        """Observed [b, c, t, h, w] -> [b, c, T, H, W]."""
        return self.degradation.adjoint(y)

    def prox_l2(self, z: Tensor | float | None, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        """argmin_x gamma / 2 ||A x - y||^2 + 1 / 2 ||x - z||^2: the data step with alpha = 1 / gamma.

        z: a video [b, c, T, H, W], a number for a constant one, or None for zero.
        gamma: a number, or one for each clip of the batch.
        """
        if not isinstance(z, Tensor):
            z = torch.full_like(self.A_adjoint(y), z or 0.0)
        gamma = torch.as_tensor(gamma, dtype=z.dtype, device=z.device)
        return self.degradation.data_step(z, y, 1 / (gamma.flatten() if gamma.numel() > 1 else gamma.reshape(())))
