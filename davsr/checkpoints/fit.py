"""A converted checkpoint into a network: every parameter is filled, or named where it is left at its initialisation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from davsr.checkpoints.convert import Conversion, Kind, convert, listed, take
from davsr.checkpoints.files import load_state
from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.models.flow import SPyNet
from davsr.models.rounds import MotionPrior
from davsr.models.superslomo import SuperSloMo
from davsr.models.trunk import CELL, PictureTrunk


class WeightsError(InputError):
    """A file that does not fit the network; `missing`, `unexpected` and `misshaped` hold all names."""

    def __init__(
        self, message: str, missing: Iterable[str], unexpected: Iterable[str], misshaped: Iterable[str]
    ) -> None:
        super().__init__(message)
        self.missing, self.unexpected, self.misshaped = list(missing), list(unexpected), list(misshaped)


def load_into(module: nn.Module, conversion: Conversion, source: str = "the checkpoint") -> Conversion:
    """Copy converted tensors into `module`: a `DAVSR`, or the `SPyNet` or `SuperSloMo` that they are of.

    A flow network goes to the enhancement's place in a `DAVSR`, Super SloMo to the interpolation's. What a file of this
    kind has no counterpart for stays as it is and is named in `initial` of the returned conversion.

    Raises:
        WeightsError: names are missing, unexpected or misshaped. Nothing is written then.
    """
    prefix = _place(module, conversion, source)
    own = module.state_dict()
    given = {prefix + name: tensor for name, tensor in _to_iterations(conversion, own).items()}
    given = {name: _with_pictures(name, tensor, own.get(name)) for name, tensor in given.items()}
    origin = {prefix + name: source_name for name, source_name in conversion.sources.items()}
    absent = [name for name in own if name not in given]
    initial = [name for name in absent if _may_be_absent(name, conversion.kind, prefix)]
    unexpected = [*conversion.unknown, *(origin[name] for name in given if name not in own)]
    misshaped = {
        name: f"{origin[name]} {list(tensor.shape)} for {list(own[name].shape)}"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    }
    if conversion.kind == "basicvsr++":  # its first convolutions may read other channels than ours
        for name in [name for name in misshaped if re.match(r"enhance\.features\.(0|4\.entry)\.weight", name)]:
            conversion.ignored[origin[name]] = f"its shape {list(given[name].shape)} has no counterpart"
            initial.append(name)
            del misshaped[name], given[name]
    missing = [name for name in absent if name not in initial]
    problems = {"missing": missing, "unexpected": unexpected, "misshaped": list(misshaped.values())}
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {what}: {listed(names)}" for what, names in problems.items() if names)
        raise WeightsError(
            f"weights: {source} does not fit the network ({found})", missing, unexpected, misshaped.values()
        )
    broken = [
        origin[name] for name, tensor in given.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        raise InputError(f"weights: {source} holds values that are not finite in {listed(broken)}")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
    conversion.initial = [
        name for name in initial if not name.endswith((".mean", ".std")) and name not in ("mean", "std")
    ]
    return conversion


def load_strictly(module: nn.Module, tensors: Any, source: str) -> None:
    """Copy tensors of exactly the module's names, shapes and types.

    Raises:
        InputError: naming the first one that does not fit, or is not finite.
    """
    own = module.state_dict()
    if not isinstance(tensors, Mapping) or tensors.keys() != own.keys():
        other = next(iter(own.keys() ^ tensors.keys()), "") if isinstance(tensors, Mapping) else type(tensors).__name__
        raise InputError(f"{source}: does not fit model options: {other} is missing, or not known")
    for name, value in own.items():
        given = tensors[name]
        if not isinstance(given, Tensor) or given.shape != value.shape or given.dtype != value.dtype:
            got = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise InputError(
                f"{source}: does not fit model options: {name} must be {value.dtype} {list(value.shape)}, got {got}"
            )
        if given.is_floating_point() and not given.isfinite().all():
            raise InputError(f"{source}: {name} holds values that are not finite")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def _to_iterations(conversion: Conversion, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with HyPaNet's last layer brought to the network's number of iterations K.

    All rounds share the enhancement, so K may change between a checkpoint and the network that it starts: further
    rounds get the alpha and beta of the file's last one, and rounds too many are dropped.
    """
    tensors = dict(conversion.tensors)
    names = [name for name in ("hyper.layers.4.weight", "hyper.layers.4.bias") if name in own and name in tensors]
    if conversion.kind != "davsr" or not names:
        return tensors
    if any(tensors[name].dim() != own[name].dim() or len(tensors[name]) != len(tensors[names[0]]) for name in names):
        return tensors  # misshaped, as will be said
    given, wanted = (len(source[names[0]]) // 2 for source in (tensors, own))
    if given and given != wanted:
        rounds = torch.arange(wanted).clamp(max=given - 1)
        tensors.update({name: tensors[name][torch.cat([rounds, given + rounds])] for name in names})
        conversion.notes.append(
            f"trained with {given} iterations, used with {wanted}: alpha and beta of round {given} repeat"
        )
    return tensors


def _with_pictures(name: str, tensor: Tensor, own: Tensor | None) -> Tensor:
    """The fusion of the first recurrent prior knew details alone: what it lacks of today's is zero."""
    grown = {"enhance.fusion.body.entry.weight": 1, "enhance.fusion.last.weight": 0, "enhance.fusion.last.bias": 0}
    if own is None or name not in grown or tensor.dim() != own.dim():
        return tensor
    axis = grown[name]
    lacking = {1: 3 * CELL**2, 0: CELL**2}[axis]
    if tensor.shape[axis] + lacking != own.shape[axis]:
        return tensor
    zeros = tensor.new_zeros([lacking if i == axis else n for i, n in enumerate(tensor.shape)])
    return torch.cat([tensor, zeros], dim=axis)


def load_weights(module: nn.Module, path: str | Path) -> Conversion:
    """Read, convert and load a file of any known naming into `module` (see `load_into`).

    A `SPyNet` also takes the flow network of a whole DAVSR or BasicVSR++ checkpoint, a `MotionPrior` the rounds of a
    DAVSR one.
    """
    tree = load_state(path)
    conversion = convert(tree, str(path))
    if isinstance(module, SPyNet) and conversion.kind in ("davsr", "published davsr", "basicvsr++"):
        conversion = _part(conversion, "enhance.flow.", "spynet", "the flow network")
    elif isinstance(module, PictureTrunk) and conversion.kind == "davsr":
        conversion = _part(conversion, "enhance.trunk.", "trunk", "the picture trunk")
    elif isinstance(module, MotionPrior) and conversion.kind == "davsr":
        conversion = _part(conversion, "rounds.", "rounds", "the rounds along the motion")
    return load_into(module, conversion, str(path))


def _part(whole: Conversion, prefix: str, kind: Kind, what: str) -> Conversion:
    """Of a conversion the part whose names begin with `prefix`."""
    part = Conversion(kind)
    for name, tensor in whole.tensors.items():
        if name.startswith(prefix):
            take(part, whole.sources[name], name[len(prefix) :], tensor)
        else:
            part.ignored[whole.sources[name]] = f"not of {what}"
    return part


def _place(module: nn.Module, conversion: Conversion, source: str) -> str:
    """Prefix of the converted names within `module`."""
    whole = isinstance(module, DAVSR)
    places = dict(module.named_modules())
    if conversion.kind == "spynet":
        prefix = "enhance.flow." if whole else ""
        fits = isinstance(module, SPyNet) or "enhance.flow" in places
    elif conversion.kind in ("rounds", "trunk"):
        prefix, fits = "", isinstance(module, MotionPrior | PictureTrunk)
    elif conversion.kind == "superslomo":
        prefix = "interpolate.slomo." if whole else ""
        fits = isinstance(module, SuperSloMo) or "interpolate.slomo" in places
    else:
        prefix, fits = "", whole
    if not fits:
        name = type(module).__name__
        raise InputError(f"weights: {source} holds a {conversion.kind} network, which has no place in this {name}")
    return prefix


def _may_be_absent(name: str, kind: Kind, prefix: str) -> bool:
    """Whether a file of this kind may lack our tensor `name`."""
    if name.endswith(("flow.mean", "flow.std")) or name in ("mean", "std"):
        return True  # ImageNet's, always
    if kind in ("spynet", "superslomo"):
        return not name.startswith(prefix)
    if kind == "published davsr":
        return name.startswith("interpolate.")
    if kind == "basicvsr++":
        inputs = ("enhance.features.0.", "enhance.features.2.", "enhance.features.4.entry.")
        return name.startswith(("interpolate.", "hyper.", *inputs))
    return False
