"""What is learned: the whole network from clips, or its flow network from exact motion. Both serve the same loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from davsr.checkpoints.fit import load_weights
from davsr.checkpoints.loading import initial_model
from davsr.errors import InputError
from davsr.log import logger
from davsr.models.alignment import FlowGuidedAlignment
from davsr.models.buildable import require_flow_network
from davsr.models.davsr import DAVSR, Start
from davsr.models.flow import SPyNet
from davsr.models.layers import ResidualBlocks
from davsr.models.motion import Motion
from davsr.models.recurrent_prior import RecurrentPrior
from davsr.models.rve import RVE
from davsr.options import Options
from davsr.physics.degradation import Degradation
from davsr.pixels import to_unit
from davsr.ranks import Ranks
from davsr.runtime import autocast, widest_float
from davsr.training.losses import FlowObjective, VideoObjective
from davsr.training.samples.dataset import FlowBatch, FlowSamples, VideoBatch, VideoSamples, draw_exposure, observe
from davsr.training.samples.rounds_cache import CachedRounds
from davsr.training.validation import Score, known_shifts, load_cuts, score_cut, write_strip

_HELD_OUT = 2**40  # samples from this index on are never trained on
_FLOW_SAMPLES = 64


class VideoTask:
    """Restoration of degraded clips.

    A task has the network that is saved (`model`), its loss (`objective`, called with `inputs` of a batch of `samples`:
    what DDP and the compiler wrap), and its figures (`validate`), of which `score` decides what is best, higher is
    better.

    Args:
        fresh: whether initial weights are wanted, not those of a checkpoint.
    """

    score = "psnr"

    def __init__(self, options: Options, device: torch.device, fresh: bool) -> None:
        self.options, self.device = options, device
        self.samples = CachedRounds(options) if options.data.rounds_cache else VideoSamples(options)
        self.cuts = load_cuts(options)
        self.model = initial_model(options.model, options.degradation) if fresh else DAVSR.from_options(options)
        if fresh and options.model.weights:
            for line in load_weights(self.model, options.model.weights).report():
                logger.info(f"{options.model.weights}: {line}")
        newer_trunk = options.model.enhancement.trunk_weights
        if fresh and options.model.weights and newer_trunk and isinstance(self.model.enhance, RecurrentPrior):
            load_weights(self.model.enhance.trunk, newer_trunk)  # the part that is named counts over the whole
        if isinstance(self.model.enhance, RVE):
            self.model.enhance.gradient_checkpointing = options.train.gradient_checkpointing
        if options.train.interpolation_frozen:
            self.model.interpolate.requires_grad_(False)
            if self.model.rounds is not None:
                self.model.rounds.requires_grad_(False)
        if not options.train.frames_weight:
            _teach_pictures_alone(self.model, options)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise InputError(
                "train: this model has nothing to learn: choose model.enhancement.kind, model.hyper.kind: learned, or "
                "model.rounds.channels (without train.interpolation_frozen)"
            )
        self.objective = VideoObjective(self.model, options)
        self.degradation = self.model.degradation
        self._operators: dict[float, Degradation] = {}

    def operator(self, step: int) -> Degradation:
        """The degradation of all samples of a step."""
        if self.options.data.rounds_cache:
            step %= self.options.data.samples // self.options.train.batch
        exposure = draw_exposure(self.options, step)
        if exposure is None:
            return self.degradation
        if exposure not in self._operators:
            self._operators[exposure] = Degradation.from_options(replace(self.options.degradation, exposure=exposure))
        return self._operators[exposure]

    def inputs(self, batch: VideoBatch, step: int) -> tuple[Any, ...]:
        """(lq, gt, sigma, degradation, start)."""
        degradation = self.operator(step)
        observed = observe(batch, degradation, self.options.seed, self.device)
        return (*observed, degradation, self._start(batch, degradation))

    def _start(self, batch: VideoBatch, degradation: Degradation) -> Start | None:
        """x_0 and the motion of samples that `CachedRounds` keeps."""
        known = [sample for sample in batch["before"] if sample is not None]
        if not known:
            return None
        kept = {name: torch.stack([sample[name] for sample in known]).to(self.device) for name in known[0]}
        times = self.model.interpolate.times(kept["there"].shape[1] + 1, degradation)
        motion = Motion(times, kept["there"].float(), kept["back"].float())
        return Start(to_unit(kept["x_0"]).transpose(1, 2), motion, {})

    def validate(self, model: nn.Module, ranks: Ranks, pictures: Path) -> dict[str, float]:
        """Mean PSNR over the cuts and that of each; every rank restores its share."""
        border = self.options.test.border
        mine: list[tuple[int, Score]] = []
        for number in range(ranks.rank, len(self.cuts), ranks.world):
            cut = self.cuts[number]
            score, strip = score_cut(
                model, cut, self.objective.loss, self.degradation, border, self.device, self.options.precision
            )
            mine.append((number, score))
            if number < self.options.data.validation.pictures:
                write_strip(pictures / f"{cut.name}.png", strip)
        scores = dict(pair for part in ranks.gather(mine) for pair in part)
        if not scores:
            return {}
        names = [f.name for f in fields(Score)]
        means = {name: float(np.mean([getattr(score, name) for score in scores.values()])) for name in names}
        return {**means, **{f"psnr/{cut.name}": scores[number].psnr for number, cut in enumerate(self.cuts)}}


def _teach_pictures_alone(model: DAVSR, options: Options) -> None:
    """Of the model only what sharpens LR frames learns.

    Raises:
        InputError: it has no such part, or `train.pictures_weight` teaches it nothing.
    """
    if not isinstance(model.enhance, RecurrentPrior):
        raise InputError(
            "train.frames_weight: 0 needs model.enhancement.kind recurrent, whose pictures then learn alone"
        )
    if not options.train.pictures_weight:
        raise InputError("train.frames_weight and train.pictures_weight are both 0: there is nothing to learn from")
    model.requires_grad_(False)
    for part in (model.enhance.trunk, model.enhance.recurrence):
        if part is not None:
            part.requires_grad_(True)


class FlowTask:
    """Pretraining of the flow network on motion that is known exactly (members as in `VideoTask`)."""

    score = "negative_epe"

    def __init__(self, options: Options, device: torch.device, fresh: bool) -> None:
        self.options, self.device = options, device
        flow = options.model.enhancement.flow
        require_flow_network(flow)
        self.samples = FlowSamples(options)
        self.shifts = known_shifts(options)
        self.model = SPyNet.from_options(flow)
        if fresh and flow.weights:
            load_weights(self.model, flow.weights)
        self.objective = FlowObjective(self.model, options)

    def inputs(self, batch: FlowBatch, step: int) -> tuple[Any, ...]:
        """(reference, support, flow)."""
        images = (to_unit(batch[name].to(self.device, non_blocking=True)) for name in ("reference", "support"))
        return (*images, batch["flow"].to(self.device, non_blocking=True))

    @torch.no_grad()
    def validate(self, model: nn.Module, ranks: Ranks, pictures: Path) -> dict[str, float]:
        """End-point errors in pixels.

        On held-out scenes (all pixels, visible ones), and on known shifts of real frames.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        for number in range(ranks.rank, _FLOW_SAMPLES, ranks.world):
            sample = self.samples[_HELD_OUT + number]
            reference, support, flow = self.inputs(sample, 0)
            error = (self._predict(model, reference, support) - flow).norm(dim=1).cpu()
            visible = sample["visible"]
            sums += torch.stack(
                [error.sum(), error[visible].sum(), torch.tensor(error.numel()), visible.sum()]
            ).double()
        total, seen, pixels, seen_pixels = ranks.sum(sums.to(self.device, widest_float(self.device))).tolist()
        figures = {"epe": total / pixels, "epe_visible": seen / seen_pixels, "negative_epe": -total / pixels}
        if self.shifts:
            errors = []
            for reference, support, flow in self.shifts:
                images = (to_unit(image.to(self.device)) for image in (reference, support))
                error = (self._predict(model, *images) - flow.to(self.device).view(1, 2, 1, 1)).norm(dim=1)
                errors.append(float(error[..., 8:-8, 8:-8].mean()))
            figures["epe_shift"] = float(np.mean(errors))
        return figures

    def _predict(self, model: nn.Module, reference: Tensor, support: Tensor) -> Tensor:
        with autocast(self.options.precision, self.device):
            return model(reference, support).float()


