"""Dense inverse search flow (Kroeger et al., ECCV 2016), by OpenCV: no weights, on the CPU."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

_DIS_SIDE = 12  # the smallest image that OpenCV's search takes


def dis_flow(reference: Tensor, support: Tensor) -> Tensor:
    """OpenCV's dense inverse search flow, so that support at p + flow(p) looks like reference at p.

    [n, 3, h, w] in [0, 1] -> [n, 2, h, w] in pixels, (dx, dy). Needs no weights; runs on the CPU; not differentiable.
    """
    # The finest scale is the full LR grid: the preset's default stops at half of it.
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)
    height, width = reference.shape[2:]
    small = ((0, max(_DIS_SIDE - height, 0)), (0, max(_DIS_SIDE - width, 0)))
    flows = [
        estimator.calc(np.pad(_grey(a), small, "edge"), np.pad(_grey(b), small, "edge"), None)[:height, :width]
        for a, b in zip(reference.detach().cpu(), support.detach().cpu(), strict=True)
    ]
    # Plane by plane, as what is computed from them lies: the search gives the two numbers of a pixel side by side.
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(reference)


def _grey(frame: Tensor) -> np.ndarray:
    weights = frame.new_tensor([0.299, 0.587, 0.114]) if frame.shape[0] == 3 else frame.new_full((len(frame),), 1.0)
    # No matrix product: autocast would lower it, and the search sees what bfloat16 takes from a value.
    luma = (frame.float() * (weights.float() / weights.sum()).view(-1, 1, 1)).sum(dim=0)
    return (luma * 255).round().clamp(0, 255).byte().numpy()
