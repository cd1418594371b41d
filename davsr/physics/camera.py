"""What a camera makes of sharp frames, in one call."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from davsr.physics.degradation import Degradation
from davsr.pixels import as_clip


def degrade(
    frames: Tensor | np.ndarray,
    degradation: Degradation | None = None,
    *,
    sigma: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The frames that a camera takes of a sharp video: y = A x + n.

    Args:
        frames: sharp HR frames [b, T, c, H, W] in [0, 1], T, H and W multiples of the scale; also [T, c, H, W],
            uint8, and arrays.
        degradation: the observation model A; None: scale (5, 4, 4), an open shutter, the bicubic point-spread function.
        sigma: standard deviation of the noise, fraction of full scale.
        generator: where the noise comes from, for the same noise again.

    Returns:
        LR frames [b, t, c, h, w], without b where the input had none; floating point, not clamped.

    Raises:
        ValueError: the frames are no such video, or their sizes do not fit the scale.
    """
    x, batched = as_clip(frames, "degrade: frames")
    A = degradation or Degradation()
    y = A(x.transpose(1, 2)).transpose(1, 2).to(x.dtype)
    if sigma:
        y = y + sigma * torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
    return y if batched else y[0]
