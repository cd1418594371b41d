"""What LR frames show: pictures of them at HR size, each by itself, and what these are at any time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from davsr.models.interpolation import resize_bicubic
from davsr.models.motion import Motion, Times, length, uniform_motion
from davsr.models.rounds import NOISE
from davsr.models.warp import warp
from davsr.ops import warp_between
from davsr.physics.operator import Operator


def restore_pictures(lq: Tensor, degradation: Operator, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Every LR frame by itself at HR size: resized, then in agreement with what was observed. [b, t, c, H, W]."""
    (h, w), (_, s_h, s_w) = lq.shape[3:], degradation.scale
    return agree_one_by_one(resize_bicubic(lq, (h * s_h, w * s_w)), lq, degradation, alpha, sigma)


def agree_one_by_one(pictures: Tensor, lq: Tensor, degradation: Operator, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Pictures [b, t, c, H, W] of the LR frames after a data step with the spatial part of A.

    alpha [b] is that of a step with the whole of A; it counts in largest eigenvalues, and noise adds to it as in the
    rounds.
    """
    still = degradation.spatial()
    alphas = alpha * (still.largest_eigenvalue() / degradation.largest_eigenvalue()) + (sigma / NOISE) ** 2
    return still.data_step(pictures.transpose(1, 2), lq.transpose(1, 2), alphas).transpose(1, 2)


class Seen(NamedTuple):
    """What the LR frames show at their own times."""

    fine: Tensor  # [b, t, 6, H, W], pictures with their detail, and the detail
    features: Tensor  # [b, t, c, h, w]


class Shown(NamedTuple):
    """What LR frames show of n HR frames: brought to their times along the motion."""

    picture: Tensor  # [n, 3, H, W], with its detail
    detail: Tensor  # [n, 3, H, W]
    features: Tensor  # [n, c, h, w]
    speed: Tensor  # [n, 1, h, w], LR pixels between two LR frames
    mismatch: Tensor  # [n, 1, h, w], mean difference of the two neighbours
    distance: Tensor  # [n], to the nearest LR frame, in LR frames


def shown_at(
    times: Times,
    seen: Seen,
    lq: Tensor,  # [b, t, 3, h, w]
    motion: Motion,
) -> Shown:
    """Both neighbours moved to each of `times` and blended; motion is uniform between two LR frames.

    n = b len(times).
    """
    b, t = lq.shape[:2]
    h, w = lq.shape[3:]
    low = np.clip(times.astype(int), 0, max(t - 2, 0))
    high = np.minimum(low + 1, t - 1)
    f = torch.from_numpy(times - low).to(lq).repeat(b).view(-1, 1, 1, 1)

    def of(video: Tensor, which: npt.NDArray[np.int_]) -> Tensor:
        return video[:, which].flatten(0, 1)

    if motion.there is None or motion.back is None:
        still = lq.new_zeros(len(f), 1, h, w)
        picture, detail = of(seen.fine, low).split(3, dim=1)
        return Shown(picture, detail, of(seen.features, low), still, still, f.flatten())
    moves = uniform_motion(of(motion.there, low), of(motion.back, low), f)
    to_low, to_high = -f * moves, (1 - f) * moves

    def blended(video: Tensor) -> Tensor:
        flows = to_low.unflatten(0, (b, -1)), to_high.unflatten(0, (b, -1))
        return warp_between(video, *flows, low=low.tolist(), share=(times - low).tolist()).to(lq.dtype).flatten(0, 1)

    near, far = warp(of(lq, low), to_low, padding="border"), warp(of(lq, high), to_high, padding="border")
    picture, detail = blended(seen.fine).split(3, dim=1)
    return Shown(
        picture,
        detail,
        blended(seen.features),
        length(moves, dim=1),
        (near - far).abs().mean(dim=1, keepdim=True),
        torch.minimum(f, 1 - f).flatten(),
    )
