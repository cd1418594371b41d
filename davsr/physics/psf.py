"""Point-spread functions and exposures as taps: `y[i] = sum_j weight_j x[scale i + offset_j]` along each axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from davsr.errors import InputError
from davsr.guards.limits import require_below

Array = npt.NDArray[np.float64]
Boundary = Literal["reflect", "circular"]
_LONGEST_SIDE = 1024  # taps
_LARGEST_TAP = 1e9


@dataclass(frozen=True)
class Taps:
    """Weights at consecutive HR positions `start, start + 1, ...`, counted from HR position `scale * i`."""

    start: int
    weights: Array  # [n]

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """HR samples, counted from s i, that the taps of LR sample i are of."""
        return np.arange(self.start, self.start + len(self.weights))


@dataclass(frozen=True)
class DensePSF:
    """A non-separable PSF as a correlation kernel: weight `[i, j]` acts at HR offset (start_h + i, start_w + j)."""

    start: tuple[int, int]
    weights: Array  # [k_h, k_w]

    def is_symmetric(self, scale: tuple[int, int]) -> bool:
        """Whether the kernel mirrors about the LR pixel's centre along each axis by itself."""
        height, width = self.weights.shape
        centred = all(
            2 * start + size - 1 == s - 1 for start, size, s in zip(self.start, (height, width), scale, strict=True)
        )
        return centred and _mirrors(self.weights, self.weights[::-1]) and _mirrors(self.weights, self.weights[:, ::-1])

    def factors(self) -> tuple[Taps, Taps] | None:
        """The axis taps whose outer product this kernel is, or None if its rank is above one.

        Weights that float32 holds exactly may be such a product, rounded: that moves each of them by 2^-24 of itself at
        most, and the second singular value to 2^-24 of the first (Weyl's inequality). Four times as much leaves room
        for a normalisation, and is still what float32 cannot tell from nothing.
        """
        with np.errstate(over="ignore"):
            in_float32 = np.array_equal(self.weights.astype(np.float32), self.weights)
        tolerance = 2.0**-22 if in_float32 else 1e-12
        u, s, v = np.linalg.svd(self.weights, full_matrices=False)
        if len(s) > 1 and s[1] > tolerance * s[0]:
            return None
        root = math.sqrt(s[0])
        return Taps(self.start[0], u[:, 0] * root), Taps(self.start[1], v[0] * root)


def _mirrors(weights: Array, mirrored: Array) -> bool:
    return bool(np.abs(weights - mirrored).max() <= 1e-15 * np.abs(weights).max())


def exposure_taps(exposure: float, phase: float) -> Taps:
    """The shutter: the mean over the HR times [phase, phase + exposure), HR frame p covering [p, p + 1).

    Frames that the interval covers in part weigh in proportion, so exposure and phase may be fractional.
    """
    first, last = math.floor(phase), math.ceil(phase + exposure)
    edges = np.clip(np.arange(first, last + 1, dtype=np.float64), phase, phase + exposure)
    return Taps(first, np.diff(edges) / exposure)


def bicubic_taps(scale: int) -> Taps:
    """The antialiased bicubic kernel of MATLAB's imresize (Keys 1981, a = -1/2), stretched by `scale`.

    4 * scale taps for even scales, one less for odd ones, centred on the LR pixel, normalised to the sum 1.
    """
    centre = (scale - 1) / 2
    offsets = np.arange(math.floor(centre - 2 * scale) + 1, math.ceil(centre + 2 * scale))
    distance = np.abs(offsets - centre) / scale
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance <= 1, near, far)
    return Taps(int(offsets[0]), weights / weights.sum())


def gaussian_taps(scale: int, sigma: float) -> Taps:
    """A Gaussian of standard deviation `sigma` HR pixels centred on the LR pixel, cut at 4 sigma, of sum 1."""
    centre = (scale - 1) / 2
    offsets = np.arange(math.ceil(centre - 4 * sigma - 1), math.floor(centre + 4 * sigma + 1) + 1)
    squares = (offsets - centre) ** 2
    # Relative to the nearest tap: of a very narrow Gaussian all weights by themselves would be zero.
    weights = np.exp(-0.5 * (squares - squares.min()) / sigma**2)
    return Taps(int(offsets[0]), weights / weights.sum())


def named_taps(name: str, scale: int, sigma: float) -> Taps:
    """Taps of a named PSF: bicubic, gaussian, box (the mean of the LR pixel's HR pixels), delta (HR pixel scale i)."""
    if name == "bicubic":
        return bicubic_taps(scale)
    if name == "gaussian":
        return gaussian_taps(scale, sigma)
    if name == "box":
        return Taps(0, np.full(scale, 1 / scale))
    if name == "delta":
        return Taps(0, np.ones(1))
    raise ValueError(f"degradation.psf: must be bicubic, gaussian, box, delta or a kernel, got {name!r}")


def convolution_taps(kernel: Array, origin: int) -> Taps:
    """Taps of a true convolution: kernel[j] acts at offset origin - j."""
    return Taps(origin - len(kernel) + 1, kernel[::-1].copy())


