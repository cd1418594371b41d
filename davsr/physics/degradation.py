"""The observation model y = A x + n: one linear operator that makes the data, inverts it, and checks the result.

    A = S K:  exposure (a box in time), point-spread function (in space), decimation by (s_t, s_h, s_w)

The same object degrades training clips, is the network's data layer, and measures ||y - A x||.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from davsr.errors import InputError
from davsr.ops import Axes, camera, camera_adjoint, camera_compiled, data_step, data_step_compiled
from davsr.options import DegradationOptions
from davsr.physics.factors import AxisFactor, PlaneFactor
from davsr.physics.precision import at_least_float32, full_precision
from davsr.physics.psf import Boundary, DensePSF, described, exposure_taps, load_psf, spatial_taps
from davsr.physics.residual_form import residual_data_step
from davsr.physics.solvers import alpha_per_sample, conjugate_gradients, fourier_data_step

_FARTHEST = 4096  # HR frames or pixels that an LR one may reach
Solver = Literal["auto", "separable", "fourier", "cg"]


class Degradation:
    """The operator A with `apply`, `adjoint` and the closed-form data step, on tensors [b, c, T, H, W].

    Every call is differentiable in its tensors, follows their device and dtype (half precision is raised to
    float32), and keeps its bases for the sizes it has seen.

    Args:
        scale: (s_t, s_h, s_w), integers >= 1.
        exposure: HR frames that one LR frame integrates, may be fractional; None: s_t, an always open shutter.
        phase: LR frame j integrates the HR times [s_t j + phase, s_t j + phase + exposure).
        psf: `bicubic` (MATLAB imresize), `gaussian`, `box`, `delta`, a dense kernel [k_h, k_w], or a pair of axis
            taps. A given kernel is used in true convolution and never renormalised.
        boundary: `reflect` (half-sample symmetric) or `circular`, for time and space alike.
        solver: `separable` (one small eigenbasis per axis), `fourier` (spectra on the LR grid), `cg` (conjugate
            gradients), or `auto`, the fastest exact one.
        psf_sigma: standard deviation of `gaussian`, HR pixels.
        origin: the tap of a given kernel that acts on HR pixel (s_h i, s_w j); None: size // 2.
        tolerance: relative residual at which `cg` stops; None: 1e-6 in float32, 1e-12 in float64.

    Raises:
        ValueError: for a value outside these, or a solver that cannot serve the model exactly.

    Source: Cao et al., "Towards Interpretable Video Super-Resolution via Alternating Optimization", ECCV 2022.
    """

    def __init__(
        self,
        scale: Sequence[int] = (5, 4, 4),
        exposure: float | None = None,
        phase: float = 0,
        psf: str | Tensor | tuple[Tensor, Tensor] = "bicubic",
        boundary: Boundary = "reflect",
        solver: Solver = "auto",
        *,
        psf_sigma: float = 1.6,
        origin: tuple[int, int] | None = None,
        tolerance: float | None = None,
    ) -> None:
        if len(scale) != 3 or any(s != int(s) or s < 1 for s in scale):
            raise ValueError(f"degradation.scale: must be three integers >= 1 (s_t, s_h, s_w), got {tuple(scale)}")
        self.scale = (int(scale[0]), int(scale[1]), int(scale[2]))
        self.exposure = float(self.scale[0] if exposure is None else exposure)
        self.phase = phase
        self.psf = psf if isinstance(psf, str) else None  # its name
        self.boundary = boundary
        self.tolerance = tolerance
        if not 0 < self.exposure < float("inf"):
            raise ValueError(f"degradation.exposure: must be a positive number of HR frames, got {exposure}")
        if boundary not in ("reflect", "circular"):
            raise ValueError(f"degradation.boundary: must be reflect or circular, got {boundary!r}")
        if not 0 < psf_sigma < float("inf"):
            raise ValueError(f"degradation.psf_sigma: must be above 0, got {psf_sigma}")
        reach = (*self.scale, self.exposure, abs(phase), psf_sigma, *(abs(n) for n in origin or ()))
        if not max(reach) <= _FARTHEST:
            raise ValueError(
                f"degradation: scale, exposure, phase, psf_sigma and origin must be at most {_FARTHEST}, got {reach}"
            )

        self._psf = described(psf, psf_sigma)
        spatial = spatial_taps(psf, self.scale[1:], psf_sigma, origin)
        self._time = AxisFactor(exposure_taps(self.exposure, phase), self.scale[0], boundary)
        self._space: tuple[AxisFactor, AxisFactor] | PlaneFactor
        if isinstance(spatial, DensePSF):
            self._space = PlaneFactor(spatial, self.scale[1:], boundary)
        else:
            rows, columns = (AxisFactor(t, s, boundary) for t, s in zip(spatial, self.scale[1:], strict=True))
            self._space = (rows, columns)
        self._by_axes = self._described_by_axes()
        self._still: Degradation | None = None
        self.solver = self._choose(solver)

    @classmethod
    def from_options(cls, options: DegradationOptions) -> Degradation:
        """The operator that an options section describes; `psf` may be the path of an .npy file."""
        psf: str | Tensor = options.psf
        if options.psf.endswith(".npy"):
            psf = load_psf(options.psf)
        try:
            return cls(
                options.scale,
                options.exposure,
                options.phase,
                psf,
                options.boundary,
                options.solver,
                psf_sigma=options.psf_sigma,
                origin=options.psf_origin,
            )
        except ValueError as error:  # the values are the user's here
            raise InputError(str(error)) from None

    def spatial(self) -> Degradation:
        """The spatial part of A alone: what it does to a still picture, (1, s_h, s_w)."""
        if self._still is None:  # kept, and with it the bases of the sizes that it has seen
            still = self._still = copy.copy(self)
            still.scale, still.exposure, still.phase = (1, *self.scale[1:]), 1.0, 0
            still._time = AxisFactor(exposure_taps(1.0, 0), 1, self.boundary)
            still._by_axes = still._described_by_axes()
        return self._still

    def __call__(self, x: Tensor) -> Tensor:
        """A x, see `apply`."""
        return self.apply(x)

    def __repr__(self) -> str:
        return (
            f"Degradation(scale={self.scale}, exposure={self.exposure:g}, phase={self.phase:g}, psf={self._psf}, "
            f"boundary={self.boundary!r}, solver={self.solver!r})"
        )

    def to(self, *args: Any, **kwargs: Any) -> Degradation:
        """The same operator: it follows the device and dtype of what it is given. Here for code that moves modules."""
        return self

    def apply(self, x: Tensor) -> Tensor:
        """A x: the LR video [b, c, t, h, w] that a camera makes of the HR video x [b, c, T, H, W]."""
        self._check("x", x, self.scale)
        x = at_least_float32(x)
        if (axes := self._axes(x)) is not None:
            return camera(x, axes)
        with full_precision(x):
            x = self._time.apply(x, dim=2)  # time first: it leaves s_t times less to filter in space
            if isinstance(self._space, PlaneFactor):
                return self._space.apply(x)
            rows, columns = self._space
            return rows.apply(columns.apply(x, dim=4), dim=3)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: [b, c, t, h, w] -> [b, c, T, H, W], with `<A x, y> = <x, A^T y>`."""
        self._check("y", y, (1, 1, 1))
        y = at_least_float32(y)
        if (axes := self._axes(y)) is not None:
            return camera_adjoint(y, axes)
        with full_precision(y):
            return self._time.adjoint(self._spatial_adjoint(y), dim=2)

    def data_step(self, x: Tensor, y: Tensor, alpha: float | Tensor, *, out: Tensor | None = None) -> Tensor:
        """argmin_z ||y - A z||^2 + alpha ||z - x||^2, in closed form (the Fourier data transform).

        In residual form, by the Woodbury identity:  z = x + A^T (A A^T + alpha I)^-1 (y - A x)

        Args:
            x: current HR estimate [b, c, T, H, W].
            y: observed LR video [b, c, t, h, w].
            alpha: penalty > 0, a number or one per batch entry [b].
            out: where to put z, like x and possibly x itself: saves fresh memory where no gradient is wanted.

        Raises:
            ValueError: if the sizes of x, y and alpha do not belong together, or alpha is not above 0 (on a GPU and in
                compiled graphs the result is then not a number).
        """
        self._check("x", x, self.scale)
        expected = [*x.shape[:2], *(n // s for n, s in zip(x.shape[2:], self.scale, strict=True))]
        if list(y.shape) != expected:
            raise ValueError(f"degradation.data_step: y must be {expected} for x {list(x.shape)}, got {list(y.shape)}")
        x = at_least_float32(x)
        y = y.to(x)
        alpha = alpha_per_sample(alpha, x)
        with full_precision(x):
            if self.solver == "fourier" and self.boundary == "circular":
                z = fourier_data_step(x, y, alpha, self._time, self._plane)
                return z if out is None else out.copy_(z)
            return residual_data_step(self._step, x, y, alpha, out)

    def data_step_kept(self, x: Tensor, y: Tensor, alpha: Tensor, *, out: Tensor) -> tuple[Tensor, Tensor]:
        """`data_step` without a derivative, and its u = (A A^T + alpha I)^-1 (y - A x).

        With the v that `data_step_gradient` has for y, `-<v, u>` is the derivative by alpha.
        """
        with full_precision(x):
            return self._step(x, y, alpha_per_sample(alpha, x), out)

    def data_step_gradient(
        self, grad: Tensor, alpha: float | Tensor, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The gradients of x and y for that of `data_step`'s result, which is linear in both.

        Of y (A A^T + alpha I)^-1 A g, of x what that leaves of g, g - A^T (...).

        `out`: where to put that of x, possibly grad itself.
        """
        self._check("grad", grad, self.scale)
        grad = at_least_float32(grad)
        with full_precision(grad):
            of_x, less = self._step(grad, None, alpha_per_sample(alpha, grad), out)
            return of_x, -less

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Root mean square of y - A x per batch entry and LR frame, [b, t]."""
        return (y - self.apply(x)).square().mean(dim=(1, 3, 4)).sqrt()

    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue of A A^T (1/80 in the standard setting): the unit in which alpha is measured."""
        if isinstance(self._space, PlaneFactor):
            return self._time.largest_eigenvalue() * self._space.largest_eigenvalue()
        rows, columns = self._space
        return self._time.largest_eigenvalue() * rows.largest_eigenvalue() * columns.largest_eigenvalue()

    @property
    def centre(self) -> float:
        """HR frame on which the exposure of LR frame 0 is centred."""
        return self.phase + (self.exposure - 1) / 2

    def describe(self) -> str:
        """One line for logs: what y = A x does here."""
        s_t, s_h, s_w = self.scale
        kind = "dense" if isinstance(self._space, PlaneFactor) else "separable"
        return (
            f"scale {s_t}x{s_h}x{s_w}, exposure {self.exposure:g} of {s_t} HR frames, phase {self.phase:g}, "
            f"{kind} PSF, {self.boundary} boundary, solver {self.solver}"
        )

    def _axes(self, video: Tensor) -> Axes | None:
        """A as three axes, where it is that and there are kernels for such a video."""
        return self._by_axes if self._by_axes is not None and camera_compiled(video) else None

    def _described_by_axes(self) -> Axes | None:
        """Numbers of Python, made once: a compiler reads no arrays."""
        if isinstance(self._space, PlaneFactor):
            return None
        factors = (self._time, *self._space)
        taps = tuple(tuple(factor.taps.weights.tolist()) for factor in factors)
        return Axes(taps, tuple(factor.taps.start for factor in factors), self.scale, self.boundary == "circular")

    def _step(self, x: Tensor, y: Tensor | None, alpha: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z = x + A^T u, and u = (A A^T + alpha I)^-1 (y - A x); y None: zero. By its parts where one is learned."""
        learning = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in (x, y, alpha))
        apart = self.solver == "separable" and self._time.disjoint  # every LR frame is solved by itself
        axes = self._by_axes if apart and not learning and data_step_compiled(x) else None
        if axes is None:
            u = self._solve(-self.apply(x) if y is None else self._misfit(x, y), alpha)
            return self._add_adjoint(x, u, out), u
        assert not isinstance(self._space, PlaneFactor)
        rows, columns = self._space
        h, w = x.shape[3] // self.scale[1], x.shape[4] // self.scale[2]
        spectrum = self._time.joint_eigenvalues(rows, columns, (1, h, w), x)
        return data_step(x, y, alpha, axes, rows.basis(h, x), columns.basis(w, x), spectrum[0], out=out)

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """y - A x."""
        return y - self.apply(x) if (axes := self._axes(x)) is None else camera(x, axes, y)

    def _add_adjoint(self, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
        """x + A^T y."""
        if (axes := self._axes(x)) is not None:
            return camera_adjoint(y, axes, x, out=out)
        return self._time.adjoint(self._spatial_adjoint(y), dim=2, add=x, out=out)

    def _spatial_adjoint(self, y: Tensor) -> Tensor:
        if isinstance(self._space, PlaneFactor):
            return self._space.adjoint(y)
        rows, columns = self._space
        return columns.adjoint(rows.adjoint(y, dim=3), dim=4)

    def _solve(self, residual: Tensor, alpha: Tensor) -> Tensor:
        """(A A^T + alpha I)^-1 residual, on the LR grid; alpha [b]."""
        h, w = residual.shape[3:]
        alpha = alpha.view(-1, 1, 1, 1, 1)
        r = self._time.to_basis(residual, dim=2)
        if not isinstance(self._space, PlaneFactor) and self.solver == "separable":
            rows, columns = self._space
            r = columns.to_basis(rows.to_basis(r, dim=3), dim=4)
            r = r / (self._time.joint_eigenvalues(rows, columns, r.shape[2:], r) + alpha)
            r = columns.from_basis(rows.from_basis(r, dim=3), dim=4)
            return self._time.from_basis(r, dim=2)
        time = self._time.eigenvalues(residual.shape[2], residual).view(-1, 1, 1)
        if self.solver == "cg":
            r = conjugate_gradients(self._plane, r, time, alpha, self.tolerance)
        else:
            spectrum = time * self._plane.eigenvalues(h, w, r) + alpha
            r = self._plane.from_basis(self._plane.to_basis(r) / spectrum, w)
        return self._time.from_basis(r, dim=2)

    @property
    def _plane(self) -> PlaneFactor:
        """The spatial factor as a dense one, made of the axis taps if need be."""
        if isinstance(self._space, PlaneFactor):
            return self._space
        if not hasattr(self, "_outer"):
            rows, columns = self._space
            weights = np.outer(rows.taps.weights, columns.taps.weights)
            psf = DensePSF((rows.taps.start, columns.taps.start), weights)
            self._outer = PlaneFactor(psf, self.scale[1:], self.boundary)
        return self._outer

    def _choose(self, solver: Solver) -> Solver:
        if solver not in ("auto", "separable", "fourier", "cg"):
            raise ValueError(f"degradation.solver: must be auto, separable, fourier or cg, got {solver!r}")
        dense = isinstance(self._space, PlaneFactor)
        diagonal = self.boundary == "circular" or self._plane.is_symmetric()
        if solver == "auto":
            return "separable" if not dense else "fourier" if diagonal else "cg"
        if solver == "separable" and dense:
            raise ValueError("degradation.solver: separable needs a PSF of rank one, this kernel's rank is higher")
        if solver == "fourier" and not diagonal:
            raise ValueError(
                "degradation.solver: fourier with boundary reflect needs a PSF that mirrors about the LR pixel's "
                "centre; this one does not, use solver cg or auto"
            )
        return solver

    def _check(self, name: str, video: Tensor, multiple: tuple[int, int, int]) -> None:
        if video.dim() != 5:
            raise ValueError(f"degradation: {name} must be [b, c, T, H, W], got {list(video.shape)}")
        if not video.is_floating_point():
            raise ValueError(f"degradation: {name} must be floating point, got {video.dtype}")
        sizes = video.shape[2:]
        if any(n < 1 or n % s for n, s in zip(sizes, multiple, strict=True)):
            nearest = [max(n - n % s, s) for n, s in zip(sizes, multiple, strict=True)]
            raise ValueError(
                f"degradation: (T, H, W) of {name} must be multiples of the scale {self.scale}, "
                f"got {tuple(sizes)}; nearest below: {tuple(nearest)}"
            )