Task = VideoTask | FlowTask


def open_task(options: Options, device: torch.device, ranks: Ranks, *, fresh: bool) -> Task:
    """The task with its data open. Rank 0 decodes films into the cache first, the others find them there.

    Args:
        fresh: see `VideoTask`.
    """
    make = FlowTask if options.train.task == "flow" else VideoTask
    task: Task | None = make(options, device, fresh) if ranks.first else None
    ranks.barrier()
    return task or make(options, device, fresh)


def compile_stacks(model: nn.Module) -> None:
    """Compile the stacks of residual blocks, in place.

    That takes half a minute and serves any length of clip; the whole network, its recurrence unrolled, takes an hour
    and serves one.
    """
    for module in model.modules():
        if isinstance(module, ResidualBlocks):
            module.compile()


@contextmanager
def offset_magnitude(model: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """Collects, for every alignment that runs inside, the mean length of the learned offset in feature pixels."""
    found: list[Tensor] = []
    handles = []
    for module in model.modules():
        if wanted and isinstance(module, FlowGuidedAlignment):

            def note(_: nn.Module, __: Any, raw: Tensor, reach: float = module.max_residue) -> None:
                offsets = reach * torch.tanh(raw.detach()[:, : raw.shape[1] * 2 // 3].float())
                found.append(offsets.unflatten(1, (-1, 2)).norm(dim=2).mean())

            handles.append(module.offset[-1].register_forward_hook(note))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