def extend_index(positions: npt.NDArray[np.int64], size: int, boundary: Boundary) -> npt.NDArray[np.int64]:
    """Where a position outside [0, size) is read: half-sample symmetric (`reflect`) or periodic (`circular`)."""
    if boundary == "circular":
        return positions % size
    folded = positions % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def axis_matrix(taps: Taps, scale: int, size: int, boundary: Boundary) -> Array:
    """The operator along one axis as a dense matrix [size, scale * size]; `size` is the LR length."""
    positions = scale * np.arange(size)[:, None] + taps.offsets  # [size, n]
    columns = extend_index(positions, scale * size, boundary)
    matrix = np.zeros((size, scale * size))
    np.add.at(matrix, (np.arange(size)[:, None], columns), taps.weights)
    return matrix


def transfer_function(taps: Taps, size: int) -> npt.NDArray[np.complex128]:
    """The DFT of the taps on a periodic grid of `size` HR samples."""
    kernel = np.zeros(size)
    np.add.at(kernel, -taps.offsets % size, taps.weights)
    return np.fft.fft(kernel)


def plane_transfer_function(psf: DensePSF, height: int, width: int) -> npt.NDArray[np.complex128]:
    """The 2-D DFT of a dense PSF on a periodic grid, [height, width]."""
    rows = -(psf.start[0] + np.arange(psf.weights.shape[0])) % height
    columns = -(psf.start[1] + np.arange(psf.weights.shape[1])) % width
    kernel = np.zeros((height, width))
    np.add.at(kernel, (rows[:, None], columns[None, :]), psf.weights)
    return np.fft.fft2(kernel)


def aliased_power(transfer: npt.NDArray[np.complex128], scale: tuple[int, ...]) -> Array:
    """fold(|B|^2): the mean of the power over the aliased blocks, the spectrum of A A^T on the LR grid."""
    shape: list[int] = []
    for size, s in zip(transfer.shape, scale, strict=True):
        shape += [s, size // s]
    return (np.abs(transfer) ** 2).reshape(shape).mean(axis=tuple(range(0, 2 * len(scale), 2)))


def spatial_taps(
    psf: str | Tensor | tuple[Tensor, Tensor], scale: tuple[int, int], sigma: float, origin: tuple[int, int] | None
) -> tuple[Taps, Taps] | DensePSF:
    """A PSF by its name, as taps of both axes, or as a kernel [k_h, k_w]; ValueError where it is none of these."""
    if isinstance(psf, str):
        return named_taps(psf, scale[0], sigma), named_taps(psf, scale[1], sigma)
    if isinstance(psf, (tuple, list)):
        if len(psf) != 2 or any(_array(k).ndim != 1 or _array(k).size == 0 for k in psf):
            raise ValueError("degradation.psf: axis taps must be a pair of 1-D tensors")
        kernels = [_array(k) for k in psf]
        origins = origin or (len(kernels[0]) // 2, len(kernels[1]) // 2)
        return convolution_taps(kernels[0], origins[0]), convolution_taps(kernels[1], origins[1])
    kernel = _array(psf)
    if kernel.ndim != 2 or kernel.size == 0 or not kernel.any():
        raise ValueError(f"degradation.psf: a dense kernel must be a non-zero [k_h, k_w], got {list(kernel.shape)}")
    height, width = kernel.shape
    origins = origin or (height // 2, width // 2)
    dense = DensePSF((origins[0] - height + 1, origins[1] - width + 1), kernel[::-1, ::-1].copy())
    return dense.factors() or dense


def _array(kernel: Any) -> np.ndarray:
    array = np.asarray(kernel.detach().cpu() if isinstance(kernel, Tensor) else kernel, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("degradation.psf: the kernel must be finite")
    if array.size and max(array.shape) > _LONGEST_SIDE:
        raise ValueError(
            f"degradation.psf: the kernel must be at most {_LONGEST_SIDE} taps a side, got {list(array.shape)}"
        )
    largest = float(np.abs(array).max(initial=0))
    if (
        largest and not 1 / _LARGEST_TAP <= largest <= _LARGEST_TAP
    ):  # squares of it, and quotients of those, must be numbers
        raise ValueError(f"degradation.psf: the kernel's largest tap must be from 1e-9 to 1e9, got {largest:g}")
    return array


def described(psf: str | Tensor | tuple[Tensor, Tensor], sigma: float) -> str:
    """A PSF as it is shown: its name, or the sizes of its kernels."""
    if isinstance(psf, str):
        return f"{psf!r}, psf_sigma={sigma:g}" if psf == "gaussian" else repr(psf)
    sizes = [tuple(kernel.shape) for kernel in (psf if isinstance(psf, (tuple, list)) else [psf])]
    return f"<{' and '.join('x'.join(map(str, size)) for size in sizes)} kernel>"


def load_psf(path: str) -> Tensor:
    """The kernel [k_h, k_w] of an .npy file, in float64.

    Raises:
        InputError: the file cannot be read, or holds another kind of array, or one that is too large.
    """
    try:
        # Mapped, an array that claims more than its file holds is refused before memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"degradation.psf: {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy parses the header as Python, and says what that says
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"degradation.psf: {path} is not a readable .npy array ({reason})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or array.ndim != 2:
        held = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"degradation.psf: {path} must hold numbers [k_h, k_w], got {held}")
    require_below("PSF_TAPS", array.size, f"degradation.psf: {path} has")
    return torch.from_numpy(np.array(array, dtype=np.float64))
