"""Backward warping."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from davsr.ops import sample, sampling_grid


def warp(x: Tensor, flow: Tensor, *, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Sample x [b, c, h, w] bilinearly at p + flow(p); returns [b, c, h, w] in the dtype and memory format of x.

    Coordinates and sums are float32 (float64 where x or the flow is), also under autocast.

    Args:
        flow: [b, 2, h, w] in pixels, (dx, dy).
        padding: what lies outside the image: zeros, or its nearest border pixel.
    """
    grid = sampling_grid(flow)
    with torch.autocast(x.device.type, enabled=False):
        sampled = sample(x.to(grid.dtype), grid, padding=padding)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return sampled.to(x.dtype, memory_format=torch.channels_last if last else torch.preserve_format)
