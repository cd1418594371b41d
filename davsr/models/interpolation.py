"""x_0: the LR frames brought to the HR grid in time (interpolation) and space (resize)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.dis import dis_flow
from davsr.models.flow import SPyNet
from davsr.models.motion import Motion, Times
from davsr.models.precision import empty_volume
from davsr.models.superslomo import SuperSloMo
from davsr.ops import warp_between
from davsr.options import InterpolationOptions
from davsr.physics.operator import Operator

FlowEstimator = Callable[[Tensor, Tensor], Tensor]  # (reference, support) [n, c, h, w] -> [n, 2, h, w]


class Interpolation(nn.Module):
    """Initial interpolation: HR frame p has the LR time u = (p - centre) / s_t, clamped to the clip.

    `nearest` repeats, `linear` blends the two neighbours, `flow` blends them motion-compensated, `slomo` is Super
    SloMo, `trilinear` is one align_corners=True resize of the whole volume. Then every frame is resized to HR:
    `bicubic` in half-pixel geometry, which is the operator's, or `bilinear_corners` for parity with the publication.
    """

    def __init__(self, options: InterpolationOptions | None = None) -> None:
        super().__init__()
        self.options = options or InterpolationOptions()
        self.slomo = SuperSloMo() if self.options.method == "slomo" else None
        self.flow = SPyNet() if self.options.method == "flow" and self.options.flow == "spynet" else None

    @property
    def learned_part(self) -> SuperSloMo | SPyNet | None:
        """What `weights` are of."""
        return self.slomo or self.flow

    def times(self, t: int, degradation: Operator) -> Times:
        """When the HR frames of t LR frames are."""
        s_t = degradation.scale[0]
        centre = degradation.centre if self.options.centre is None else self.options.centre
        return np.clip((np.arange(t * s_t) - centre) / s_t, 0, t - 1)

    def motion(self, lq: Tensor, degradation: Operator) -> Motion:
        """Times of the HR frames of a clip [b, t, c, h, w], and with the method `flow` its motion."""
        times = self.times(lq.shape[1], degradation)
        if self.options.method != "flow" or lq.shape[1] == 1:
            return Motion(times)
        return Motion(times, *flow_between_neighbours(lq, self.flow if self.flow is not None else dis_flow))

    def forward(self, lq: Tensor, degradation: Operator, motion: Motion | None = None) -> Tensor:
        """lq [b, t, c, h, w] -> x_0 [b, c, T, H, W]; `motion`: of this clip, where it is known."""
        s_t, s_h, s_w = degradation.scale
        t, _, h, w = lq.shape[1:]
        size = (h * s_h, w * s_w)
        if self.options.method == "trilinear":
            return F.interpolate(lq.transpose(1, 2), size=(t * s_t, *size), mode="trilinear", align_corners=True)
        motion = motion or self.motion(lq, degradation)
        if motion.there is not None and motion.back is not None:
            return interpolate_along_flow(lq, motion.times, (s_h, s_w), motion.there, motion.back).transpose(1, 2)
        if self.slomo is not None:
            return self._resize(self.slomo(lq, motion.times.tolist()), size).transpose(1, 2)
        nearest = self.options.method == "nearest"
        frames = lq[:, np.floor(motion.times + 0.5).astype(int)] if nearest else blend(lq, motion.times)
        return self._resize(frames, size).transpose(1, 2)

    def parts(self, lq: Tensor, degradation: Operator, motion: Motion) -> Iterator[Tensor]:
        """`forward` by LR frames: [b, c, s_t, H, W] of each, in memory of its own; along flows never the whole."""
        s_t, s_h, s_w = degradation.scale
        if self.options.method == "flow" and motion.there is not None and motion.back is not None:
            yield from interpolate_in_parts(lq, motion.times, (s_h, s_w), motion.there, motion.back, s_t)
        else:
            whole = self(lq, degradation, motion)
            for first in range(0, whole.shape[2], s_t):
                yield whole[:, :, first : first + s_t].clone(memory_format=torch.contiguous_format)

    def _resize(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        if self.options.resize == "bicubic":
            return resize_bicubic(frames, size)
        corners = F.interpolate(frames.flatten(0, 1), size=size, mode="bilinear", align_corners=True)
        return corners.unflatten(0, frames.shape[:2])


def blend(lq: Tensor, times: Times) -> Tensor:
    """Linear interpolation in time: [b, t, c, h, w] at `times` in LR frames -> [b, len(times), c, h, w]."""
    low = np.floor(times).astype(int)
    high = np.minimum(low + 1, lq.shape[1] - 1)
    weight = torch.from_numpy(times - low).to(lq).view(1, -1, 1, 1, 1)
    return torch.lerp(lq[:, low], lq[:, high], weight)


def resize_bicubic(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Half-pixel bicubic resize of [b, t, c, h, w] to [b, t, c, *size]."""
    resized = F.interpolate(frames.flatten(0, 1), size=size, mode="bicubic", align_corners=False)
    return resized.unflatten(0, frames.shape[:2])


