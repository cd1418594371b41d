"""Scores of a restored clip that comes in stretches: every stage and the baseline, frame by frame."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from davsr.data.clips import Clip
from davsr.data.views import temporal_reach
from davsr.errors import InputError
from davsr.evaluation.metrics import psnr, ssim
from davsr.evaluation.pairs import Pair
from davsr.evaluation.tables import BASELINE, TRUTH, StageScores
from davsr.evaluation.temporal import TemporalScorer
from davsr.models.interpolation import Interpolation
from davsr.options import InterpolationOptions
from davsr.physics.degradation import Degradation
from davsr.pixels import as_image, as_tensor, to_uint8, to_unit


class Scorer:
    """Scores of all stages and of the baseline, stretch by stretch."""

    def __init__(
        self, pair: Pair, degradation: Degradation, device: torch.device, *, temporal: bool = True, lpips: str = "none"
    ) -> None:
        self.pair, self.degradation, self.device = pair, degradation, device
        self.stages: dict[str, StageScores] = {}
        self._temporal = TemporalScorer() if temporal and pair.truth is not None else None
        self._lpips = open_lpips(lpips, device) if lpips != "none" and pair.truth is not None else None
        self._linear = Interpolation(InterpolationOptions(method="linear"))
        self._residuals: dict[str, Residual] = {}

    def score(self, start: int, stages: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score HR frames from `start` on; returns them as uint8 [n, c, H, W], baseline and truth included."""
        count = len(next(iter(stages.values())))
        videos = {BASELINE: self._baseline(start, count), **stages}
        truth = None
        if self.pair.truth is not None:
            truth = as_tensor(self.pair.truth.frames(start, start + count)).to(self.device)
        shown = {}
        for name, video in videos.items():
            scores = self.stages.setdefault(name, StageScores())
            shown[name] = to_uint8(video)
            if truth is not None:
                scores.psnr += psnr(shown[name], truth).tolist()
                scores.ssim += ssim(shown[name], truth).tolist()
            residual = self._residuals.setdefault(name, Residual(self.degradation, self.pair.lq, self.device))
            scores.residual += residual.push(video)
        if truth is None:
            return shown
        if self._lpips is not None:
            for name in (BASELINE, list(shown)[-1]):
                self.stages[name].lpips += self._lpips(shown[name], truth)
        if self._temporal is not None:
            self._score_transitions(self._temporal, shown, truth)
        return {**shown, TRUTH: truth}

    def _score_transitions(self, scorer: TemporalScorer, shown: dict[str, Tensor], truth: Tensor) -> None:
        """Of the baseline, the output and, for its floor, the truth."""
        ends = (BASELINE, list(shown)[-1])
        self.stages.setdefault(TRUTH, StageScores())
        for p in range(len(truth)):
            true = as_image(truth[p])
            scores = scorer.push(true, {TRUTH: true, **{name: as_image(shown[name][p]) for name in ends}})
            for name, (tof, warping) in scores.items():
                self.stages[name].tof.append(tof)
                self.stages[name].warping.append(warping)

    def finish(self) -> None:
        """The residuals that waited for frames after theirs."""
        for name, residual in self._residuals.items():
            self.stages[name].residual += residual.finish()

    def _baseline(self, start: int, count: int) -> Tensor:
        """Bicubic + linear of the whole clip, HR frames start .. start + count: [n, c, H, W]."""
        s_t = self.degradation.scale[0]
        context = int(abs(self.degradation.centre)) // s_t + 2
        first = max(start // s_t - context, 0)
        last = min((start + count) // s_t + context, len(self.pair.lq))
        lq = as_tensor(self.pair.lq.frames(first, last)).to(self.device).float() / 255
        video = self._linear(lq[None], self.degradation)[0].transpose(0, 1)
        return video[start - s_t * first :][:count].clamp(0, 1)


def open_lpips(network: str, device: torch.device) -> Callable[[Tensor, Tensor], list[float]]:
    """The learned perceptual distance of Zhang et al., CVPR 2018, between uint8 frames [n, 3, h, w], by its own
    package.

    Raises:
        InputError: the package is not installed.
    """
    try:
        package = importlib.import_module("lpips")
    except ImportError:
        raise InputError(f"options: test.lpips {network} needs the package lpips; pip install lpips") from None
    model = package.LPIPS(net=network, verbose=False).to(device).eval()

    def distance(a: Tensor, b: Tensor) -> list[float]:
        with torch.inference_mode():  # its inputs lie in [-1, 1]
            return [float(model(x[None] / 127.5 - 1, y[None] / 127.5 - 1)) for x, y in zip(a, b, strict=True)]

    return distance


class Residual:
    """Root mean square of y - A x per LR frame of a video that comes in stretches."""

    def __init__(self, degradation: Degradation, lq: Clip, device: torch.device) -> None:
        self.degradation, self.lq, self.device = degradation, lq, device
        self.reach = temporal_reach(degradation)
        self._frames: Tensor | None = None  # [n, c, H, W], from LR frame `_first` on
        self._first = self._next = 0

    def push(self, frames: Tensor) -> list[float]:
        """Take HR frames; returns the values of the LR frames that are complete with them."""
        self._frames = frames if self._frames is None else torch.cat([self._frames, frames])
        return self._emit(self._first + len(self._frames) // self.degradation.scale[0] - self.reach)

    def finish(self) -> list[float]:
        """The rest."""
        return self._emit(len(self.lq))

    def _emit(self, stop: int) -> list[float]:
        if self._frames is None or stop <= self._next:
            return []
        s_t = self.degradation.scale[0]
        seen = self.degradation.apply(self._frames.transpose(0, 1)[None])[0].transpose(0, 1)
        seen = seen[self._next - self._first : stop - self._first]
        y = to_unit(as_tensor(self.lq.frames(self._next, stop)).to(self.device))
        values = (y - seen).square().mean(dim=(1, 2, 3)).sqrt().tolist()
        if self.degradation.boundary == "circular" and self.reach:  # the clip's ends wrap, and the stretches do not
            ends = {*range(self.reach), *range(len(self.lq) - self.reach, len(self.lq))}
            values = [float("nan") if j in ends else v for j, v in enumerate(values, self._next)]
        self._next = stop
        keep = max(stop - self.reach, self._first)
        self._frames = self._frames[s_t * (keep - self._first) :]
        self._first = keep
        return values
