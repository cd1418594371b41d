"""What each difference between our defaults and the published behaviour is worth on a clip.

The table of docs/differences.md.

    python benchmarks/differences.py CLIP [--start 0] [--psf PSF.npy]

A crop of the clip is degraded in the standard setting (scale (5, 4, 4), exposure 5, bicubic PSF, reflect, 8-bit), then
brought back without learning. A row changes one thing of the initial interpolation x_0 or of the data step that makes
z_1 of it.
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from davsr.data.clips import open_clip
from davsr.evaluation.metrics import psnr
from davsr.models import interpolation
from davsr.models.interpolation import Interpolation
from davsr.models.warp import warp
from davsr.options import ALPHA, InterpolationOptions
from davsr.physics.degradation import Degradation
from davsr.physics.solvers import spectral_data_step_reference
from davsr.pixels import to_uint8

UNTRAINED_ALPHA = 0.69  # softplus(0): what a zero bias starts from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--start", type=int, default=0, help="first frame")
    parser.add_argument("--frames", type=int, default=45)
    parser.add_argument("--side", type=int, default=256, help="of the crop from the middle")
    parser.add_argument(
        "--psf", help="dense 25x25 PSF (.npy) that a circular data step uses with tap (12, 12) as its origin"
    )
    args = parser.parse_args()

    clip = open_clip(args.clip)
    h, w = clip.size
    indices = range(args.start, args.start + args.frames)
    crop = clip.crop(indices, (h - args.side) // 2, (w - args.side) // 2, args.side, args.side)
    truth = torch.from_numpy(crop).permute(3, 0, 1, 2)[None].float() / 255  # [1, 3, T, H, W]
    standard = Degradation()
    observed = to_uint8(standard.apply(truth)).float() / 255
    alpha = ALPHA * standard.largest_eigenvalue()

    def start(**options: object) -> Tensor:
        return Interpolation(InterpolationOptions(**options))(observed.transpose(1, 2), standard)

    def step(x: Tensor, alpha: float = alpha, **changes: object) -> Tensor:
        return Degradation(**changes).data_step(x, observed, alpha)

    def score(x: Tensor, border: int = 0) -> float:
        """PSNR over the frames but the two at each end; `border`: of the outer pixels only."""
        a, b = (to_uint8(v)[0, :, 2:-2].transpose(0, 1) for v in (x, truth))
        if border:
            inner = slice(border, -border)
            mask = torch.ones(a.shape[-2:], dtype=torch.bool)
            mask[inner, inner] = False
            a, b = a[..., mask][..., None], b[..., mask][..., None]
        return psnr(a, b).mean().item()

    x0 = start()
    z1 = step(x0)
    rows = [("x_0, ours: flow, bicubic half-pixel", score(x0)), ("z_1, ours", score(z1))]
    rows += [
        ("z_1, phase -2 in the data step", score(step(x0, phase=-2))),
        ("z_1, phase -2, circular boundary", score(step(x0, phase=-2, boundary="circular"))),
        ("z_1, circular boundary", score(step(x0, boundary="circular"))),
        ("z_1, ours, outer 8 pixels", score(z1, border=8)),
        ("z_1, circular boundary, outer 8 pixels", score(step(x0, boundary="circular"), border=8)),
    ]
    if args.psf:
        psf = torch.from_numpy(np.load(args.psf).astype(np.float64))
        rows.append(("z_1, published PSF, circular", score(step(x0, boundary="circular", psf=psf, origin=(12, 12)))))
    corners = start(method="trilinear")
    bilinear = start(resize="bilinear_corners", method="linear")
    linear = start(method="linear")
    rows += [
        ("x_0, linear, bicubic half-pixel", score(linear)),
        ("x_0, linear, bilinear align_corners", score(bilinear)),
        ("x_0, trilinear align_corners", score(corners)),
        ("z_1 from linear, bicubic half-pixel", score(step(linear))),
        ("z_1 from trilinear align_corners", score(step(corners))),
        (f"z_1, alpha {UNTRAINED_ALPHA} of a zero bias", score(step(x0, alpha=UNTRAINED_ALPHA))),
    ]
    with mock.patch.object(interpolation, "warp", lambda x, flow, padding="zeros": warp(x, flow, padding="zeros")):
        rows.append(("x_0, warps see zeros outside", score(start())))
    for name, value in rows:
        print(f"{name:45s} {value:6.2f} dB")
    for factor in (1.0, 1e-3):
        residual, spectral = closed_form_errors(x0, observed, alpha * factor)
        print(
            f"float32 error of z_1, largest, alpha {alpha * factor:.0e}: ours {residual:.1e}, spectral form {spectral:.1e}"
        )


def closed_form_errors(x: Tensor, y: Tensor, alpha: float) -> tuple[float, float]:
    """Largest float32 error of the residual form (ours) and of the published spectral form, both circular, against
    float64.
    """
    circular = Degradation(boundary="circular")
    exact = circular.data_step(x.double(), y.double(), alpha)
    # the adjoint spreads an LR impulse to the PSF, mirrored
    one = torch.zeros(1, 1, *y.shape[2:], dtype=torch.float64)
    one[..., 0, 0, 0] = 1
    psf = circular.adjoint(one).flip(2, 3, 4).roll((1, 1, 1), (2, 3, 4))[0, 0]
    otf = torch.fft.fftn(psf).to(torch.complex64)
    spectral = spectral_data_step_reference(x, y, torch.tensor([alpha]), otf, circular.scale)
    ours = circular.data_step(x, y, alpha)
    return (ours - exact).abs().max().item(), (spectral - exact).abs().max().item()


if __name__ == "__main__":
    main()
