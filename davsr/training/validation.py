"""Validation while training: cuts of unseen clips, scored by the protocol, and pictures to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from davsr.data.clips import Clip
from davsr.data.frames import write_image
from davsr.data.views import MemoryClip
from davsr.errors import InputError
from davsr.evaluation.pairs import Pair
from davsr.evaluation.scoring import Scorer
from davsr.evaluation.tables import BASELINE, TRUTH, scored_border
from davsr.options import Options, SourceOptions
from davsr.physics.degradation import Degradation
from davsr.pixels import to_uint8, to_unit
from davsr.runtime import Precision, autocast
from davsr.training.samples.footage import Footage, reduced, source_clips
from davsr.training.samples.sources import open_pair_footage

_RESULT = "result"


@dataclass(frozen=True)
class Cut:
    """One stretch of a clip: what is observed and what is true, uint8."""

    name: str
    lq: Tensor  # [t, 3, h, w]
    gt: Tensor  # [T, 3, H, W]


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of a cut, means over the frames that the protocol scores, for the network and for the
    baseline.

    `validation_loss` is the loss of training, over all frames: it falls without the scatter that ever new samples give
    that one.
    """

    validation_loss: float
    psnr: float
    ssim: float
    psnr_bicubic_linear: float
    ssim_bicubic_linear: float


def load_cuts(options: Options) -> list[Cut]:
    """The validation cuts of `data.validation`: of every clip and stride, evenly spaced, without overlap.

    Raises:
        InputError: naming a clip that is unreadable, or shorter or smaller than one LR frame or pixel needs.
    """
    degradation = Degradation.from_options(options.degradation)
    cuts = []
    for number, source in enumerate(options.data.validation.sources):
        path = f"data.validation.sources[{number}]"
        if source.kind == "synthetic":
            raise InputError(f"{path}.kind: must be video, frames or pairs for task video, got synthetic")
        if source.kind == "pairs":
            for hr, lr in open_pair_footage(source, degradation.scale, path):
                cuts += _pair_cuts(hr, lr, options)
            continue
        for clip in source_clips(source, path):
            for stride in source.strides:
                cuts += _clip_cuts(clip, stride, source, options, degradation, path)
    return cuts


@torch.no_grad()
def score_cut(
    model: nn.Module,
    cut: Cut,
    loss: Callable[[Tensor, Tensor], Tensor],
    degradation: Degradation,
    border: int,
    device: torch.device,
    precision: Precision,
) -> tuple[Score, list[np.ndarray]]:
    """Restore a cut and compare.

    Args:
        loss: of frames [1, T, c, H, W] and the true ones.
        border: first and last HR frames that are not scored.

    Returns:
        The score, and pictures of the middle frame, uint8 [H, W, 3]: observed, bicubic + linear, restored, true.
    """
    lq = to_unit(cut.lq[None].to(device))
    with autocast(precision, device):
        frames = model(lq)
    scorer = Scorer(
        Pair(MemoryClip(cut.name, cut.lq), MemoryClip(cut.name, cut.gt)), degradation, device, temporal=False
    )
    shown = scorer.score(0, {_RESULT: frames[0]})
    restored, baseline, gt = (shown[name] for name in (_RESULT, BASELINE, TRUTH))
    edge = scored_border(len(gt), border)
    figures = [
        float(
            np.minimum(getattr(scorer.stages[name], metric)[edge : len(gt) - edge], 100).mean()
        )  # equal frames: inf dB
        for name in (_RESULT, BASELINE)
        for metric in ("psnr", "ssim")
    ]
    middle = len(cut.lq) // 2
    hr_middle = min(round(middle * degradation.scale[0] + degradation.centre), len(gt) - 1)
    observed = cut.lq[middle].repeat_interleave(degradation.scale[1], 1).repeat_interleave(degradation.scale[2], 2)
    pictures = [observed, baseline[hr_middle], restored[hr_middle], gt[hr_middle]]
    score = Score(float(loss(frames, to_unit(gt[None]))), *figures)
    return score, [picture.permute(1, 2, 0).cpu().numpy() for picture in pictures]


