"""One data step on another program's output, given the video that it came from: `davsr polish`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from davsr import config
from davsr.errors import InputError
from davsr.log import logging_to
from davsr.log import progress as progress_bar
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration import planning
from davsr.restoration.command import add_options, asked, log_file, shown_on
from davsr.restoration.source import Source, open_source
from davsr.restoration.streaming import Progress, Restoration, frame_rate, operator_of, stream
from davsr.restoration.windows import Plan
from davsr.runtime import choose_device, setup

ALPHA = 0.24  # times the largest eigenvalue of A A^T: where the trained networks begin
_PER_PIXEL = 40.0  # bytes: estimate, result, and the data step between them


def polish(
    estimate: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    degradation: DegradationOptions | None = None,
    options: RestoreOptions | None = None,
    alpha: float = ALPHA,
    device: str = "auto",
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
        device: auto, cpu, cuda or mps.
        progress: called with (LR frames done, LR frames in all).

    Raises:
        davsr.errors.InputError: the videos do not belong together, or one cannot be read or written, with the reason.
    """
    if not alpha > 0:
        raise InputError(f"polish: alpha must be above 0, got {alpha}")
    options = options or RestoreOptions()
    degradation = degradation or DegradationOptions()
    operator = operator_of(degradation, options)
    place = choose_device(device)
    high = open_source(estimate, frame_rate(options.rate))
    _require_pair(high, open_source(source), degradation.scale)
    penalty = alpha * operator.largest_eigenvalue()

    def step(lq: Tensor, frames: Tensor | None) -> Tensor:
        assert frames is not None
        with torch.inference_mode():
            x, y = frames.to(place).transpose(1, 2), lq.to(place).transpose(1, 2)
            return operator.data_step(x, y, penalty).transpose(1, 2)

    def plan_for(low: Source) -> Plan:
        # Exposures that do not overlap: every LR frame is by itself.
        reach = planning.default_overlap(degradation, None) - 2
        return planning.choose_plan(
            low.size,
            degradation.scale,
            _PER_PIXEL,
            planning.host_budget(options.memory),
            device=None if place.type == "cpu" else 0.8 * planning.free_memory(place),
            window=None if reach else 1,
            overlap=reach,
            tile=None if options.size_patch_testing == "auto" else int(options.size_patch_testing),
            margin=planning.default_margin(None)
            if options.size_patch_margin == "auto"
            else int(options.size_patch_margin),
        )

    return stream(source, target, step, degradation, options, plan_for, {"alpha": alpha}, progress, high)


def _require_pair(high: Source, low: Source, scale: tuple[int, int, int]) -> None:
    s_t, s_h, s_w = scale
    (h, w), t = low.size, len(low)
    wanted, got = (s_t * t, s_h * h, s_w * w), (len(high), *high.size)
    if wanted != got:
        raise InputError(
            f"estimate {high.path} must have {wanted[0]} frames of {wanted[2]}x{wanted[1]}, {s_t} for each of the {t} frames "
            f"of {w}x{h} in {low.path} at scale {scale}; it has {got[0]} of {got[2]}x{got[1]}"
        )


_NO_MODEL = ("--sigma", "--window", "--overlap", "--slow-motion", "--precision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("estimate", type=Path, help="another program's output: a video file or a folder of frames")
    parser.add_argument("--input", type=Path, required=True, help="the LR video or folder that it was made from")
    parser.add_argument("--output", type=Path, help="default: the estimate's name with -polished")
    parser.add_argument("--alpha", type=float, default=ALPHA, help=f"trust in the estimate, default {ALPHA}")
    add_options(parser, leave_out=_NO_MODEL)


def run(args: argparse.Namespace) -> int:
    options, physics = asked(args)
    if args.dry_run:
        print(config.to_yaml(options), end="")
        return 0
    target = args.output or args.estimate.with_name(f"{args.estimate.stem}-polished{args.estimate.suffix}")
    degradation = config.build(DegradationOptions, physics, "degradation.")
    with logging_to(log_file(target, options.restore)), progress_bar(None, "polish", "LR frame") as bar:
        device = setup(options)
        call: dict[str, Any] = {"degradation": degradation, "options": options.restore, "alpha": args.alpha}
        polish(args.estimate, args.input, target, device=device.type, progress=shown_on(bar), **call)
    return 0
