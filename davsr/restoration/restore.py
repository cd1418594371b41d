"""Any video, of any length and size, restored in bounded memory: `davsr restore`."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from davsr import config
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.cli import add_option_arguments
from davsr.log import logging_to
from davsr.log import progress as progress_bar
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, Options, RestoreOptions
from davsr.restoration import planning
from davsr.restoration.source import Source
from davsr.restoration.streaming import Progress, Restoration, operator_of, stream
from davsr.restoration.windows import Plan, model_step
from davsr.runtime import Precision, choose_device, require_precision, setup


def restore(
    source: str | Path,
    target: str | Path,
    *,
    model: DAVSR | str | Path | None = None,
    degradation: DegradationOptions | None = None,
    options: RestoreOptions | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Restoration:
    """Restore a video file or a folder of frames; the input is read once, from front to back.

    Windows of LR frames overlap and fade into each other, tiles overlap and blend, so memory depends on the frame
    size and not on the length. The output appears whole or not at all; an interrupted run continues with the same call.

    Args:
        source: a video file or a folder of images.
        target: a video file, or a folder (any name without a video suffix) for PNG frames.
        model: a network, a checkpoint, `training-free`, or None for the shipped model.
        degradation: how the frames came about; None: as the model was trained.
        options: noise, response, windows, codec and the rest.
        device: auto, cpu, cuda or mps; a network that is given stays where it is.
        precision: of the network: float32, bfloat16 or float16.
        progress: called with (LR frames done, LR frames in all).

    Raises:
        davsr.errors.InputError: the input cannot be restored or the output not be written, with the reason.
    """
    options = options or RestoreOptions()
    place = choose_device(device)
    network = model if isinstance(model, DAVSR) else open_model(str(model or options.model), degradation, place)
    place = next((p.device for p in network.parameters()), place)
    require_precision(precision, place)
    degradation = degradation or network.degradation_options
    operator = operator_of(degradation, options)
    if network.trained is not None:
        network.trained.warn(degradation, options.sigma)

    def plan_for(low: Source) -> Plan:
        return _plan(low.size, degradation, network, options, place)

    return stream(
        source,
        target,
        model_step(network, options.sigma, operator, device=place, precision=precision),
        degradation,
        options,
        plan_for,
        {"model": _digest(network), "precision": precision},
        progress,
    )


def open_model(name: str, degradation: DegradationOptions | None, device: torch.device | str) -> DAVSR:
    """`training-free`, a checkpoint, or for an empty name the shipped model."""
    if name == "training-free":
        return load_model(model=TRAINING_FREE, degradation=degradation, device=device)
    return load_model(name or None, degradation=degradation, device=device)


def _plan(
    size: tuple[int, int],
    degradation: DegradationOptions,
    network: DAVSR,
    options: RestoreOptions,
    device: torch.device,
) -> Plan:
    def given(value: Any) -> int | None:
        return None if value == "auto" else int(value)

    overlap, margin = given(options.num_frame_overlap), given(options.size_patch_margin)
    host = planning.host_budget(options.memory)
    return planning.choose_plan(
        size,
        degradation.scale,
        planning.bytes_per_pixel(network) * (2 if options.response == "linear" else 1),
        host,
        device=None if device.type == "cpu" else planning.free_memory(device) * 0.8,
        window=given(options.num_frame_testing),
        overlap=planning.default_overlap(degradation, network) if overlap is None else overlap,
        shorter=planning.shorter_overlap(degradation, network) if overlap is None else None,
        tile=given(options.size_patch_testing),
        margin=planning.default_margin(network) if margin is None else margin,
    )


def _digest(network: DAVSR) -> str:
    """Of the options and every weight."""
    digest = hashlib.sha256(json.dumps(network.options_tree(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# -- the command -------------------------------------------------------------------------------------------------------

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
