"""Checkpoints of ours and of published namings, converted by name.

Every key is used, or named with the reason why not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from davsr.checkpoints.files import FORMAT
from davsr.checkpoints.naming import DAVSR_RULES, RVE_RULES, SPYNET_RULES, SUPER_SLOMO, SUPER_SLOMO_RULES, rename
from davsr.errors import InputError

Kind = Literal["davsr", "published davsr", "basicvsr++", "spynet", "superslomo", "rounds", "trunk"]

_ADDED = re.compile(r"^((module|model|net|network|generator|ema_model|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
_COUNTERS = ("n_averaged",)  # of torch's averaged models
_WRAPPERS = (
    "params_ema", "state_dict_ema", "model_ema", "params", "state_dict", "model", "net", "generator"
)  # fmt: skip


@dataclass
class Conversion:
    """Tensors under our names, and what became of every key of the file."""

    kind: Kind
    tensors: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # our name -> name in the file
    ignored: dict[str, str] = field(default_factory=dict)  # name in the file -> why it is not used
    unknown: list[str] = field(default_factory=list)  # names in the file that no rule knows
    notes: list[str] = field(default_factory=list)  # sentences on what was changed to fit
    initial: list[str] = field(default_factory=list)  # our names left at their initialisation, by `load_into`

    def report(self) -> list[str]:
        """Sentences on what was not used and not filled; empty where everything has its counterpart."""
        lines = list(self.notes)
        reasons: dict[str, list[str]] = {}
        for name, reason in self.ignored.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            lines.append(f"not used ({reason}): {listed(names)}")
        if self.initial:
            lines.append(f"left at initialisation: {listed(self.initial)}")
        return lines


def listed(names: Iterable[str], most: int = 8) -> str:
    """`a, b, c and 5 more`."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def convert(tree: Mapping[str, Any], source: str = "the checkpoint") -> Conversion:
    """Identify the naming of a loaded checkpoint and bring its tensors to our names.

    The names of the result are those of `DAVSR` for the kinds `davsr`, `published davsr` and `basicvsr++`, of `SPyNet`
    for `spynet`, of `SuperSloMo` for `superslomo`. Unknown names are collected; `load_into` refuses them.

    Raises:
        davsr.errors.InputError: the naming is none of these.
    """
    if any(key in tree for key in SUPER_SLOMO):
        return convert_superslomo(tree)
    if tree.get("format") == FORMAT:
        averaged = tree.get("ema")
        tensors = _tensors(averaged if averaged is not None else tree.get("model"), source)
        kind: Kind = "spynet" if any(name.startswith("levels.") for name in tensors) else "davsr"  # of train.task flow
        return _ours(kind, tensors)
    tensors, ignored = _unwrap(tree, source)
    ignored.update({name: "a counter of steps" for name in tensors if name in _COUNTERS})
    names = [short for _, _, short in _stripped(tensors)]
    if any(re.match(r"(vsr|h\.mlp)\.", name) for name in names):
        conversion = convert_davsr(tensors)
    elif any(re.match(r"(backbone|deform_align)\.", name) for name in names):
        conversion = convert_basicvsr_plus_plus(tensors)
    elif any(re.search(r"(^|\.)spynet\.|^basic_module\.|^levels\.", name) for name in names):
        conversion = convert_spynet(tensors)
    elif any(re.match(r"(hyper|enhance|interpolate|rounds)\.", name) for name in names):
        conversion = _ours("davsr", tensors)
    elif any(re.match(r"(flow|refine)\.(conv|down|up)", name) for name in names):
        conversion = _ours("superslomo", tensors)
    else:
        raise InputError(
            f"weights: {source} has none of the known namings (ours, published DAVSR, BasicVSR++, SPyNet, Super SloMo); "
            f"it holds {listed(names, 4) or 'no tensors'}"
        )
    conversion.ignored.update(ignored)
    return conversion


def _ours(kind: Kind, tensors: Mapping[str, Tensor]) -> Conversion:
    """Tensors that have our names already, but for what wrappers add."""
    result = Conversion(kind)
    for name, tensor, short in _stripped(tensors):
        take(result, name, short, tensor)
    return result


def convert_davsr(tensors: Mapping[str, Tensor]) -> Conversion:
    """Published DAVSR names, with or without `generator.`, to those of `DAVSR`."""
    result = Conversion("published davsr")
    for name, tensor, short in _stripped(tensors):
        if short.startswith("p."):
            result.ignored[name] = "p.* has no part in the network's output"
        elif short == "step_counter":
            result.ignored[name] = "a counter of training steps"
        else:
            ours = rename(short, DAVSR_RULES)
            if ours and ours.startswith("hyper."):
                tensor = tensor.flatten(1) if tensor.dim() == 5 else tensor  # 1x1x1 convolutions are linear layers here
            take(result, name, ours, tensor)
    return result


