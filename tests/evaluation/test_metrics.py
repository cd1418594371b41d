"""PSNR and SSIM against scikit-image, and what they must say of known differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from davsr.evaluation.metrics import psnr, ssim
from davsr.pixels import to_uint8


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    cat = data.chelsea()[:120, :161]
    dark = (cat // 16).astype(np.uint8)
    return [
        (cat, np.clip(cat + rng.normal(0, 12, cat.shape), 0, 255).astype(np.uint8)),
        (cat, np.roll(cat, 1, axis=1)),
        (dark, np.clip(dark + rng.integers(-2, 3, dark.shape), 0, 255).astype(np.uint8)),  # tiny variances
        (np.full_like(cat, 250), np.full_like(cat, 251)),  # flat and bright: all digits lie in the mean
    ]


def as_frames(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None]


def test_psnr_is_that_of_scikit_image() -> None:
    for a, b in pairs():
        expected = peak_signal_noise_ratio(a, b, data_range=255)
        assert psnr(as_frames(a), as_frames(b)).item() == pytest.approx(expected, rel=1e-12)


def test_ssim_is_that_of_scikit_image() -> None:
    for a, b in pairs():
        _, values = structural_similarity(
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2,
            full=True,
        )
        expected = values[5:-5, 5:-5].mean()
        assert ssim(as_frames(a), as_frames(b)).item() == pytest.approx(
            expected, abs=2e-6
        )  # seen: 3e-7, float32 windows


def test_frames_are_scored_one_by_one() -> None:
    a = torch.cat([as_frames(p) for p, _ in pairs()])
    b = torch.cat([as_frames(q) for _, q in pairs()])
    for score in (psnr, ssim):
        torch.testing.assert_close(score(a, b), torch.cat([score(p[None], q[None]) for p, q in zip(a, b, strict=True)]))


def test_equal_frames() -> None:
    a = as_frames(data.chelsea()[:32, :32])
    assert math.isinf(psnr(a, a).item()) and ssim(a, a).item() == 1


def test_wrong_frames_are_refused() -> None:
    a = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="psnr: frames must be uint8"):
        psnr(a.float(), a)
    with pytest.raises(ValueError, match="ssim: frames must have one shape"):
        ssim(a, a[..., :15])
    with pytest.raises(ValueError, match="ssim: frames must be at least 11x11, got 16x10"):
        ssim(a[..., :10, :], a[..., :10, :])


def test_rounding_to_eight_bits() -> None:
    values = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255]
