"""Where a checkpoint, an options file, `--set` and flags meet: one rule for every command and for Python.

What the user states wins, also where it equals a default; then what the checkpoint was trained with; then the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from davsr import config
from davsr.checkpoints.loading import (
    ALONG_MOTION,
    FREE,
    SHIPPED,
    TRAINING_FREE,
    Checkpoint,
    build_model,
    read_checkpoint,
)
from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.models.flow import SPyNet
from davsr.models.superslomo import SuperSloMo
from davsr.options import DegradationOptions, ModelOptions, Options
from davsr.physics.degradation import Degradation
from davsr.physics.operator import Operator
from davsr.physics.response import LinearLight


@dataclass(frozen=True)
class Resolved:
    """What a command works with."""

    model: DAVSR
    operator: Operator  # in the camera's response
    options: Options  # all of them, with the model and the degradation in use


def resolve(options: Options, *, device: str | torch.device = "cpu") -> Resolved:
    """The model and the operator that options describe.

    A `model` section that names `enhancement.kind` but no weights describes a network by itself; any other is laid over
    the checkpoint's: that of `restore.model` or `model.weights`, else the shipped one.

    Raises:
        InputError: two checkpoints are named, a learned network has no weights, or the file does not fit.
    """
    stated = config.stated_tree(options)
    checkpoint, model = _sources(options, stated)
    physics = DegradationOptions()
    if checkpoint is not None and checkpoint.section is not None:
        model = config.overlaid(checkpoint.section.model, stated.get("model", {}), "model.")
        physics = checkpoint.section.degradation
    degradation = config.overlaid(physics, stated.get("degradation", {}), "degradation.")
    network = build_model(checkpoint, model, degradation, device)
    if checkpoint is None:
        _require_weights(network)
    resolved = replace(options, model=model, degradation=degradation)
    return Resolved(network, operator_of(resolved), resolved)


def operator_of(options: Options) -> Operator:
    """A, in the camera's response (`restore.response`)."""
    operator = Degradation.from_options(options.degradation)
    return LinearLight(operator) if options.restore.response == "linear" else operator


def _sources(options: Options, stated: Mapping[str, Any]) -> tuple[Checkpoint | None, ModelOptions]:
    """The checkpoint, if one is used, and the network where none is."""
    wanted = stated.get("model", {})
    described = "kind" in wanted.get("enhancement", {})
    named = [path for path in (options.restore.model, options.model.weights) if path]
    if len(set(named)) > 1:
        raise InputError(f"options: restore.model {named[0]} and model.weights {named[1]} name two models; state one")
    if named and named[0] != FREE:
        return read_checkpoint(named[0], described=described), options.model
    if named:
        return None, config.overlaid(TRAINING_FREE, wanted, "model.")
    if described:
        return None, options.model
    if SHIPPED.is_file():
        return read_checkpoint(SHIPPED), options.model
    return None, config.overlaid(ALONG_MOTION, wanted, "model.")


def _require_weights(network: DAVSR) -> None:
    """Refuse a network at its start whose learned parts would only add noise."""
    model = network.options
    if network.enhance is not None:
        raise InputError(
            f"options: model.weights must name a checkpoint, because model.enhancement.kind {model.enhancement.kind} "
            "is learned; the training-free restoration is model.enhancement.kind: none"
        )
    if isinstance(network.interpolate.learned_part, (SuperSloMo, SPyNet)) and model.interpolation.weights is None:
        raise InputError(
            f"options: model.interpolation.weights must name a checkpoint, because "
            f"model.interpolation.method {model.interpolation.method} is learned here"
        )