def flow_between_neighbours(lq: Tensor, estimate: FlowEstimator) -> tuple[Tensor, Tensor]:
    """From every frame of lq [b, t, c, h, w] but the last to the next one, and back: two flows [b, t - 1, 2, h, w]."""
    b, t = lq.shape[:2]
    first, second = lq[:, :-1].flatten(0, 1), lq[:, 1:].flatten(0, 1)
    flow_01, flow_10 = (estimate(*pair).unflatten(0, (b, t - 1)) for pair in ((first, second), (second, first)))
    return flow_01, flow_10


def interpolate_along_flow(
    lq: Tensor, times: Times, scale: tuple[int, int], flow_01: Tensor, flow_10: Tensor
) -> Tensor:
    """Motion-compensated interpolation, both neighbours warped to the time in between and blended.

    The motion at time f between frames 0 and 1 follows from the two flows F01, F10 by the linear-motion model of
    Super SloMo (Jiang et al., CVPR 2018): F_f0 = -f (1 - f) F01 + f^2 F10, F_f1 = (1 - f)^2 F01 - f (1 - f) F10.

    lq [b, t, c, h, w], flows [b, t - 1, 2, h, w] -> [b, T, c, H, W]. Flow is estimated on LR frames; warping is done at
    HR, where the frames are smooth and bilinear sampling loses nothing.
    """
    b, _, c, h, w = lq.shape
    size = (h * scale[0], w * scale[1])
    frames = resize_bicubic(lq, size).contiguous()
    result = empty_volume(lq, b, c, len(times), *size).transpose(1, 2)  # as everything after it lies in memory
    _put_between(frames, 0, times, flow_01, flow_10, result)
    return result


def interpolate_in_parts(
    lq: Tensor, times: Times, scale: tuple[int, int], flow_01: Tensor, flow_10: Tensor, n: int
) -> Iterator[Tensor]:
    """The same, n frames at a time, [b, c, n, H, W]: few LR frames at HR size are there at once."""
    b, t, c, h, w = lq.shape
    size = (h * scale[0], w * scale[1])
    parts = [times[begin : begin + n] for begin in range(0, len(times), n)]
    spans = [(int(some[0]), min(int(some[-1]) + 2, t)) for some in parts]
    frames = lq.new_empty(b, max(stop - low for low, stop in spans), c, *size)  # LR frames at HR size
    first = known = 0  # it has those from first, ..., known - 1
    for some, (low, stop) in zip(parts, spans, strict=True):
        for j in range(low, stop):
            if j >= known:
                frames[:, j - low] = resize_bicubic(lq[:, j : j + 1], size)[:, 0]
            elif low > first:
                frames[:, j - low] = frames[:, j - first]
        first, known = low, stop
        made = lq.new_empty(b, c, len(some), *size)
        _put_between(frames, first, some, flow_01, flow_10, made.transpose(1, 2))
        yield made
        del made  # before the next one takes memory


def _put_between(frames: Tensor, first: int, times: Times, flow_01: Tensor, flow_10: Tensor, result: Tensor) -> None:
    """LR frames at HR size, from number `first` on, moved to `times` and blended, into result [b, T, c, H, W]."""
    for p, time in enumerate(times):
        j = int(time)
        f = float(time) - j
        if f == 0:
            result[:, p] = frames[:, j - first]
            continue
        forward, backward = flow_01[:, j : j + 1], flow_10[:, j : j + 1]
        to_zero = -f * (1 - f) * forward + f**2 * backward
        to_one = (1 - f) ** 2 * forward - f * (1 - f) * backward
        warp_between(frames, to_zero, to_one, low=[j - first], share=[f], out=result[:, p : p + 1])