def convert_basicvsr_plus_plus(tensors: Mapping[str, Tensor]) -> Conversion:
    """BasicVSR++ names, with or without `generator.`, to those of `DAVSR`.

    The published x4 model reads LR frames: its first convolution takes RGB where ours takes features, so it has no
    counterpart.
    """
    result = Conversion("basicvsr++")
    first = next((t for _, t, short in _stripped(tensors) if short == "feat_extract.main.0.weight"), None)
    reads_rgb = first is not None and first.dim() == 4 and first.shape[1] == 3 and first.shape[0] != 3
    for name, tensor, short in _stripped(tensors):
        if short == "step_counter":
            result.ignored[name] = "a counter of training steps"
        elif reads_rgb and short.startswith("feat_extract.main.0."):
            result.ignored[name] = "reads LR frames of 3 channels, ours reads features"
        else:
            ours = rename(short, RVE_RULES)
            take(result, name, ours and f"enhance.{ours}", tensor)
    return result


def convert_spynet(tensors: Mapping[str, Tensor]) -> Conversion:
    """SPyNet in either public naming, also inside a larger checkpoint under `spynet.`, to the names of `SPyNet`."""
    result = Conversion("spynet")
    inside = any(re.search(r"(^|\.)spynet\.", name) for name in tensors)
    for name, tensor, short in _stripped(tensors):
        if inside and not re.search(r"(^|\.)spynet\.", short):
            result.ignored[name] = "not of the flow network"
        else:
            short = re.sub(r"^(.*\.)?spynet\.", "", short)
            take(result, name, rename(short, SPYNET_RULES), tensor)
    return result


def convert_superslomo(tree: Mapping[str, Any]) -> Conversion:
    """Super SloMo's `state_dictFC` (flow) and `state_dictAT` (refinement) to the names of `SuperSloMo`."""
    result = Conversion("superslomo")
    for key, value in tree.items():
        if key not in SUPER_SLOMO:
            result.ignored[key] = "not of the network"
            continue
        for name, tensor, short in _stripped(_tensors(value, key)):
            ours = rename(short, SUPER_SLOMO_RULES)
            take(result, f"{key}.{name}", ours and f"{SUPER_SLOMO[key]}.{ours}", tensor)
    return result


def model_tree(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The `model` options that a conversion of kind `published davsr` or `basicvsr++` shows in its shapes, as a plain
    tree.

    Raises:
        davsr.errors.InputError: the tensors that tell the sizes are not there.
    """
    try:
        m = tensors[
            "enhance.features.2.weight" if "enhance.features.2.weight" in tensors else "enhance.conv_hr.weight"
        ].shape[0]
        align = tensors["enhance.alignment.forward_1.weight"]
        flow = [
            tensors[f"enhance.flow.levels.0.{2 * n}.weight"] for n in range(_count(tensors, "enhance.flow.levels.0."))
        ]
        m = align.shape[0]
        order = align.shape[1] // m
        first = tensors.get("enhance.features.0.weight")
        tree: dict[str, Any] = {
            "enhancement": {
                "channels": m,
                "blocks": _count(tensors, "enhance.propagation.backward_1.blocks."),
                "feature_blocks": _count(tensors, "enhance.features.4.blocks."),
                "reconstruction_blocks": _count(tensors, "enhance.reconstruction.blocks."),
                "hr_channels": tensors["enhance.conv_hr.weight"].shape[0],
                "groups": tensors["enhance.alignment.forward_1.offset.6.weight"].shape[0] // 27 * (2 // order),
                "order": order,
                "beta_channel": first is not None and first.shape[1] == 4,
                "flow": {
                    "levels": _count(tensors, "enhance.flow.levels."),
                    "channels": [weight.shape[0] for weight in flow[:-1]],
                    "kernel": flow[0].shape[2],
                },
            }
        }
        if "hyper.layers.4.bias" in tensors:
            tree["iterations"] = tensors["hyper.layers.4.bias"].shape[0] // 2
    except (KeyError, IndexError) as error:
        raise InputError(f"weights: the network's sizes cannot be read, {error} is missing") from None
    except ZeroDivisionError:
        raise InputError("weights: the network's sizes cannot be read, a tensor is empty") from None
    return tree


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})


def _unwrap(tree: Mapping[str, Any], source: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict within the usual wrappers, and what lies beside it."""
    for key in _WRAPPERS:
        if isinstance(tree.get(key), Mapping):
            beside = {f"{name}": f"beside {key}" for name in tree if name != key}
            return _tensors(tree[key], source), beside
    return _tensors(tree, source), {}


def _tensors(value: Any, source: str) -> dict[str, Tensor]:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    ):
        raise InputError(f"weights: {source} must hold a dict of tensors by name")
    return dict(value)


def _stripped(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor, str]]:
    """(name, tensor, name without what wrappers add: DataParallel, torch.compile, Lightning modules, averaged
    models).
    """
    return [(name, tensor, _ADDED.sub("", name)) for name, tensor in tensors.items() if name not in _COUNTERS]


def take(result: Conversion, name: str, ours: str | None, tensor: Tensor) -> None:
    """Note a tensor of the file under our name; None, or a name that is taken: unknown."""
    if ours is None or ours in result.tensors:
        result.unknown.append(name)
    else:
        result.tensors[ours], result.sources[ours] = tensor, name
