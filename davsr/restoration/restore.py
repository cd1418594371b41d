"""Any video, of any length and size, restored in bounded memory: `davsr restore`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from davsr import config
from davsr.checkpoints.resolve import Resolved, operator_of, resolve
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, Options, RestoreOptions
from davsr.physics.operator import Operator
from davsr.restoration import planning
from davsr.restoration.cutting import Plan
from davsr.restoration.memory import free_memory
from davsr.restoration.source import Source
from davsr.restoration.streaming import Progress, Restoration, stream
from davsr.restoration.windows import model_restorer
from davsr.runtime import Precision, choose_device, require_precision


def restore(
    source: str | Path,
    target: str | Path,
    *,
    model: DAVSR | str | Path | None = None,
    degradation: DegradationOptions | None = None,
    options: RestoreOptions | None = None,
    device: str | torch.device = "auto",
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
        device: auto, cpu, cuda, cuda:1 or mps; a network that is given stays where it is.
        precision: of the network: float32, bfloat16 or float16.
        progress: called with (LR frames done, LR frames in all).

    Raises:
        davsr.errors.InputError: the input cannot be restored or the output not be written, with the reason.
    """
    wanted = Options(restore=options or RestoreOptions(), precision=precision)
    if isinstance(model, DAVSR):
        wanted = replace(wanted, degradation=degradation or model.degradation_options)
        resolved = Resolved(model, operator_of(wanted), wanted)
    else:
        if model is not None:
            wanted = replace(wanted, restore=replace(wanted.restore, model=str(model)))
        if degradation is not None:  # all of it is stated, also what equals a default
            names = config.leaves({"degradation": config.to_tree(degradation)})
            wanted = replace(wanted, degradation=degradation, stated=tuple(names))
        resolved = resolve(wanted, device=choose_device(device))
    return restore_resolved(source, target, resolved, choose_device(device), progress)


def restore_resolved(
    source: str | Path,
    target: str | Path,
    resolved: Resolved,
    device: torch.device,
    progress: Progress | None = None,
) -> Restoration:
    """`restore` with model, operator and options as `resolve` gives them.

    Args:
        device: where frames go that a model without parameters restores.
    """
    network, options = resolved.model, resolved.options.restore
    degradation, precision = resolved.options.degradation, resolved.options.precision
    place = next((p.device for p in network.parameters()), device)
    require_precision(precision, place)
    if network.trained is not None:
        network.trained.warn(degradation, options.sigma, network.beyond_training(resolved.operator, options.sigma))

    def plan_for(low: Source, economy: planning.Economy) -> Plan:
        return _plan(low, degradation, resolved.operator, network, options, place, economy)

    return stream(
        source,
        target,
        model_restorer(
            network,
            options.sigma,
            resolved.operator,
            device=place,
            precision=precision,
            ceiling=planning.ceiling(options.memory) if place.type == "cpu" else float("inf"),
            tidy=options.memory > 0,
        ),
        resolved.operator,
        degradation,
        replace(options, model=""),  # the model's digest says what the frames depend on
        plan_for,
        {"model": _digest(network), "precision": precision},
        progress,
    )


def _plan(
    low: Source,
    degradation: DegradationOptions,
    operator: Operator,
    network: DAVSR,
    options: RestoreOptions,
    device: torch.device,
    economy: planning.Economy,
) -> Plan:
    def given(value: Any) -> int | None:
        return None if value == "auto" else int(value)

    overlap = given(options.num_frame_overlap)
    host = planning.host_budget(options.memory)
    return planning.choose_plan(
        low.size,
        degradation.scale,
        planning.Memory.of(network, operator, device, options.response == "linear"),
        host,
        device=None if device.type == "cpu" else free_memory(device) * 0.8,
        frames=len(low),
        window=given(options.num_frame_testing),
        overlap=planning.default_overlap(degradation, network) if overlap is None else overlap,
        tile=given(options.size_patch_testing),
        margin=planning.stated_margin(options, network),
        economy=economy,
        modest=float("inf") if options.memory else planning.host_budget(planning.MODEST),
    )


def _digest(network: DAVSR) -> str:
    """Of the options and every weight."""
    digest = hashlib.sha256(json.dumps(network.options_tree(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
