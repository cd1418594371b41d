"""PSNR and SSIM as the protocol defines them: on uint8 RGB frames, per frame, without cropping borders."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

PROTOCOL = (
    "PSNR / SSIM (Gaussian 11, sigma 1.5, covered windows) per RGB frame on values rounded to 8 bits, whole frames, "
    "mean over frames, then clips"
)
WINDOW, SIGMA = 11, 1.5
_PEAK = 255.0
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of uint8 frames [n, c, h, w] -> float64 [n]; equal frames give inf."""
    _require_frames("psnr", a, b)
    error = (a.short() - b.short()).double().square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(_PEAK**2 / error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of uint8 frames [n, c, h, w] -> float64 [n], the mean over fully covered windows and channels.

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
    mean_x, mean_y, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    mean_x, mean_y = mean_x + 128, mean_y + 128
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * cov + _C2) / (var_x + var_y + _C2)
    return (luminance * structure).double().mean()


def _blur(maps: Tensor) -> Tensor:
    """Gaussian means of [n, c, h, w] over the windows that lie inside."""
    n, c, h, w = maps.shape
    planes = maps.reshape(1, n * c, h, w)
    taps = _gaussian(maps.device).expand(n * c, 1, WINDOW)  # depthwise: 5 times faster than planes as a batch
    rows = F.conv2d(planes, taps[..., None], groups=n * c)
    return F.conv2d(rows, taps[:, :, None], groups=n * c).view(n, c, h - WINDOW + 1, w - WINDOW + 1)


@functools.cache
def _gaussian(device: torch.device) -> Tensor:
    position = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    taps = torch.exp(-(position**2) / (2 * SIGMA**2))
    return (taps / taps.sum()).float().to(device)


def _require_frames(name: str, a: Tensor, b: Tensor) -> None:
    for frames in (a, b):
        if frames.dtype != torch.uint8 or frames.dim() != 4:
            raise ValueError(f"{name}: frames must be uint8 [n, c, h, w], got {frames.dtype} {list(frames.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"{name}: frames must have one shape, got {list(a.shape)} and {list(b.shape)}")


def to_uint8(frames: Tensor) -> Tensor:
    """Frames in [0, 1] clamped and rounded to what a display shows."""
    return frames.clamp(0, 1).mul(_PEAK).round().byte()
