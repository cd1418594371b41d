"""From a file, or from nothing, to a model that restores."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from davsr import config
from davsr.checkpoints.convert import Conversion, convert, model_tree
from davsr.checkpoints.files import FORMAT, load_state
from davsr.checkpoints.fit import load_into, load_weights
from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.models.rve import RVE
from davsr.models.trained_range import TrainedRange
from davsr.options import (
    DegradationOptions,
    EnhancementOptions,
    HyperOptions,
    InterpolationOptions,
    ModelOptions,
    Options,
)

SHIPPED = Path(__file__).parent.parent / "assets" / "davsr_tiny.pt"

# One data step after interpolation: the baseline of every table.
TRAINING_FREE = ModelOptions(
    iterations=1, hyper=HyperOptions(kind="fixed"), enhancement=EnhancementOptions(kind="none")
)
# The best that there is without weights (options/test/motion.yml).
ALONG_MOTION = ModelOptions(
    iterations=1,
    interpolation=InterpolationOptions(rounds=12),
    hyper=HyperOptions(kind="fixed", alpha=0.08),
    enhancement=EnhancementOptions(kind="none"),
)

PUBLISHED: dict[str, Any] = {
    "degradation": {"boundary": "circular", "phase": -2},
    "model": {"interpolation": {"method": "trilinear", "resize": "bilinear_corners", "centre": 2.0}},
}

log = logging.getLogger(__name__)


def load_model(
    path: str | Path | None = None,
    *,
    model: ModelOptions | None = None,
    degradation: DegradationOptions | None = None,
    device: str | torch.device = "cpu",
) -> DAVSR:
    """A model in eval mode.

    Args:
        path: a checkpoint of ours, which holds its options, or in published names (see `options_tree`). None: the
            shipped model, or where none is installed restoration along the motion, which needs no weights.
        model: options of the network, where they are not to be the checkpoint's.
        degradation: the observation model to invert, where it is not to be the checkpoint's.
        device: where the model goes.

    Raises:
        davsr.errors.InputError: the file is missing, damaged, carries code, or does not fit the network.
    """
    if path is None and model is None and SHIPPED.is_file():
        path = SHIPPED
    if path is None:
        model = model or ALONG_MOTION
        if model.weights is not None:
            return load_model(model.weights, model=model, degradation=degradation, device=device)
        return _ready(initial_model(model, degradation), device)

    tree = load_state(path)
    conversion = convert(tree, str(path))
    trained = None
    if tree.get("format") == FORMAT and tree.get("options") is not None:
        trained = TrainedRange.of(config.build(Options, options_tree(tree, conversion, str(path))))
    if model is None or degradation is None:
        stored = options_tree(tree, conversion, str(path))
        model = model or config.build(ModelOptions, stored.get("model", {}), "model.")
        degradation = degradation or config.build(DegradationOptions, stored.get("degradation", {}), "degradation.")
    network = DAVSR(model, degradation)
    if network.learned:
        network.trained = trained
    for line in load_into(network, conversion, str(path)).report():
        log.info("%s: %s", path, line)
    return _ready(network, device)


def options_tree(tree: Mapping[str, Any], conversion: Conversion, source: str) -> dict[str, Any]:
    """The options of the network that a checkpoint is of, as a plain tree.

    Ours hold them. A published one shows its sizes in its shapes, and was trained with the conventions of its
    publication; its point-spread function and interpolator are in no checkpoint.

    Raises:
        davsr.errors.InputError: the checkpoint does not tell.
    """
    if conversion.kind in ("spynet", "superslomo"):
        raise InputError(f"weights: {source} holds a {conversion.kind} network, which restores nothing by itself")
    if tree.get("format") == FORMAT or conversion.kind == "davsr":
        stored = tree.get("options")
        if not isinstance(stored, Mapping):
            raise InputError(f"weights: {source} holds no options, so its network cannot be built; name them with -opt")
        known = {field.name for field in dataclasses.fields(Options)}
        return {key: value for key, value in stored.items() if key in known}
    sizes = model_tree(conversion.tensors)
    if conversion.kind == "published davsr":
        return {**PUBLISHED, "model": {**PUBLISHED["model"], **sizes}}
    return {"model": sizes}


def initial_model(model: ModelOptions | None = None, degradation: DegradationOptions | None = None) -> DAVSR:
    """A network at its start: fresh parameters, but for the parts whose options name a file of weights.

    Raises:
        davsr.errors.InputError: a file of weights does not fit its part.
    """
    network = DAVSR(model, degradation)
    parts = {
        "model.interpolation.weights": (network.options.interpolation.weights, network.interpolate.learned_part),
        "model.enhancement.flow.weights": (
            network.options.enhancement.flow.weights,
            network.enhance.flow if isinstance(network.enhance, RVE) else None,
        ),
    }
    for option, (path, part) in parts.items():
        if path is None:
            continue
        if part is None:
            raise InputError(f"options: {option} is given, but this network has no such part")
        for line in load_weights(part, path).report():
            log.info("%s: %s", path, line)
    return network


def _ready(network: DAVSR, device: str | torch.device) -> DAVSR:
    return network.to(device).eval()
