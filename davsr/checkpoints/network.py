"""The network section of a checkpoint: all that is needed to build its network, with a version.

Older ones are migrated.

The options that a checkpoint holds beside it are a record of its training and never a condition for using it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from davsr import config
from davsr.checkpoints.convert import Conversion, model_tree
from davsr.checkpoints.files import FORMAT
from davsr.errors import InputError
from davsr.models.buildable import require_buildable
from davsr.models.trained_range import TrainedRange
from davsr.options import DataOptions, DegradationOptions, ModelOptions, Options
from davsr.settings.migration import today

KEY = "network"
VERSION = 4
# A published checkpoint was trained with the conventions of its publication. Its PSF and interpolator are in no file.
_PUBLISHED: dict[str, Any] = {
    "degradation": {"boundary": "circular", "phase": -2},
    "model": {"interpolation": {"method": "trilinear", "resize": "bilinear_corners", "centre": 2.0}},
}


@dataclass(frozen=True)
class NetworkSection:
    """What a checkpoint says of its network."""

    model: ModelOptions
    degradation: DegradationOptions
    trained: TrainedRange | None = None


def network_section(options: Options) -> dict[str, Any]:
    """The section that a checkpoint of a run with these options gets, as plain values."""
    return {
        "version": VERSION,
        "model": config.to_tree(options.model),
        "degradation": config.to_tree(options.degradation),
        "trained": config.to_tree(TrainedRange.of(options)),
    }


def read_network_section(tree: Mapping[str, Any], conversion: Conversion, source: str) -> NetworkSection:
    """What a loaded checkpoint of any naming says of its network.

    Raises:
        davsr.errors.InputError: it does not tell, or is of a newer version.
    """
    if conversion.kind in ("spynet", "superslomo"):
        raise InputError(f"weights: {source} holds a {conversion.kind} network, which restores nothing by itself")
    if tree.get("format") != FORMAT and conversion.kind != "davsr":
        model = model_tree(conversion.tensors)
        if conversion.kind == "published davsr":
            return _built({**_PUBLISHED, "model": {**_PUBLISHED["model"], **model}}, source)
        return _built({"model": model}, source)
    section: Mapping[str, Any] = tree[KEY] if KEY in tree else {"version": 1, "options": tree.get("options")}
    version = section.get("version") if isinstance(section, Mapping) else None
    if not isinstance(version, int) or version < 1:
        raise InputError(f"weights: {source} holds a damaged section {KEY}")
    if version > VERSION:
        raise InputError(f"weights: {source} is of version {version}, this program reads up to {VERSION}: update it")
    for step in range(version, VERSION):
        section = _MIGRATIONS[step](section, source)
    return _built(section, source)


def _built(section: Mapping[str, Any], source: str) -> NetworkSection:
    try:
        model = config.build(ModelOptions, section.get("model") or {}, "model.")
        require_buildable(model)
        return NetworkSection(
            model,
            config.build(DegradationOptions, section.get("degradation") or {}, "degradation."),
            _trained(section.get("trained")),
        )
    except InputError as error:
        raise InputError(f"weights: {source}: {error}") from None


def _trained(stored: object) -> TrainedRange | None:
    """What the model learned from; nothing where that is not known."""
    if not stored:
        return None
    if not isinstance(stored, Mapping):
        raise InputError(f"trained must be a section with keys, got {type(stored).__name__}")
    missing = [field.name for field in dataclasses.fields(TrainedRange) if field.name not in stored]
    if missing:
        raise InputError(f"trained.{missing[0]} is missing")
    return config.build(TrainedRange, stored, "trained.")


def _from_version_1(section: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Version 1 was the options of the training run alone.

    What is unknown or wrong in `data` says nothing about the range.
    """
    options = section.get("options")
    if not isinstance(options, Mapping):
        raise InputError(f"weights: {source} holds no options, so its network cannot be built; name them with -opt")
    described = {name: options.get(name) or {} for name in ("model", "degradation")}
    data = options.get("data")
    if not isinstance(data, Mapping):
        return {**described, "trained": None}
    seen = {name: data[name] for name in ("exposures", "sigma") if name in data}
    try:
        degradation = config.build(DegradationOptions, described["degradation"], "degradation.")
        run = dataclasses.replace(Options(), degradation=degradation, data=config.build(DataOptions, seen, "data."))
    except InputError as error:
        raise InputError(f"weights: {source}: {error}") from None
    return {**described, "trained": config.to_tree(TrainedRange.of(run))}


def _from_version_2(section: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Version 2 had the rounds along the motion among the options of the interpolation."""
    return {**section, "model": today({"model": section.get("model") or {}})["model"]}


def _from_version_3(section: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Version 3's fusion had fewer channels: `davsr.checkpoints.fit` fills the new ones, the section is the same."""
    return {**section}


_MIGRATIONS: dict[int, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    1: _from_version_1,
    2: _from_version_2,
    3: _from_version_3,
}
