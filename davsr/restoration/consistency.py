"""Does the result explain the input? ||y - A x|| of every LR frame, while the frames stream by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from davsr.options import DegradationOptions
from davsr.physics.degradation import Degradation
from davsr.physics.psf import exposure_taps, extend_index
from davsr.physics.response import to_linear, to_srgb
from davsr.pixels import Frames, to_float


class Consistency:
    """Root mean square of y - A x for every LR frame of a stream, [0, 1] scale.

    A is applied in two steps, point-spread function then exposure: of HR frames only what is left on the LR grid is
    held. Scenes are clips of their own, as they are to the restoration; in time their ends reflect.
    """

    def __init__(self, options: DegradationOptions, linear: bool = False) -> None:
        self.scale = options.scale[0]
        taps = exposure_taps(float(options.exposure or options.scale[0]), options.phase)
        self.offsets, self.weights = taps.offsets, taps.weights
        self.spatial = Degradation.from_options(replace(options, scale=(1, *options.scale[1:]), exposure=1, phase=0))
        self.linear = linear
        # How far beyond the scene an exposure looks, which reflection takes from frames that lie so far inside.
        self.reach = max(int(self.offsets[-1]) + 1 - self.scale, -int(self.offsets[0]), 0)
        self._begin()

    def _begin(self) -> None:
        self.observed: list[Tensor] = []  # y, [c, h, w], from LR frame `done` of the scene on
        self.frames: dict[int, Tensor] = {}  # x on the LR grid, [c, h, w], by their number in the scene
        self.count = 0  # HR frames of the scene so far
        self.done = 0

    def observe(self, y: Tensor) -> None:
        """The next LR frame [c, h, w], in [0, 1]."""
        self.observed.append(y)

    def add(self, frames: Frames, last: bool) -> Iterator[float]:
        """The next HR frames [n, c, H, W], `last` those of a scene; yields what can be told by now."""
        for frame in frames:
            self.frames[self.count] = self._reduced(frame)
            self.count += 1
        while self.done * self.scale < self.count:
            positions = self.done * self.scale + self.offsets
            if not last and positions[-1] + self.reach >= self.count:
                break
            yield self._residual(extend_index(positions, self.count, "reflect"), self.observed.pop(0))
            self.done += 1
            oldest = self.done * self.scale - 2 * self.reach
            self.frames = {p: frame for p, frame in self.frames.items() if p >= oldest}
        if last:
            waiting = self.observed
            self._begin()
            self.observed = waiting

    def _reduced(self, frame: Frames) -> Tensor:
        """An HR frame [c, H, W] as the point-spread function leaves it, [c, h, w]."""
        planes = []
        for plane in frame:  # one at a time: an HR frame in float32 is large
            light = to_linear(to_float(plane)) if self.linear else to_float(plane)
            planes.append(self.spatial.apply(light[None, None, None])[0, 0, 0])
        return torch.stack(planes)

    def _residual(self, positions: np.ndarray, y: Tensor) -> float:
        seen = torch.zeros_like(y)
        for position, weight in zip(positions, self.weights, strict=True):
            seen.add_(self.frames[int(position)], alpha=float(weight))
        return float((y - (to_srgb(seen) if self.linear else seen)).square().mean()) ** 0.5
