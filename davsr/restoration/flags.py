"""The flags that `davsr restore` and `davsr polish` share, and the options that they state."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from davsr.cli import add_option_arguments
from davsr.errors import InputError
from davsr.guards.names import beside
from davsr.options import DegradationOptions, Options, RestoreOptions, load_options
from davsr.restoration.streaming import Progress

_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {  # flag: (option, how argparse reads it)
    "--model": ("restore.model", {"help": "a checkpoint, or training-free; default: the shipped model"}),
    "--scale": (
        "degradation.scale",
        {"nargs": 3, "metavar": ("T", "H", "W"), "help": "frames and pixels per LR one (5 4 4)"},
    ),
    "--exposure": ("degradation.exposure", {"metavar": "E", "help": "HR frames that one LR frame integrates"}),
    "--phase": ("degradation.phase", {"metavar": "O", "help": "HR frame at which LR frame 0 begins to integrate"}),
    "--psf": ("degradation.psf", {"metavar": "PSF", "help": "bicubic, gaussian, box, delta or an .npy file"}),
    "--psf-sigma": ("degradation.psf_sigma", {"metavar": "S", "help": "of the gaussian, HR pixels"}),
    "--sigma": ("restore.sigma", {"metavar": "S", "help": "noise of the input, fraction of full scale"}),
    "--response": ("restore.response", {"choices": ("srgb", "linear"), "help": "linear: the sensor averages light"}),
    "--window": ("restore.num_frame_testing", {"metavar": "N", "help": "LR frames at once, or auto"}),
    "--overlap": ("restore.num_frame_overlap", {"metavar": "N", "help": "LR frames that windows share"}),
    "--tile": (
        "restore.size_patch_testing",
        {"metavar": "N", "help": "LR side of a tile, 0 for whole frames, or auto"},
    ),
    "--margin": ("restore.size_patch_margin", {"metavar": "N", "help": "LR pixels of context around a tile"}),
    "--memory": ("restore.memory", {"metavar": "GB", "help": "memory to plan for; default: what is free"}),
    "--rate": ("restore.rate", {"metavar": "R", "help": "LR frames per second, such as 24000/1001"}),
    "--frames": ("restore.frames", {"metavar": "A:B", "help": "only these LR frames, without sound"}),
    "--codec": ("restore.codec", {"choices": ("h264", "h265", "ffv1"), "help": "ffv1 is lossless and needs .mkv"}),
    "--crf": ("restore.crf", {"metavar": "Q", "help": "quality, lower is better (16)"}),
    "--preset": ("restore.preset", {"metavar": "NAME", "help": "of the encoder"}),
    "--device": ("device", {"metavar": "NAME", "help": "auto, cpu, cuda, cuda:1 or mps"}),
    "--precision": ("precision", {"choices": ("float32", "bfloat16", "float16"), "help": "of the network"}),
}


_SWITCHES = {
    "--slow-motion": ("restore.slow_motion=true", "keep the frame rate: s_t times slower, without sound"),
    "--no-audio": ("restore.audio=false", "leave the sound out"),
    "--drop-duplicates": ("restore.drop_duplicates=true", "leave out frames that repeat the one before"),
    "--partial": ("restore.partial=true", "restore what is there of a file that is cut short or damaged"),
    "--no-cuts": ("restore.cuts=false", "do not look for scene cuts"),
    "--overwrite": ("restore.overwrite=true", "replace an output that exists"),
    "--no-log": ("restore.log=false", "do not write OUTPUT.log"),
}

_SHORT: dict[str, dict[str, Any]] = {
    "--deblur": {
        "action": "store_true",
        "help": "the same frames without the blur of motion: of --scale 5 1 1 those in the middle of an exposure",
    },
    "--interpolate": {
        "type": int,
        "metavar": "N",
        "help": "N frames for each, without the blur of motion: --scale N 1 1",
    },
    "--upscale": {"type": int, "metavar": "N", "help": "N times the size; the blur of motion stays: --scale 1 N N"},
}
_DEBLURRED = DegradationOptions().scale[
    0
]  # moments of an exposure that are told apart: as the shipped model was trained


def add_flags(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """An options file, single options, and the flags above but for those to leave out."""
    add_option_arguments(parser)
    short = parser.add_argument_group(
        "short ways", "what to make of the video, in place of --scale; --upscale goes with either"
    )
    for flag, how in _SHORT.items():
        if flag not in leave_out:
            short.add_argument(flag, **how)
    for flag, (_, how) in _FLAGS.items():
        if flag not in leave_out:
            parser.add_argument(flag, **how)
    for flag, (_, meaning) in _SWITCHES.items():
        if flag not in leave_out:
            parser.add_argument(flag, action="store_true", help=meaning)


def _shorthands(args: argparse.Namespace) -> list[str]:
    """What --deblur, --interpolate and --upscale say in options.

    Raises:
        InputError: they contradict each other, or --scale.
    """
    given = vars(args)
    deblur, times, larger = given.get("deblur", False), given.get("interpolate"), given.get("upscale")
    used = [flag for flag, value in zip(_SHORT, (deblur, times is not None, larger is not None), strict=True) if value]
    if not used:
        return []
    if args.scale is not None:
        raise InputError(f"--scale: must be left out where {' and '.join(used)} say it")
    if deblur and times is not None:
        raise InputError(
            "--deblur: must be left out with --interpolate, whose frames are without the blur of motion already"
        )
    for flag, value in (("--interpolate", times), ("--upscale", larger)):
        if value is not None and value < 1:
            raise InputError(f"{flag}: must be at least 1, got {value}")
    stretch, side = _DEBLURRED if deblur else times or 1, larger or 1
    stated = [f"degradation.scale=[{stretch}, {side}, {side}]"]
    return [*stated, "restore.deblur=true"] if deblur else stated


def stated_options(args: argparse.Namespace) -> Options:
    """The options that file, --set and flags state; a flag wins over --set, and that over the file."""
    given = vars(args)
    overrides = [*args.set, *_shorthands(args)]
    for flag, (name, _) in _FLAGS.items():
        value = given.get(flag[2:].replace("-", "_"))
        if value is not None:
            overrides.append(f"{name}={json.dumps(value)}")
    overrides += [text for flag, (text, _) in _SWITCHES.items() if given.get(flag[2:].replace("-", "_"))]
    return load_options(args.opt, overrides)


def log_file(target: Path, options: RestoreOptions) -> Path | None:
    """Where a run leaves its log."""
    return beside(target, "", ".log") if options.log else None


def progress_on(bar: tqdm[object]) -> Progress:
    """Shows the progress of a run on a `tqdm` bar."""

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show
