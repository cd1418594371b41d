"""Frame interpolation by Super SloMo (Jiang et al., CVPR 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.precision import like_weights, working_dtype
from davsr.models.warp import warp

MEAN = (0.429, 0.431, 0.397)
ROUNDING = 1e-9  # times this close to a frame are that frame


class SuperSloMo(nn.Module):
    """Frames between frames: a UNet for the two flows, and a second one that refines them for every time in between."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.flow = UNet(6, 4)
        self.refine = UNet(20, 5)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor, times: Sequence[float]) -> Tensor:
        """Frames [b, len(times), 3, h, w] at `times`, in units of the input frames [b, t, 3, h, w], clamped to
        [0, t - 1].
        """
        t = frames.shape[1]
        clamped = [min(max(time, 0.0), t - 1.0) for time in times]
        outputs: list[Tensor] = []
        pairs: dict[int, tuple[Tensor, ...]] = {}  # the flows of a pair serve all times within it
        for time in clamped:
            first = min(math.floor(time + ROUNDING), t - 1)
            if time - first < ROUNDING:
                outputs.append(frames[:, first])
                continue
            if first not in pairs:
                pairs = {first: self._pair(frames[:, first], frames[:, first + 1])}
            outputs.append(self._between(time - first, *pairs[first])[:, :, : frames.shape[3], : frames.shape[4]])
        return torch.stack(outputs, dim=1)

    def _pair(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """The two frames, centred and padded to a multiple of 32, and the flows between them: I0, I1, F01, F10."""
        pad = (0, -first.shape[3] % 32, 0, -first.shape[2] % 32)
        i0 = F.pad(first - self.mean, pad, mode="replicate")
        i1 = F.pad(second - self.mean, pad, mode="replicate")
        f01, f10 = self.flow(torch.cat([i0, i1], dim=1)).split(2, dim=1)
        return i0, i1, f01, f10

    def _between(self, t: float, i0: Tensor, i1: Tensor, f01: Tensor, f10: Tensor) -> Tensor:
        """The frame at time t in (0, 1), padded like the pair."""
        ft0 = -t * (1 - t) * f01 + t * t * f10
        ft1 = (1 - t) * (1 - t) * f01 - t * (1 - t) * f10
        refined = self.refine(torch.cat([i0, i1, f01, f10, ft1, ft0, warp(i1, ft1), warp(i0, ft0)], dim=1))
        visible_0 = torch.sigmoid(refined[:, 4:5])
        weight_0, weight_1 = (1 - t) * visible_0, t * (1 - visible_0)
        blended = weight_0 * warp(i0, ft0 + refined[:, :2]) + weight_1 * warp(i1, ft1 + refined[:, 2:4])
        return blended / (weight_0 + weight_1) + self.mean


class UNet(nn.Module):
    """Five halvings and back with skips; the output passes the LeakyReLU too. Sides must be multiples of 32."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 32, 7, padding=3)
        self.conv2 = nn.Conv2d(32, 32, 7, padding=3)
        widths = (32, 64, 128, 256, 512, 512)
        kernels = (5, 3, 3, 3, 3)
        self.down = nn.ModuleList(_Pair(a, b, b, k) for a, b, k in zip(widths[:-1], widths[1:], kernels, strict=True))
        ups = ((512, 512, 1024), (512, 256, 512), (256, 128, 256), (128, 64, 128), (64, 32, 64))
        self.up = nn.ModuleList(_Pair(a, b, joined, 3) for a, b, joined in ups)
        self.conv3 = nn.Conv2d(32, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h, w] in the working precision, also under autocast."""
        dtype = working_dtype(x)
        x = like_weights(x, self).contiguous(memory_format=torch.channels_last)
        x = _leaky(self.conv2(_leaky(self.conv1(x))))
        skips = [x]
        for down in self.down:
            x = down(F.avg_pool2d(x, 2))
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), skip)
        x = _leaky(self.conv3(x))
        return x.to(dtype)


class _Pair(nn.Module):
    """Two convolutions, each with its LeakyReLU; the second one takes `joined` channels, with those of a skip."""

    def __init__(self, inputs: int, outputs: int, joined: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(joined, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        x = _leaky(self.conv1(x))
        return _leaky(self.conv2(x if skip is None else torch.cat([x, skip], dim=1)))


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1, inplace=True)
