"""DAVSR: K rounds of a closed-form data step and a learned enhancement (Cao et al., ECCV 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from davsr import config
from davsr.models.buildable import require_buildable
from davsr.models.frame_enhancement import FrameEnhancement
from davsr.models.grouped_rounds import exposed_by_itself, step_by_parts
from davsr.models.hyper import FixedHyper, HyPaNet
from davsr.models.interpolation import Interpolation
from davsr.models.motion import Motion
from davsr.models.precision import needs_gradient, share_memory, working_dtype
from davsr.models.prior import Observation, Prior
from davsr.models.recurrent_prior import RecurrentPrior
from davsr.models.rounds import MotionPrior
from davsr.models.rve import RVE
from davsr.models.trained_range import TrainedRange
from davsr.models.trunk import PictureEnhancement
from davsr.options import DegradationOptions, EnhancementOptions, ModelOptions, Options, RoundsOptions
from davsr.physics.degradation import Degradation
from davsr.physics.operator import Operator
from davsr.pixels import as_clip


class Start(NamedTuple):
    """Where the alternation starts: x_0 [b, c, T, H, W] and the motion of the clip.

    `before`: what x_0 was made from.
    """

    x0: Tensor
    motion: Motion
    before: dict[str, Tensor]


@dataclass
class Stages:
    """What every step made: x_0, then z_k and x_k for k = 1..K, each [b, c, T, H, W]; alpha and beta [b, K].

    Where x_0 comes from rounds along the motion, `before` has what they started from; `within`: what the prior
    made on its way.
    """

    x0: Tensor
    alpha: Tensor
    beta: Tensor
    z: list[Tensor] = field(default_factory=list)
    x: list[Tensor] = field(default_factory=list)
    before: dict[str, Tensor] = field(default_factory=dict)
    within: dict[str, Tensor] | None = None

    def add(self, z: Tensor, x: Tensor | None = None) -> None:
        """A data step and, but for a last one, the enhancement behind it."""
        self.z.append(z)
        if x is not None:
            self.x.append(x)

    def named(self) -> dict[str, Tensor]:
        """(interpolated, r_0,) x_0, z_1, x_1, ..., z_K, x_K(, z_K+1) in the order in which they were made.

        Without enhancement x_k is z_k, and left out.
        """
        videos = {**self.before, "x_0": self.x0}
        for k, z in enumerate(self.z, 1):
            videos[f"z_{k}"] = z
            if k <= len(self.x) and self.x[k - 1] is not z:
                videos[f"x_{k}"] = self.x[k - 1]
        return videos


class DAVSR(nn.Module):
    """Space-time video super-resolution by alternating optimisation.

    Args:
        options: the network's options.
        degradation: options of the observation model that the data step inverts.
    """

    def __init__(self, options: ModelOptions | None = None, degradation: DegradationOptions | None = None) -> None:
        super().__init__()
        self.options = options or ModelOptions()
        require_buildable(self.options)
        self.degradation_options = degradation or DegradationOptions()
        self.degradation = Degradation.from_options(self.degradation_options)
        self.interpolate = Interpolation(self.options.interpolation)
        self.rounds = _rounds(self.options.rounds)
        self.hyper = _hyper(self.options, self.degradation)
        self.enhance = _enhancement(self.options.enhancement)
        self.trained: TrainedRange | None = None  # what its weights have seen, where that is known

    @classmethod
    def from_options(cls, options: Options) -> DAVSR:
        """The network that `options.model` and `options.degradation` describe, with its initial weights."""
        return cls(options.model, options.degradation)

    def forward(
        self,
        lq: Tensor | np.ndarray,
        sigma: float | Tensor = 0.0,
        *,
        degradation: Operator | None = None,
        start: Start | None = None,
        return_stages: bool = False,
        compact: bool = False,
    ) -> Tensor | tuple[Tensor, Stages]:
        """Restore a clip.

        Images and the data step are computed in float32, or in float64 where the clip or the weights are; the networks
        in the precision of their weights, or of autocast.

        Args:
            lq: observed frames [b, t, c, h, w], RGB in [0, 1]; also [t, c, h, w], uint8, and arrays (see `as_clip`).
            sigma: standard deviation of the noise, fraction of full scale, a number or [b].
            degradation: the observation model of this clip, if not the network's own.
            start: x_0 and the motion of this clip, if they are known.
            return_stages: also return x_0 and every z_k and x_k.
            compact: where the model can, and no gradient is wanted, frames wait from step to step in half precision,
                and are returned in it: less than half of the memory (docs/performance.md).

        Returns:
            Sharp frames [b, T, c, H, W] (not clamped) in the dtype of `lq`, without b where it had none, or
            (frames, stages).

        Raises:
            ValueError: lq is not such a clip, or sigma does not fit it.
        """
        lq, batched = as_clip(lq, "DAVSR: lq")
        given = lq.dtype
        lq = lq.to(working_dtype(lq, *self.parameters()))
        y, A, noise = lq.transpose(1, 2), degradation or self.degradation, per_sample(sigma, lq)

        # Where nobody else looks at x and no gradient is wanted, steps take its memory: fresh memory is slow.
        ours = start is None and not return_stages and not torch.compiler.is_compiling()
        ours = ours and not needs_gradient(self, lq, noise)
        half = None
        if compact and ours and lq.dtype == torch.float32 and self.can_wait_in_half(A, lq.device):
            half = torch.float16
        x, motion, before = start or self.start(lq, A, noise, keep=return_stages, in_place=ours, waiting=half)
        ours = ours and x.is_contiguous() and not share_memory(x, lq)
        clip = Observation(lq, A, noise, motion, kept={} if return_stages else None, in_place=ours)
        prior = self.enhance if self.enhance is not None and self.applies(A, sigma) else without_prior
        alpha, beta = self.hyper(noise, A)
        stages = Stages(x, alpha, beta, before=before, within=clip.kept) if return_stages else None
        for k in range(self.options.iterations):
            # z_k = argmin_z ||y - A z||^2 + alpha_k ||z - x_k-1||^2, then x_k = prior(z_k, beta_k)
            z = _agree(A, x, y, alpha[:, k], in_place=ours) if self.options.data_step else x
            x = prior(z, beta[:, k], alpha[:, k], clip)
            if stages is not None:
                stages.add(z, x)
        if self.options.final_data_step and prior is not without_prior:
            x = _agree(A, x, y, alpha[:, -1], in_place=ours)
            if stages is not None:
                stages.add(x)

        frames = x.transpose(1, 2).to(given if half is None else half)
        frames = frames if batched else frames[0]
        return frames if stages is None else (frames, stages)

    def can_wait_in_half(self, A: Operator, device: torch.device) -> bool:
        """Whether everything between the steps takes frames in half precision."""
        rounds = self.rounds is not None and self.rounds.goes_in_groups(device)
        return rounds and exposed_by_itself(A) and (self.enhance is None or self.enhance.takes_half)

    def start(
        self,
        lq: Tensor,
        A: Operator,
        sigma: Tensor,
        *,
        keep: bool = False,
        in_place: bool = False,
        waiting: torch.dtype | None = None,
    ) -> Start:
        """x_0 of a clip [b, t, c, h, w]: interpolated, then in rounds along the motion where the options have them.

        Args:
            sigma: noise [b].
            keep: also what the rounds start from, as (interpolated, r_0).
            in_place: the rounds take the memory of what they start from.
            waiting: in which dtype frames wait for their next round, see `MotionPrior`.
        """
        motion = self.interpolate.motion(lq, A)
        if self.rounds is None:
            return Start(self.interpolate(lq, A, motion), motion, {})
        y = lq.transpose(1, 2)
        if in_place:  # made where it is used up, for nobody else to hold its memory
            parts = self.interpolate.parts(lq, A, motion)
            along = motion.of_hr_frames((A.scale[0], 1, 1), lq)  # on the LR grid
            return Start(self.rounds(parts, y, along, A, sigma, waiting=waiting), motion, {})
        x, along = self.interpolate(lq, A, motion), motion.of_hr_frames(A.scale, lq)
        before = {"interpolated": x} if keep else {}
        return Start(self.rounds(x, y, along, A, sigma, before if keep else None), motion, before)

    def applies(self, degradation: Operator, sigma: float | Tensor = 0.0) -> bool:
        """Whether there is an enhancement and it takes part.

        Elsewhere interpolation, rounds and data steps run alone.
        """
        return self.enhance is not None and self.enhance.applies(degradation, sigma)

    def beyond_training(self, degradation: Operator, sigma: float) -> str:
        """What happens where this lies outside of what the model was trained for, as the end of a sentence."""
        if self.enhance is not None and not self.applies(degradation, sigma):
            return "the rounds along the motion run without the learned prior"
        return "expect less"

    @classmethod
    def from_pretrained(cls, name: str | Path, **how: Any) -> DAVSR:
        """A model from a file, a folder or a repository of the hub: see `davsr.checkpoints.hub.from_pretrained`."""
        from davsr.checkpoints import hub  # the rooms above this one are for those who call the method

        return hub.from_pretrained(name, **how)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, options and a model card to a folder: see `davsr.checkpoints.hub.save_pretrained`."""
        from davsr.checkpoints import hub

        return hub.save_pretrained(self, folder)

    @property
    def learned(self) -> bool:
        """Whether anything in it was, or is to be, learned."""
        return next(self.parameters(), None) is not None

    def options_tree(self) -> dict[str, Any]:
        """The `degradation` and `model` sections, as a checkpoint stores them."""
        return {
            "degradation": config.to_tree(self.degradation_options),
            "model": config.to_tree(self.options),
        }


