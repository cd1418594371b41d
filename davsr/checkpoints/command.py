"""`davsr weights inspect|convert`: what a checkpoint of any known naming holds, and the same weights in our naming."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from davsr import config
from davsr.checkpoints.convert import Conversion, convert, listed
from davsr.checkpoints.files import FORMAT, load_state, write_tensors
from davsr.checkpoints.fit import WeightsError, load_into
from davsr.checkpoints.network import KEY, network_section, read_network_section
from davsr.guards.names import require_apart
from davsr.models.davsr import DAVSR
from davsr.options import Options, load_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `davsr weights`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="inspect|convert")
    inspect = actions.add_parser(
        "inspect", help="say what a checkpoint holds, and whether it fits the network of the options"
    )
    inspect.add_argument("file", type=Path, help="a checkpoint, of ours or in published names, .pt or .safetensors")
    inspect.add_argument("--all", action="store_true", help="list every tensor")
    conversion = actions.add_parser("convert", help="write the weights in our naming")
    conversion.add_argument("file", type=Path, help="a checkpoint, of ours or in published names, .pt or .safetensors")
    conversion.add_argument("output", type=Path, help="the file to write: .pt, or .safetensors for the hub")
    conversion.add_argument("--slomo", type=Path, help="Super SloMo checkpoint to put into the network's interpolation")
    conversion.add_argument(
        "--half", action="store_true", help="store in half precision, for half the size; loading gives float32"
    )
    for action in (inspect, conversion):
        action.add_argument(
            "-opt", metavar="FILE.yml", help="options of the network; default: read from the checkpoint"
        )
        action.add_argument("--set", action="append", default=[], metavar="key=value", help="override one option")


def run(args: argparse.Namespace) -> int:
    """`davsr weights`."""
    conversion = convert(load_state(args.file), str(args.file))
    if args.action == "inspect":
        return _inspect(args, conversion)
    return _convert(args, conversion)


def _inspect(args: argparse.Namespace, conversion: Conversion) -> int:
    tensors = conversion.tensors
    print(
        f"{args.file}: {conversion.kind}, {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers"
    )
    broken = [
        conversion.sources[name] for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()
    ]
    if broken:
        print(f"not finite: {listed(broken)}")
    if conversion.unknown:
        print(f"unknown names: {', '.join(conversion.unknown)}")
    if args.all:
        for name, tensor in tensors.items():
            print(
                f"  {conversion.sources[name]} -> {name} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            )
    if conversion.kind in ("spynet", "superslomo"):
        print("\n".join(conversion.report()) or "every key has its counterpart")
        return 0
    options = network_options(args.file, conversion, args.opt, args.set)
    print(f"model: {config.to_yaml(options.model).strip()}" if args.all else _summary(options))
    try:
        load_into(DAVSR.from_options(options), conversion, str(args.file))
    except WeightsError as error:
        for what in ("missing", "unexpected", "misshaped"):
            for name in getattr(error, what):
                print(f"{what}: {name}")
        return 1
    print("\n".join(["fits this network", *conversion.report()]))
    return 0


def _convert(args: argparse.Namespace, conversion: Conversion) -> int:
    require_apart([args.output], [path for path in (args.file, args.slomo) if path])
    if conversion.kind in ("spynet", "superslomo"):
        if conversion.unknown:
            raise WeightsError(
                f"weights: {args.file} has {len(conversion.unknown)} unexpected names: {listed(conversion.unknown)}",
                [], conversion.unknown, [],
            )  # fmt: skip
        write_tensors(args.output, {"model": conversion.tensors})
        print("\n".join(conversion.report()))
        print(f"{args.output}: {conversion.kind}, {len(conversion.tensors)} tensors")
        return 0
    changes = [*args.set, "model.interpolation.method=slomo"] if args.slomo else args.set
    options = network_options(args.file, conversion, args.opt, changes)
    torch.manual_seed(options.seed)  # of what has no counterpart in the file
    model = DAVSR.from_options(options)
    load_into(model, conversion, str(args.file))
    if args.slomo:
        interpolation = convert(load_state(args.slomo), str(args.slomo))
        interpolation = load_into(model, interpolation, str(args.slomo))
        conversion.initial = [name for name in conversion.initial if not name.startswith("interpolate.slomo.")]
    weights = model.state_dict()
    if args.half:
        weights = {name: x.half() if x.is_floating_point() else x for name, x in weights.items()}
    tree = {"format": FORMAT, "model": weights, "ema": None, "step": 0}
    tree |= {KEY: network_section(options), "options": config.to_tree(options)}
    write_tensors(args.output, tree)
    print(
        "\n".join([*conversion.report(), _summary(options), f"{args.output}: davsr, {len(model.state_dict())} tensors"])
    )
    return 0


def network_options(path: Path, conversion: Conversion, file: str | None, changes: list[str]) -> Options:
    """Options of the network that a converted checkpoint is of.

    From the file given, or else from the checkpoint itself.
    """
    stated = load_options(file, changes)
    if file is not None:
        return stated
    section = read_network_section(load_state(path), conversion, str(path))
    wanted = config.stated_tree(stated)
    return replace(
        stated,
        model=config.overlaid(section.model, wanted.get("model", {}), "model."),
        degradation=config.overlaid(section.degradation, wanted.get("degradation", {}), "degradation."),
    )


def _summary(options: Options) -> str:
    model, prior, interpolation = options.model, options.model.enhancement, options.model.interpolation
    start = f"{interpolation.method} interpolation"
    if model.rounds.count:
        start += f", {model.rounds.count} rounds along the motion of {model.rounds.channels} channels"
    beta = f"beta channel {'yes' if prior.beta_channel else 'no'}"
    enhancement = {
        "none": "no enhancement",
        "frames": f"an enhancement of every frame, m = {prior.channels}, {prior.blocks} blocks, {beta}",
        "pictures": f"an enhancement of every frame, m = {prior.channels}, {prior.blocks} blocks",
        "recurrent": f"a recurrent enhancement, m = {prior.channels}, {prior.blocks} and {prior.recurrent_blocks} blocks, "
        f"fusion of {prior.fusion_channels} channels, {prior.fusion_blocks} blocks",
        "rve": f"m = {prior.channels}, {prior.blocks} blocks, G = {prior.groups}, order {prior.order}, "
        f"{prior.hr_channels} channels at full size, {beta}",
    }[prior.kind]
    physics = f"{options.degradation.boundary} boundary, phase {options.degradation.phase}"
    return f"network: K = {model.iterations}, {enhancement}, {start}; {physics}"
