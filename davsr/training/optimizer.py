"""Adam with a rate for each part of the network, rates as pure functions of the step, averaged weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from davsr.errors import InputError
from davsr.models.alignment import FlowGuidedAlignment
from davsr.models.flow import SPyNet
from davsr.models.recurrent_prior import RecurrentPrior
from davsr.options import TrainOptions


def learning_rate(step: int, options: TrainOptions) -> float:
    """Rate of step 0, 1, ...: a linear rise over `warmup` steps times a cosine from `rate` to `rate_end`."""
    cosine = (1 + math.cos(math.pi * min(step / options.iterations, 1))) / 2
    rise = min((step + 1) / options.warmup, 1) if options.warmup else 1.0
    return rise * (options.rate_end + (options.rate - options.rate_end) * cosine)


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Adam:
    """Adam with the groups `flow` (flow network), `offset` (its convolutions), `trunk` (of a recurrent prior),
    `rest`.
    """
    names = {id(p): "rest" for p in model.parameters()}
    if options.task == "video":
        for module in model.modules():
            if isinstance(module, SPyNet):
                names.update((id(p), "flow") for p in module.parameters())
            if isinstance(module, FlowGuidedAlignment):
                names.update((id(p), "offset") for p in module.offset.parameters())
            if isinstance(module, RecurrentPrior):
                names.update((id(p), "trunk") for p in module.trunk.parameters())
    groups = []
    for name in ("rest", "flow", "offset", "trunk"):
        parameters = [p for p in model.parameters() if names[id(p)] == name and p.requires_grad]
        if parameters:
            groups.append({"params": parameters, "name": name})
    device = next(model.parameters()).device.type
    return torch.optim.Adam(groups, lr=options.rate, betas=options.betas, fused=device in ("cpu", "cuda"))


def set_rates(optimizer: torch.optim.Optimizer, step: int, options: TrainOptions) -> float:
    """Give every group its rate for `step`; returns that of the group `rest`.

    A frozen flow network has the rate 0 rather than no gradient: the graph stays the same, as DDP and compilation want
    it.
    """
    rate = learning_rate(step, options)
    factors = {
        "rest": 1.0,
        "flow": options.flow_factor if step >= options.flow_frozen else 0.0,
        "offset": options.offset_factor,
        "trunk": options.trunk_factor,
    }
    for group in optimizer.param_groups:
        group["lr"] = rate * factors[group["name"]]
    return rate


def restore_optimizer(optimizer: torch.optim.Adam, stored: Any, source: str) -> None:
    """Take the moments of a checkpoint, bit for bit; rates and the rest are those of the options.

    torch checks nothing of this, and its kernels read as many numbers as the parameter has.

    Raises:
        InputError: a moment is missing, of another shape or type, or not finite.
    """

    def need(fits: object, what: str) -> None:
        if not fits:
            raise InputError(f"checkpoint {source}: its optimiser does not fit this network: {what}")

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    need(isinstance(stored, dict) and isinstance(stored.get("state"), dict), "it holds no moments")
    own = optimizer.state_dict()["param_groups"]
    groups = stored.get("param_groups")
    need(isinstance(groups, list) and all(isinstance(group, dict) for group in groups), "it holds no groups")
    # Anything may stand there, a tensor too, which does not compare to a single truth.
    indices = [group.get("params") for group in groups]
    need(all(isinstance(i, list) and all(type(n) is int for n in i) for i in indices), "its groups hold no numbers")
    need(all(isinstance(group.get("name"), str | None) for group in groups), "its groups have no names")
    need(
        [(group.get("name"), group.get("params")) for group in groups] == [(g["name"], g["params"]) for g in own],
        "its groups of parameters are others",
    )
    state: dict[int, dict[str, Tensor]] = {}
    for index, entry in stored["state"].items():
        need(type(index) is int and 0 <= index < len(parameters), f"it knows a parameter {index!r}")
        need(
            isinstance(entry, dict) and entry.keys() == _MOMENTS.keys(),
            f"the moments of parameter {index} are incomplete",
        )
        state[index] = {}
        for name, least in _MOMENTS.items():
            value, like = entry[name], parameters[index] if name != "step" else torch.zeros(())
            need(
                isinstance(value, Tensor) and value.shape == like.shape,
                f"{name} of parameter {index} has another shape",
            )
            need(value.dtype == like.dtype, f"{name} of parameter {index} is {value.dtype}")
            need(
                bool(value.isfinite().all()) and bool((value >= least).all()),
                f"{name} of parameter {index} is no moment",
            )
            state[index][name] = torch.empty_like(like, device="cpu").copy_(value)  # in the parameter's own layout
    optimizer.load_state_dict({"state": state, "param_groups": own})


# What Adam keeps of every parameter, and the least that it may be.
_MOMENTS = {"step": 0.0, "exp_avg": -math.inf, "exp_avg_sq": 0.0}


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
