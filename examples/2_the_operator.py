"""The operator and its data step

`y = A x + n`: exposure, blur and decimation are one linear operator. Its data step moves an estimate `x` to where it
explains `y`, exactly, in closed form, and without any learned weights.
"""

import pictures
import torch

import davsr

A = davsr.Degradation(scale=(5, 4, 4), exposure=2.5, psf="gaussian", psf_sigma=1.4)
print(A)

x = pictures.sample(frames=15).transpose(0, 1)[None]  # [b, c, T, H, W]
y = A(x)

# <A x, y> = <x, A^T y>
print(f"adjoint: {(A(x) * y).sum():.2f} = {(x * A.adjoint(y)).sum():.2f}")

start = torch.nn.functional.interpolate(y, size=x.shape[2:], mode="trilinear")
z = A.data_step(start, y, alpha=0.24 * A.largest_eigenvalue())
for name, video in (("trilinear", start), ("data step", z)):
    print(f"{name}: ||y - A x|| {A.residual(video, y).mean():.5f}, error {(video - x).square().mean().sqrt():.4f}")

pictures.side_by_side(
    "picture.png", {"observed": y[0, :, 1], "trilinear": start[0, :, 7], "data step": z[0, :, 7], "truth": x[0, :, 7]}
)