def write_strip(path: Path, pictures: list[np.ndarray]) -> None:
    """Pictures side by side: observed, bicubic + linear, restored, true."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.hstack(pictures))


def known_shifts(options: Options) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For task flow: (reference, support, flow) of real frames against themselves, shifted by whole pixels.

    uint8 [1, 3, h, w] twice, and [2]: the flow (dx, dy) that is true everywhere.
    """
    side, samples = options.data.patch, []
    for number, source in enumerate(options.data.validation.sources):
        if source.kind not in ("video", "frames"):
            continue
        for clip in source_clips(source, f"data.validation.sources[{number}]"):
            frame = reduced(clip.frames(len(clip) // 2, len(clip) // 2 + 1), source.reduce)[0]
            for dx, dy in ((1, 2), (-4, 3), (7, -2)):
                if min(frame.shape[:2]) < side + 2 * max(abs(dx), abs(dy)):
                    raise InputError(
                        f"data.validation.sources[{number}]: {clip.name} is too small for data.patch {side}"
                    )
                top, left = ((n - side) // 2 for n in frame.shape[:2])
                views = [frame[top + y : top + y + side, left + x : left + x + side] for x, y in ((0, 0), (-dx, -dy))]
                reference, support = (torch.from_numpy(v.transpose(2, 0, 1).copy())[None] for v in views)
                samples.append((reference, support, torch.tensor([dx, dy], dtype=torch.float32)))
    return samples


def _clip_cuts(
    clip: Clip, stride: int, source: SourceOptions, options: Options, degradation: Degradation, path: str
) -> list[Cut]:
    s_t = degradation.scale[0]
    available = -(-len(clip) // stride)
    length = min(options.data.validation.frames * s_t, available - available % s_t)
    if length < s_t:
        raise InputError(f"{path}: {clip.name} must have at least {s_t} frames at stride {stride}, got {available}")
    cuts = []
    for start in _starts(available, length, options.data.validation.cuts):
        frames = clip.frames(start * stride, (start + length - 1) * stride + 1, stride)
        gt = _central(reduced(frames, source.reduce), options, path, clip.name)
        x = to_unit(gt).transpose(0, 1)[None]
        lq = to_uint8(degradation.apply(x)[0].transpose(0, 1))
        cuts.append(Cut(f"{clip.name}-s{stride}-{start:04d}", lq, gt))
    return cuts


def _pair_cuts(hr: Footage, lr: Footage, options: Options) -> list[Cut]:
    t, h, w = lr.store.shape
    s_t = options.degradation.scale[0]
    length = min(options.data.validation.frames, t)
    cuts = []
    for start in _starts(t, length, options.data.validation.cuts):
        lq = lr.store.crop(range(start, start + length), 0, 0, (h, w))
        gt = hr.store.crop(range(start * s_t, (start + length) * s_t), 0, 0, hr.store.shape[1:])
        cuts.append(
            Cut(f"{hr.name}-{start:04d}", *(torch.from_numpy(v.transpose(0, 3, 1, 2).copy()) for v in (lq, gt)))
        )
    return cuts


def _starts(available: int, length: int, cuts: int) -> list[int]:
    """First frames of at most `cuts` stretches, evenly spread over the consecutive ones that fit."""
    fit = available // length
    return sorted({int((i + 0.5) * fit / min(cuts, fit)) * length for i in range(min(cuts, fit))})


def _central(frames: np.ndarray, options: Options, path: str, name: str) -> Tensor:
    """[n, h, w, 3] -> [n, 3, H, W]: the central crop, of sides that the scale divides."""
    _, s_h, s_w = options.degradation.scale
    crop = options.data.validation.crop
    height, width = (min(n, crop) if crop else n for n in frames.shape[1:3])
    height, width = height - height % s_h, width - width % s_w
    if not height or not width:
        raise InputError(f"{path}: {name} is {frames.shape[1]}x{frames.shape[2]}, smaller than one LR pixel")
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    cropped = frames[:, top : top + height, left : left + width]
    return torch.from_numpy(np.ascontiguousarray(cropped.transpose(0, 3, 1, 2)))
