"""The factors of A on tensors: their application, adjoints, and bases in which A A^T is diagonal.

A = A_time x A_space. Time is always one axis; space is two axes (separable PSF) or one plane (dense PSF).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.physics.psf import (
    Boundary,
    DensePSF,
    Taps,
    aliased_power,
    axis_matrix,
    extend_index,
    plane_transfer_function,
    transfer_function,
)

# Length at which a factor's largest eigenvalue is read off; it hardly depends on the length.
_CANONICAL_SIZE = 16


_REASON = {
    "reason": "the operator's bases for these sizes are computed in NumPy; "
    "before compiling with fullgraph=True or exporting, call the model once at the same sizes"
}
_takes_reason = "reason" in inspect.signature(torch.compiler.disable).parameters  # from torch 2.7 on
_eager = torch.compiler.disable(**(_REASON if _takes_reason else {}))


_KEPT = 64  # arrays of one factor: of a dozen sizes and more; a run has a few
_KEPT_BYTES = 2**28
_BLOCK = 32  # LR samples of an axis that are made together
_NEWEST = 8  # stay however large they are: what one data step needs


class _Cache:
    """Arrays computed once in float64 and kept as tensors for each size, dtype and device.

    The oldest go where they grow many.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], Any] = {}
        self._tensors: dict[tuple[Any, ...], Tensor] = {}

    def array(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        if key not in self._arrays:
            self._keep_array(key, compute)
        return self._arrays[key]

    def tensor(self, key: tuple[Any, ...], like: Tensor, compute: Callable[[], np.ndarray]) -> Tensor:
        full_key = (*key, like.dtype, like.device)
        if full_key not in self._tensors:
            self._keep_tensor(full_key, like.dtype, like.device, compute)
        return self._tensors[full_key]

    @_eager
    def _keep_array(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> None:
        with torch.inference_mode(False):  # a later call may need it for a gradient
            self._arrays[key] = compute()
        _forget_oldest(self._arrays)

    @_eager
    def _keep_tensor(
        self, key: tuple[Any, ...], dtype: torch.dtype, device: torch.device, compute: Callable[[], np.ndarray]
    ) -> None:
        array = np.ascontiguousarray(compute())
        dtype = dtype.to_complex() if np.iscomplexobj(array) else dtype
        with torch.inference_mode(False):
            self._tensors[key] = torch.from_numpy(array).to(dtype).to(device)
        _forget_oldest(self._tensors)


def _forget_oldest(kept: dict[tuple[Any, ...], Any]) -> None:
    """Keep a cache within its bounds.

    In the order of arrival, so that to read from it changes nothing (compiled graphs read).
    """
    while len(kept) > _KEPT or (len(kept) > _NEWEST and sum(map(_bytes, kept.values())) > _KEPT_BYTES):
        del kept[next(iter(kept))]


def _bytes(value: Any) -> int:
    return sum(map(_bytes, value)) if isinstance(value, tuple) else int(getattr(value, "nbytes", 0))


def _product(matrix: Tensor, x: Tensor, dim: int, part: slice) -> Tensor:
    """The matrix times a part of x along dimension 3 or 4, without a copy of it."""
    if dim == 4:
        return x[..., part] @ matrix.mT
    return matrix @ x[..., part, :]


class AxisFactor:
    """The operator along one axis, a small dense matrix with the eigenbasis of A_i A_i^T = U L U^T."""

    def __init__(self, taps: Taps, scale: int, boundary: Boundary) -> None:
        self.taps = taps
        self.scale = scale
        self.boundary = boundary
        # Windows that do not overlap: A_i A_i^T is a multiple of the identity, every LR sample is by itself.
        self.disjoint = taps.start >= 0 and taps.start + len(taps.weights) <= scale
        self._cache = _Cache()

    def apply(self, x: Tensor, dim: int) -> Tensor:
        """Filter and decimate dimension `dim` (2, 3 or 4) of x [b, c, T, H, W]."""
        size = x.shape[dim] // self.scale
        if dim > 2:
            matrix = self._matrix(size, x)
            made = [_product(matrix[low, high], x, dim, high) for low, high in self._blocks(size)]
            return made[0] if len(made) == 1 else torch.cat(made, dim=dim)
        b, c, frames, height, width = x.shape
        if self.disjoint:
            windows = x.reshape(b * c * size, self.scale, height * width)
            return torch.matmul(self._window(x), windows).view(b, c, size, height, width)
        flat = self._matrix(size, x) @ x.reshape(b * c, frames, height * width)
        return flat.view(b, c, size, height, width)

    def adjoint(self, y: Tensor, dim: int, add: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """The transpose of `apply`.

        With `add` (dim 2 only) it returns add + A_i^T y in one pass, into `out` (contiguous).
        """
        size = y.shape[dim]
        if dim > 2:
            matrix = self._matrix(size, y)
            made = [_product(matrix[low, high].mT, y, dim, low) for low, high in self._blocks(size, adjoint=True)]
            return made[0] if len(made) == 1 else torch.cat(made, dim=dim)
        b, c, _, height, width = y.shape
        shape = (b, c, size * self.scale, height, width)
        if self.disjoint:
            window = self._window(y).view(self.scale, 1)
            frames = y.reshape(b * c * size, 1, height * width)
            if add is None:
                return (window * frames).view(shape)
            parts = (b * c * size, self.scale, height * width)
            into = None if out is None else out.view(parts)
            return torch.addcmul(add.reshape(parts), window, frames, out=into).view(shape)
        transposed = self._matrix(size, y).mT
        flat = y.reshape(b * c, size, height * width)
        if add is None:
            return (transposed @ flat).view(shape)
        volumes = (b * c, size * self.scale, height * width)
        into = None if out is None else out.view(volumes)
        return torch.baddbmm(add.reshape(volumes), transposed.expand(b * c, -1, -1), flat, out=into).view(shape)

    def to_basis(self, r: Tensor, dim: int) -> Tensor:
        """U^T r along `dim`."""
        return r if self.disjoint else self._rotate(self.basis(r.shape[dim], r).mT, r, dim)

    def from_basis(self, r: Tensor, dim: int) -> Tensor:
        """U r along `dim`."""
        return r if self.disjoint else self._rotate(self.basis(r.shape[dim], r), r, dim)

    def eigenvalues(self, size: int, like: Tensor) -> Tensor:
        """L, the spectrum of A_i A_i^T on `size` LR samples, [size]."""
        return self._cache.tensor(("eigenvalues", size), like, lambda: self._spectrum(size))

    def joint_eigenvalues(self, rows: AxisFactor, columns: AxisFactor, sizes: Sequence[int], like: Tensor) -> Tensor:
        """The spectrum of A A^T, of this axis as time and two of space, for LR videos of the sizes (t, h, w).

        [t, h, w], or [1, h, w] where all frames have the same.
        """
        t, h, w = sizes
        t = 1 if self.disjoint else t

        def outer() -> np.ndarray:
            time, high, wide = self._spectrum(t), rows._spectrum(h), columns._spectrum(w)
            return time[:, None, None] * high[:, None] * wide

        return self._cache.tensor(("joint", t, h, w), like, outer)

    def largest_eigenvalue(self) -> float:
        """Of A_i A_i^T on an axis of `_CANONICAL_SIZE` LR samples."""
        return float(self._spectrum(_CANONICAL_SIZE).max())

    def _window(self, like: Tensor) -> Tensor:
        def padded() -> np.ndarray:
            window = np.zeros((1, self.scale))
            window[0, self.taps.offsets] = self.taps.weights
            return window

        return self._cache.tensor(("window",), like, padded)

    def _matrix(self, size: int, like: Tensor) -> Tensor:
        return self._cache.tensor(
            ("matrix", size), like, lambda: axis_matrix(self.taps, self.scale, size, self.boundary)
        )

    def _blocks(self, size: int, *, adjoint: bool = False) -> list[tuple[slice, slice]]:
        """Parts of the matrix [LR, HR] that hold all that is not zero of some rows, or of some columns for the adjoint.

        A sample is made of a few neighbours: nearly all of the matrix of a long axis is zeros.
        """

        def compute() -> list[tuple[slice, slice]]:
            matrix = axis_matrix(self.taps, self.scale, size, self.boundary) != 0
            if adjoint:
                matrix = matrix.T
            step = len(matrix) if size < 2 * _BLOCK else _BLOCK * (self.scale if adjoint else 1)
            blocks = []
            for first in range(0, len(matrix), step):
                rows = slice(first, min(first + step, len(matrix)))
                seen = np.flatnonzero(matrix[rows].any(axis=0))
                columns = slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 1)
                blocks.append((columns, rows) if adjoint else (rows, columns))
            return blocks

        blocks: list[tuple[slice, slice]] = self._cache.array(("blocks", size, adjoint), compute)
        return blocks

    def basis(self, size: int, like: Tensor) -> Tensor:
        """U, the eigenbasis of A_i A_i^T on `size` LR samples, [size, size]."""
        return self._cache.tensor(("basis", size), like, lambda: self._eigen(size)[1])

    def _spectrum(self, size: int) -> np.ndarray:
        return np.full(size, np.sum(self.taps.weights**2)) if self.disjoint else self._eigen(size)[0]

    def _eigen(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        def compute() -> tuple[np.ndarray, np.ndarray]:
            # By torch: a thread of NumPy's BLAS spins for a tenth of a second after each use, on a core of torch's.
            matrix = torch.from_numpy(axis_matrix(self.taps, self.scale, size, self.boundary))
            values, vectors = torch.linalg.eigh(matrix @ matrix.T)
            return values.clamp(min=0).numpy(), vectors.numpy()  # the Gram matrix is positive; eigh may say -1e-17

        return self._cache.array(("eigen", size), compute)

    @staticmethod
    def _rotate(basis: Tensor, r: Tensor, dim: int) -> Tensor:
        if dim == 4:
            return r @ basis.mT
        if dim == 3:
            return basis @ r
        return (basis @ r.flatten(3)).view_as(r)


class PlaneFactor:
    """The operator of a dense PSF on (H, W), with its spectrum on the LR grid.

    `circular`: the basis is the 2-D real FFT. `reflect`: the DCT-II, which is exact for a PSF that mirrors about the
    LR pixel's centre (the mirrored grid is then circular) and a preconditioner for any other.
    """

    def __init__(self, psf: DensePSF, scale: tuple[int, int], boundary: Boundary) -> None:
        self.psf = psf
        self.scale = scale
        self.boundary = boundary
        self._cache = _Cache()

    def is_symmetric(self) -> bool:
        """Whether the PSF mirrors about the centre of a sample."""
        return self.psf.is_symmetric(self.scale)

    def apply(self, x: Tensor) -> Tensor:
        """Filter and decimate x [b, c, t, H, W] to [b, c, t, h, w]."""
        rows, columns = self._indices(x.shape[3] // self.scale[0], x.shape[4] // self.scale[1], x)
        planes = x.reshape(-1, 1, *x.shape[3:]).index_select(2, rows).index_select(3, columns)
        y = F.conv2d(planes, self._kernel(x), stride=self.scale)
        return y.view(*x.shape[:3], *y.shape[2:])

    def adjoint(self, y: Tensor) -> Tensor:
        """The transpose of `apply`."""
        h, w = y.shape[3:]
        rows, columns = self._indices(h, w, y)
        planes = F.conv_transpose2d(y.reshape(-1, 1, h, w), self._kernel(y), stride=self.scale)
        height, width = h * self.scale[0], w * self.scale[1]
        folded = planes.new_zeros(planes.shape[0], 1, height, planes.shape[3]).index_add(2, rows, planes)
        x = folded.new_zeros(planes.shape[0], 1, height, width).index_add(3, columns, folded)
        return x.view(*y.shape[:3], height, width)

    def to_basis(self, r: Tensor) -> Tensor:
        """Coefficients of r [b, c, t, h, w] in the basis: DCT-II (`reflect`) or half-spectrum FFT (`circular`)."""
        if self.boundary == "circular":
            return torch.fft.rfft2(r, norm="ortho")
        return self._cosines(r.shape[3], r) @ r @ self._cosines(r.shape[4], r).mT

    def from_basis(self, coefficients: Tensor, width: int) -> Tensor:
        """The inverse of `to_basis`; `width` is that of r."""
        if self.boundary == "circular":
            return torch.fft.irfft2(coefficients, s=(coefficients.shape[3], width), norm="ortho")
        return self._cosines(coefficients.shape[3], coefficients).mT @ coefficients @ self._cosines(width, coefficients)

    def eigenvalues(self, h: int, w: int, like: Tensor) -> Tensor:
        """The spectrum of A A^T in the basis: [h, w] (`reflect`) or [h, w // 2 + 1] (`circular`)."""
        return self._cache.tensor(("eigenvalues", h, w), like, lambda: self._spectrum(h, w))

    def largest_eigenvalue(self) -> float:
        """Of A A^T on a plane of `_CANONICAL_SIZE` LR samples a side."""
        return float(self._spectrum(_CANONICAL_SIZE, _CANONICAL_SIZE).max())

    def _spectrum(self, h: int, w: int) -> np.ndarray:
        (s_h, s_w) = self.scale
        if self.boundary == "circular":
            return aliased_power(plane_transfer_function(self.psf, s_h * h, s_w * w), self.scale)[:, : w // 2 + 1]
        power = aliased_power(plane_transfer_function(self.psf, 2 * s_h * h, 2 * s_w * w), self.scale)
        mirrored = power[-np.arange(h) % (2 * h)]  # a PSF without symmetry has another power at (-k, l)
        return (power[:h, :w] + mirrored[:, :w]) / 2

    def _kernel(self, like: Tensor) -> Tensor:
        return self._cache.tensor(("kernel",), like, lambda: self.psf.weights[None, None])

    def _indices(self, h: int, w: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """HR rows and columns that the extended plane is read from, so that a valid convolution sees the boundary."""

        def index(axis: int, size: int) -> Tensor:
            scale, taps = self.scale[axis], self.psf.weights.shape[axis]
            positions = self.psf.start[axis] + np.arange(scale * (size - 1) + taps)
            return torch.from_numpy(extend_index(positions, scale * size, self.boundary)).to(like.device)

        rows = self._cache.array(("rows", h, like.device), lambda: index(0, h))
        columns = self._cache.array(("columns", w, like.device), lambda: index(1, w))
        return rows, columns

    def _cosines(self, size: int, like: Tensor) -> Tensor:
        def dct2() -> np.ndarray:
            k, i = np.arange(size)[:, None], np.arange(size)[None, :]
            rows = np.cos(np.pi * k * (2 * i + 1) / (2 * size)) * np.sqrt(2 / size)
            rows[0] /= np.sqrt(2)
            return rows

        return self._cache.tensor(("cosines", size), like, dct2)

    def transfer(self, time: AxisFactor, frames: int, height: int, width: int, like: Tensor) -> Tensor:
        """The OTF B of exposure and PSF on the periodic HR grid, half spectrum [T, H, W // 2 + 1]."""

        def outer() -> np.ndarray:
            plane = plane_transfer_function(self.psf, height, width)[:, : width // 2 + 1]
            return transfer_function(time.taps, frames)[:, None, None] * plane

        return self._cache.tensor(("transfer", frames, height, width), like, outer)

    def gram(self, time: AxisFactor, frames: int, height: int, width: int, like: Tensor) -> Tensor:
        """fold(|B|^2) of that OTF, the eigenvalues of A A^T, [t, h, w // 2 + 1]."""

        def outer() -> np.ndarray:
            power = np.abs(transfer_function(time.taps, frames)) ** 2
            folded = power.reshape(time.scale, -1).mean(axis=0)
            return folded[:, None, None] * self._spectrum(height // self.scale[0], width // self.scale[1])

        return self._cache.tensor(("gram", frames, height, width), like, outer)
