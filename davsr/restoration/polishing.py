"""One data step on another program's output, given the video that it came from: `davsr polish`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from davsr.checkpoints.resolve import operator_of
from davsr.errors import InputError
from davsr.options import ALPHA, DegradationOptions, Options, RestoreOptions
from davsr.restoration import planning
from davsr.restoration.cutting import Plan
from davsr.restoration.memory import free_memory
from davsr.restoration.pieces import Step
from davsr.restoration.source import Source, open_source
from davsr.restoration.streaming import Progress, Restoration, frame_rate, stream
from davsr.runtime import choose_device

_PER_PIXEL = 40.0  # bytes: estimate, result, and the data step between them


def polish(
    estimate: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    degradation: DegradationOptions | None = None,
    options: RestoreOptions | None = None,
    alpha: float = ALPHA,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> Restoration:
    """Make an estimate agree with what was seen: z = argmin_z ||y - A z||^2 + alpha ||z - estimate||^2.

    What the estimate says beyond y stays; what contradicts y goes. Streams like `davsr.restore`.

    Args:
        estimate: HR video or folder, s_t frames for each LR frame, s_h x s_w times their size.
        source: the LR video or folder y.
        target: see `davsr.restore`; rate, sound and colours are the estimate's.
        degradation: how y came about; None: scale (5, 4, 4), an open shutter, the bicubic PSF.
        options: response, tiles, codec and the rest; what concerns a model is not used.
        alpha: trust in the estimate, times the largest eigenvalue of A A^T; towards 0 the result explains y exactly.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: called with (LR frames done, LR frames in all).

    Raises:
        davsr.errors.InputError: the videos do not belong together, or one cannot be read or written, with the reason.
    """
    if not alpha > 0:
        raise InputError(f"polish: alpha must be above 0, got {alpha}")
    options = options or RestoreOptions()
    degradation = degradation or DegradationOptions()
    operator = operator_of(Options(degradation=degradation, restore=options))
    place = choose_device(device)
    options = replace(options, frames="", drop_duplicates=False)
    high = open_source(estimate, frame_rate(options.rate), options)
    _require_pair(high, open_source(source, None, options), degradation.scale)
    penalty = alpha * operator.largest_eigenvalue()

    def restorer(lq: Tensor, frames: Tensor | None) -> Step:
        assert frames is not None
        with torch.inference_mode():
            x, y = frames.to(place).transpose(1, 2), lq.to(place).transpose(1, 2)
            return {"result": operator.data_step(x, y, penalty).transpose(1, 2)}

    def plan_for(low: Source, economy: planning.Economy) -> Plan:
        # Exposures that do not overlap: every LR frame is by itself.
        reach = planning.default_overlap(degradation, None) - 2
        return planning.choose_plan(
            low.size,
            degradation.scale,
            _PER_PIXEL,
            planning.host_budget(options.memory),
            device=None if place.type == "cpu" else 0.8 * free_memory(place),
            window=None if reach else 1,
            overlap=reach,
            tile=None if options.size_patch_testing == "auto" else int(options.size_patch_testing),
            margin=planning.stated_margin(options, None),
            economy=economy,
        )

    return stream(source, target, restorer, operator, degradation, options, plan_for, {"alpha": alpha}, progress, high)


def _require_pair(high: Source, low: Source, scale: tuple[int, int, int]) -> None:
    s_t, s_h, s_w = scale
    (h, w), t = low.size, len(low)
    wanted, got = (s_t * t, s_h * h, s_w * w), (len(high), *high.size)
    if wanted != got:
        raise InputError(
            f"estimate {high.path} must have {wanted[0]} frames of {wanted[2]}x{wanted[1]}, {s_t} for each of the {t} frames "
            f"of {w}x{h} in {low.path} at scale {scale}; it has {got[0]} of {got[2]}x{got[1]}"
        )
