"""PSNR and SSIM as the protocol defines them: on uint8 RGB frames, per frame, without cropping borders."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from davsr.runtime import widest_float

PROTOCOL = (
    "PSNR / SSIM (Gaussian 11, sigma 1.5, covered windows) per RGB frame on values rounded to 8 bits, whole frames, "
    "mean over frames, then clips"
)
WINDOW, SIGMA = 11, 1.5
_PEAK = 255.0
_STRIP = 16  # rows of windows that a CPU works on at once: they stay in the cache
_POSITIONS = [k - WINDOW // 2 for k in range(WINDOW)]
_TOTAL = sum(math.exp(-(p**2) / (2 * SIGMA**2)) for p in _POSITIONS)
_TAPS = [math.exp(-(p**2) / (2 * SIGMA**2)) / _TOTAL for p in _POSITIONS]
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of uint8 frames [n, c, h, w] -> float64 [n] on the CPU.

    Equal frames give inf.
    """
    _require_frames("psnr", a, b)
    squares = (a.short() - b.short()).int().square().sum(dim=(1, 2, 3))  # whole numbers: exact on every device
    return 10 * torch.log10(_PEAK**2 * a[0].numel() / squares.cpu().double())


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of uint8 frames [n, c, h, w] -> float64 [n] on the CPU, the mean over covered windows and
    channels.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, with their
    Gaussian window and constants, without their downsampling.
    """
    _require_frames("ssim", a, b)
    if min(a.shape[2:]) < WINDOW:
        raise ValueError(f"ssim: frames must be at least {WINDOW}x{WINDOW}, got {a.shape[3]}x{a.shape[2]}")
    return torch.stack([_ssim_of_frame(x, y) for x, y in zip(a, b, strict=True)])


def _ssim_of_frame(a: Tensor, b: Tensor) -> Tensor:
    # Centred on mid-grey: variances are differences of squares, and smaller squares lose fewer digits in float32.
    x, y = a.float() - 128, b.float() - 128
    rows = x.shape[1] - WINDOW + 1
    strip = _STRIP if x.device.type == "cpu" else rows  # a GPU waits for launches, not for memory
    sums = [
        _ssim_sum(x[:, r : r + strip + WINDOW - 1], y[:, r : r + strip + WINDOW - 1]) for r in range(0, rows, strip)
    ]
    return torch.stack(sums).cpu().double().sum() / (len(x) * rows * (x.shape[2] - WINDOW + 1))


def _ssim_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum over the windows of a strip [c, h, w], float64 where the device has it.

    With 2 ab = a^2 + b^2 - (a - b)^2 for means and covariances, so that equal frames give 1 exactly.
    """
    mean_x, mean_y, squares, differences = _blur(torch.stack([x, y, x * x + y * y, (x - y).square()]))
    shift = (mean_x - mean_y).square()
    variances = squares - mean_x.square() - mean_y.square() + _C2  # of x and y together: SSIM needs no more
    power = (mean_x + 128).square() + (mean_y + 128).square() + _C1
    values = (1 - shift / power) * (1 - (differences - shift) / variances)
    return values.sum(dtype=widest_float(values.device))


def _blur(maps: Tensor) -> Tensor:
    """Gaussian means of [..., h, w] over the windows that lie inside.

    By shifted sums: on strips that stay in the cache this is three times faster than a convolution of planes.
    """
    for dim in (-2, -1):
        length = maps.shape[dim] - WINDOW + 1
        means = maps.narrow(dim, 0, length) * _TAPS[0]
        for k in range(1, WINDOW):
            means.add_(maps.narrow(dim, k, length), alpha=_TAPS[k])
        maps = means
    return maps


def _require_frames(name: str, a: Tensor, b: Tensor) -> None:
    for frames in (a, b):
        if frames.dtype != torch.uint8 or frames.dim() != 4:
            raise ValueError(f"{name}: frames must be uint8 [n, c, h, w], got {frames.dtype} {list(frames.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"{name}: frames must have one shape, got {list(a.shape)} and {list(b.shape)}")