def without_prior(z: Tensor, beta: Tensor, alpha: Tensor, clip: Observation) -> Tensor:
    """In the place of a `Prior` where there is none, or it does not apply: x_k = z_k."""
    return z


def _agree(A: Operator, x: Tensor, y: Tensor, alpha: Tensor, in_place: bool) -> Tensor:
    """The data step, of frames in half precision by parts."""
    if x.dtype == torch.float16:
        return step_by_parts(A, x, y, alpha)
    return A.data_step(x, y, alpha, out=x if in_place else None)


def per_sample(sigma: float | Tensor, lq: Tensor) -> Tensor:
    """The noise level as a tensor [b] in the clip's precision and on its device.

    Raises:
        ValueError: if sigma is neither a number nor one value for each clip of the batch.
    """
    values = torch.as_tensor(sigma, dtype=lq.dtype, device=lq.device)
    if values.dim() == 0:
        return values.expand(lq.shape[0])
    if values.shape != lq.shape[:1]:
        raise ValueError(f"DAVSR: sigma must be a number or [{lq.shape[0]}], got {list(values.shape)}")
    return values


def _rounds(options: RoundsOptions) -> MotionPrior | None:
    return MotionPrior(options.count, options.channels) if options.count else None


def _enhancement(options: EnhancementOptions) -> Prior | None:
    if options.kind == "none":
        return None
    if options.kind == "recurrent":
        return RecurrentPrior(options)
    if options.kind == "pictures":
        return PictureEnhancement(options.channels, options.blocks)
    return RVE(options) if options.kind == "rve" else FrameEnhancement(options)


def _hyper(options: ModelOptions, degradation: Degradation) -> HyPaNet | FixedHyper:
    if options.hyper.kind == "fixed":
        return FixedHyper(options.iterations, alpha=options.hyper.alpha, beta=options.hyper.beta)
    alpha = options.hyper.alpha * degradation.largest_eigenvalue()
    return HyPaNet(options.iterations, degradation.scale, alpha=alpha, beta=options.hyper.beta)
