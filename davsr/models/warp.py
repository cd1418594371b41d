"""Backward warping."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sampling_grid(flow: Tensor) -> Tensor:
    """Positions p + flow of a flow [b, 2, h, w] in pixels (dx, dy): a grid [b, h, w, 2] for `grid_sample`, align_corners=False.

    Normalised so that pixel x lies at (2x + 1)/w - 1 (half-pixel form). It samples exactly where the form with aligned
    corners does, and unlike that one it is defined for a side of one pixel.
    """
    _, _, h, w = flow.shape
    flow = flow if flow.dtype == torch.float64 else flow.float()  # coordinates never lose bits to a lower precision
    x = torch.arange(w, dtype=flow.dtype, device=flow.device)
    y = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None]
    return torch.stack([(2 * (x + flow[:, 0]) + 1) / w - 1, (2 * (y + flow[:, 1]) + 1) / h - 1], dim=-1)


def warp(x: Tensor, flow: Tensor, *, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Sample x [b, c, h, w] bilinearly at p + flow(p); returns [b, c, h, w] in the dtype and memory format of x.

    Coordinates and sums are float32 (float64 where x or the flow is), also under autocast.

    Args:
        flow: [b, 2, h, w] in pixels, (dx, dy).
        padding: what lies outside the image: zeros, or its nearest border pixel.
    """
    grid = sampling_grid(flow)
    with torch.autocast(x.device.type, enabled=False):
        sampled = F.grid_sample(x.to(grid.dtype), grid, mode="bilinear", padding_mode=padding, align_corners=False)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return sampled.to(x.dtype, memory_format=torch.channels_last if last else torch.preserve_format)
