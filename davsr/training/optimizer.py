"""Adam with a rate for each part of the network, rates as pure functions of the step, averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from davsr.models.alignment import FlowGuidedAlignment
from davsr.models.flow import SPyNet
from davsr.options import TrainOptions


def learning_rate(step: int, options: TrainOptions) -> float:
    """Rate of step 0, 1, ...: a linear rise over `warmup` steps times a cosine from `rate` to `rate_end`."""
    cosine = (1 + math.cos(math.pi * min(step / options.iterations, 1))) / 2
    rise = min((step + 1) / options.warmup, 1) if options.warmup else 1.0
    return rise * (options.rate_end + (options.rate - options.rate_end) * cosine)


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Adam:
    """Adam with the groups `flow` (flow network), `offset` (offset convolutions) and `rest`, as far as they are there."""
    names = {id(p): "rest" for p in model.parameters()}
    if options.task == "video":
        for module in model.modules():
            if isinstance(module, SPyNet):
                names.update((id(p), "flow") for p in module.parameters())
            if isinstance(module, FlowGuidedAlignment):
                names.update((id(p), "offset") for p in module.offset.parameters())
    groups = []
    for name in ("rest", "flow", "offset"):
        parameters = [p for p in model.parameters() if names[id(p)] == name and p.requires_grad]
        if parameters:
            groups.append({"params": parameters, "name": name})
    device = next(model.parameters()).device.type
    return torch.optim.Adam(groups, lr=options.rate, betas=options.betas, fused=device in ("cpu", "cuda"))


def set_rates(optimizer: torch.optim.Optimizer, step: int, options: TrainOptions) -> float:
    """Give every group its rate for `step`; returns that of the group `rest`.

    A frozen flow network has the rate 0 rather than no gradient: the graph stays the same, as DDP and compilation want it.
    """
    rate = learning_rate(step, options)
    factors = {
        "rest": 1.0,
        "flow": options.flow_factor if step >= options.flow_frozen else 0.0,
        "offset": options.offset_factor,
    }
    for group in optimizer.param_groups:
        group["lr"] = rate * factors[group["name"]]
    return rate


class AveragedModel:
    """An exponential moving average of the weights: what is validated and shipped.

    The decay grows from 0.1 to `decay` over the first steps, so that the average does not remember the initialisation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._ours: list[Tensor] = list(self.model.parameters())
        self._theirs: list[Tensor] = list(model.parameters())

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the weights after `updates` earlier updates."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self._ours, self._theirs, 1 - decay)
