"""From a file, or from nothing, to a model that restores."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from davsr.checkpoints.convert import Conversion, convert
from davsr.checkpoints.files import load_state
from davsr.checkpoints.fit import load_into, load_weights
from davsr.checkpoints.network import NetworkSection, read_network_section
from davsr.errors import InputError
from davsr.models import rounds
from davsr.models.davsr import DAVSR
from davsr.models.recurrent_prior import RecurrentPrior
from davsr.models.rve import RVE
from davsr.ops import backend, log_backend
from davsr.options import (
    DegradationOptions,
    EnhancementOptions,
    HyperOptions,
    ModelOptions,
    RoundsOptions,
)

SHIPPED = Path(__file__).parent.parent / "assets" / "davsr_tiny.pt"
FREE = "training-free"  # names the restoration without weights where a checkpoint is expected

# One data step after interpolation: the baseline of every table.
TRAINING_FREE = ModelOptions(
    iterations=1, hyper=HyperOptions(kind="fixed"), enhancement=EnhancementOptions(kind="none")
)
# The best that there is without weights (options/test/motion.yml).
ALONG_MOTION = ModelOptions(
    iterations=1,
    rounds=RoundsOptions(count=12),
    hyper=HyperOptions(kind="fixed", alpha=rounds.ALPHA),  # the last data step is like those of the rounds
    enhancement=EnhancementOptions(kind="none"),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights: its tensors under our names."""

    path: Path
    conversion: Conversion
    section: NetworkSection | None  # None: the file says nothing about its network


def load_model(
    path: str | Path | None = None,
    *,
    model: ModelOptions | None = None,
    degradation: DegradationOptions | None = None,
    device: str | torch.device = "cpu",
) -> DAVSR:
    """A model in eval mode.

    Args:
        path: a checkpoint of ours, which says what network it is of, or in published names. `training-free`:
            interpolation and one data step. None: the shipped model, or where none is installed restoration along the
            motion, which needs no weights either.
        model: options of the network, where they are not to be the checkpoint's.
        degradation: the observation model to invert, where it is not to be the checkpoint's.
        device: where the model goes.

    Raises:
        davsr.errors.InputError: the file is missing, damaged, carries code, or does not fit the network.
    """
    if path is None and model is None and SHIPPED.is_file():
        path = SHIPPED
    if path is None and model is not None:
        path = model.weights
    if path is None or path == FREE:
        model = model or (TRAINING_FREE if path == FREE else ALONG_MOTION)
        return build_model(None, model, degradation or DegradationOptions(), device)
    checkpoint = read_checkpoint(path, described=model is not None and degradation is not None)
    section = checkpoint.section
    if section is not None:
        model, degradation = model or section.model, degradation or section.degradation
    return build_model(checkpoint, model or ModelOptions(), degradation or DegradationOptions(), device)


def read_checkpoint(path: str | Path, *, described: bool = False) -> Checkpoint:
    """Read and convert a file of weights of a whole network.

    Args:
        described: the network is known otherwise: a file that says nothing about it will do.
    """
    tree = load_state(path)
    conversion = convert(tree, str(path))
    try:
        section = read_network_section(tree, conversion, str(path))
    except InputError:
        if not described:
            raise
        section = None
    return Checkpoint(Path(path), conversion, section)


def build_model(
    checkpoint: Checkpoint | None, model: ModelOptions, degradation: DegradationOptions, device: str | torch.device
) -> DAVSR:
    """The network of these options in eval mode, with the weights of a checkpoint, or at its start without one."""
    if checkpoint is None:
        network = initial_model(model, degradation)
    else:
        network = DAVSR(model, degradation)
        if network.learned and checkpoint.section is not None:
            network.trained = checkpoint.section.trained
        for line in load_into(network, checkpoint.conversion, str(checkpoint.path)).report():
            log.info("%s: %s", checkpoint.path, line)
    if backend(device).name == "reference":  # slower: also those who call from Python are told, once
        log_backend(device)
    return network.to(device).eval()


def initial_model(model: ModelOptions | None = None, degradation: DegradationOptions | None = None) -> DAVSR:
    """A network at its start: fresh parameters, but for the parts whose options name a file of weights.

    Raises:
        davsr.errors.InputError: a file of weights does not fit its part.
    """
    network = DAVSR(model, degradation)
    parts = {
        "model.interpolation.weights": (network.options.interpolation.weights, network.interpolate.learned_part),
        "model.rounds.weights": (
            network.options.rounds.weights,
            network.rounds if network.options.rounds.channels else None,
        ),
        "model.enhancement.trunk_weights": (
            network.options.enhancement.trunk_weights,
            network.enhance.trunk if isinstance(network.enhance, RecurrentPrior) else None,
        ),
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
