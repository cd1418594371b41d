"""What commands and networks ask of an observation model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Operator(Protocol):
    """An observation model y = A x + n on videos x [b, c, T, H, W] and y [b, c, t, h, w], with its data step.

    `Degradation` is one, and so is `LinearLight`, which acts on linear light.
    """

    @property
    def scale(self) -> tuple[int, int, int]:
        """(s_t, s_h, s_w)."""

    @property
    def exposure(self) -> float:
        """HR frames that one LR frame integrates."""

    @property
    def psf(self) -> str | None:
        """The name of the point-spread function; None: it has none."""

    @property
    def centre(self) -> float:
        """HR frame on which the exposure of LR frame 0 is centred."""

    def spatial(self) -> Operator:
        """What it does to a still picture: its spatial part alone, of the scale (1, s_h, s_w)."""

    def apply(self, x: Tensor) -> Tensor:
        """A x."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y of the linear part."""

    def data_step(self, x: Tensor, y: Tensor, alpha: float | Tensor, *, out: Tensor | None = None) -> Tensor:
        """argmin_z ||y - A z||^2 + alpha ||z - x||^2, alpha a number or [b]; into `out`, like x, where one is given."""

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Root mean square of y - A x, [b, t]."""

    def largest_eigenvalue(self) -> float:
        """Of A A^T: the unit in which alpha is measured."""

    def describe(self) -> str:
        """One line for logs."""
