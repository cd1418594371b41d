"""`davsr restore` and `davsr polish`: flags to options, and what both commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from davsr import config
from davsr.cli import add_option_arguments
from davsr.log import logging_to
from davsr.log import progress as progress_bar
from davsr.options import DegradationOptions, Options, RestoreOptions
from davsr.restoration.restore import open_model, restore
from davsr.restoration.streaming import Progress
from davsr.runtime import setup

_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {  # flag: (option, how argparse reads it)
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
    "--codec": ("restore.codec", {"choices": ("h264", "h265", "ffv1"), "help": "ffv1 is lossless and needs .mkv"}),
    "--crf": ("restore.crf", {"metavar": "Q", "help": "quality, lower is better (16)"}),
    "--preset": ("restore.preset", {"metavar": "NAME", "help": "of the encoder"}),
    "--device": ("device", {"choices": ("auto", "cpu", "cuda", "mps"), "help": "where the network runs"}),
    "--precision": ("precision", {"choices": ("float32", "bfloat16", "float16"), "help": "of the network"}),
}


_SWITCHES = {
    "--slow-motion": ("restore.slow_motion=true", "keep the frame rate: s_t times slower, without sound"),
    "--no-audio": ("restore.audio=false", "leave the sound out"),
    "--no-cuts": ("restore.cuts=false", "do not look for scene cuts"),
    "--overwrite": ("restore.overwrite=true", "replace an output that exists"),
    "--no-log": ("restore.log=false", "do not write OUTPUT.log"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="a video file, or a folder of frames")
    parser.add_argument("output", type=Path, help="a video file, or a folder for PNG frames")
    parser.add_argument("--model", help="a checkpoint, or training-free; default: the shipped model")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """The flags of `_FLAGS` and `_SWITCHES`, an options file, and single options."""
    add_option_arguments(parser)
    for flag, (_, how) in _FLAGS.items():
        if flag not in leave_out:
            parser.add_argument(flag, **how)
    for flag, (_, meaning) in _SWITCHES.items():
        if flag not in leave_out:
            parser.add_argument(flag, action="store_true", help=meaning)


def asked(args: argparse.Namespace) -> tuple[Options, dict[str, Any]]:
    """The options, and what file, flags and --set say about the degradation by themselves."""
    overrides = list(args.set)
    for flag, (name, _) in _FLAGS.items():
        value = getattr(args, flag[2:].replace("-", "_"), None)
        if value is not None:
            overrides.append(f"{name}={[*value] if isinstance(value, list) else value}".replace("'", ""))
    overrides += [text for flag, (text, _) in _SWITCHES.items() if getattr(args, flag[2:].replace("-", "_"), False)]
    tree = config.read_tree(args.opt, overrides)
    return config.build(Options, tree), tree.get("degradation") or {}


def run(args: argparse.Namespace) -> int:
    options, physics = asked(args)
    if args.dry_run:
        print(config.to_yaml(options), end="")
        return 0
    return restore_as_asked(args.input, args.output, options, physics, args.model)


def restore_as_asked(
    source: Path, target: Path, options: Options, physics: dict[str, Any], model: str | None = None
) -> int:
    """The command behind `davsr restore`, and behind test.py with --output.

    Args:
        physics: keys of `degradation` that differ from what the model was trained for, as a plain tree.
        model: instead of `options.restore.model`.
    """
    with logging_to(log_file(target, options.restore)):
        device = setup(options)
        name = model or options.restore.model
        network = open_model(name, None, device)
        if physics:
            tree = {**config.to_tree(network.degradation_options), **physics}
            network = open_model(name, config.build(DegradationOptions, tree, "degradation."), device)
        with progress_bar(None, "restore", "LR frame") as bar:
            restore(
                source,
                target,
                model=network,
                options=options.restore,
                device=device.type,
                precision=options.precision,
                progress=shown_on(bar),
            )
    return 0


def log_file(target: Path, options: RestoreOptions) -> Path | None:
    return target.with_name(f"{target.name}.log") if options.log else None


def shown_on(bar: Any) -> Progress:
    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show
