"""Restoration along the motion: data steps in alternation with averages over trajectories; with few weights, or none.

A sharp frame is what its neighbours show, moved. Exposure hides that: the data step alone cannot tell the few frames
apart that one LR frame sums. Asking neighbours to agree along the motion does, and gathers the detail that each of them
samples elsewhere (multi-frame super-resolution: Elad and Feuer, 1997; Liu and Sun, 2011). What they leave open, total
variation settles: among the frames that explain the data, flat ones with sharp edges (Rudin, Osher and Fatemi, 1992).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from davsr.models.fixed_rounds import fixed_rounds
from davsr.models.grouped_rounds import Averaging, Learned, parts_in_time, refine_in_groups
from davsr.models.learned_rounds import learned_rounds
from davsr.models.motion import length
from davsr.models.precision import empty_volume, needs_gradient, share_memory, working_dtype
from davsr.models.round_networks import REACH, STEPS, SUPPORT, TRUSTED, Detail, Trust, in_cells, parts, texture
from davsr.ops import (
    RoundNetworks,
    add_cells,
    backend,
    flatten,
    motion_average,
    motion_blend,
    motion_mean,
    motion_mismatch,
    pack_detail,
    pack_trust,
    resize_flow,
)
from davsr.physics.degradation import Degradation
from davsr.physics.operator import Operator

# Found by hand on cuts of the film and of the validation clips; results change slowly around them.
ALPHA = 0.08  # of the data step, times the largest eigenvalue of A A^T
MOMENTUM = 0.9
MISMATCH = 0.11  # root mean square difference at which a neighbour, moved, counts e times less
FLATTENING = 0.005  # step down the total variation
FLAT = 0.02  # gradient up to which total variation counts quadratically
NOISE = 0.1  # the noise at which the data step takes a value's own error for as large as the noise's


class MotionPrior(nn.Module):
    """`rounds` of: go on in the direction of the last change, agree along the motion, flatten, data step.

    Without weights it goes by constants. With `channels` it learns, from them on: two small networks at a quarter of
    the size, one for the say of a neighbour, one for detail that is put back, and how far each round goes.

    Args:
        rounds: after a first data step.
        channels: width of the learned part; 0: none.
    """

    def __init__(self, rounds: int, channels: int = 0) -> None:
        super().__init__()
        self.rounds = rounds
        steps = torch.tensor([ALPHA, MOMENTUM, FLATTENING]).log().repeat(rounds + 1, 1)
        self.log_steps: Tensor  # of the first data step, then of every round
        if channels:
            self.log_steps = nn.Parameter(steps)
        else:
            self.register_buffer("log_steps", steps, persistent=False)
        self.trust = Trust(channels) if channels else None
        self.detail = Detail(2 * channels, rounds) if channels else None

    def forward(
        self,
        x: Tensor | Iterator[Tensor],
        y: Tensor,
        motion: Tensor,
        degradation: Operator,
        sigma: Tensor | None = None,
        stages: dict[str, Tensor] | None = None,
        waiting: torch.dtype | None = None,
    ) -> Tensor:
        """Refine an estimate.

        Args:
            x: estimate [b, c, T, H, W], or its parts of every LR frame, whose memory is taken.
            y: observed video [b, c, t, h, w].
            motion: [b, T, 2, H, W], HR pixels per HR frame, or [b, T, 2, h, w], LR pixels.
            sigma: noise of y [b]; None: none.
            stages: takes what the first data step made, as r_0.
            waiting: in which dtype frames wait for their next round, and come back, where they go in groups; None: as
                they are computed.

        Returns:
            The refined estimate, like x.
        """
        with torch.autocast(y.device.type, enabled=False):
            inputs = (self, y, motion, sigma, x if isinstance(x, Tensor) else None)
            whole = motion.shape[1] == degradation.scale[0] * y.shape[2]  # exposures
            whole = whole and (self.trust is None or working_dtype(y, motion) == torch.float32)
            if whole and self.goes_in_groups(y.device) and not needs_gradient(*inputs):
                return self._refine_in_groups(x, y, motion, degradation, sigma, waiting, stages)
            start = [x if isinstance(x, Tensor) else torch.cat(list(x), dim=2)]
            if motion.shape[3:] != start[0].shape[3:]:
                motion = raised_motion(motion, degradation.scale)
            return self._refine(start, y, motion, degradation, sigma, stages, in_place=not isinstance(x, Tensor))

    def goes_in_groups(self, device: torch.device) -> bool:
        """Whether rounds without a gradient go through a clip by LR frames, in the memory of two videos.

        Learned parts do in a compiled pass, in float32.
        """
        compiled = backend(device).name != "reference" and all(p.dtype == torch.float32 for p in self.parameters())
        return (self.trust is None or compiled) and device.type == "cpu" and not torch.compiler.is_compiling()

    def _steps(self, y: Tensor, degradation: Operator, sigma: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Penalties of the data steps [rounds + 1, b], momenta, and steps down the total variation [rounds + 1]."""
        alphas, momenta, flattening = self.log_steps.to(y).exp().unbind(dim=1)
        alphas = alphas[:, None] * degradation.largest_eigenvalue()
        alphas = alphas + (0 if sigma is None else (sigma / NOISE) ** 2)
        return alphas.expand(-1, len(y)), momenta, flattening

    def _refine_in_groups(
        self,
        x: Tensor | Iterator[Tensor],
        y: Tensor,
        motion: Tensor,
        degradation: Operator,
        sigma: Tensor | None,
        waiting: torch.dtype | None,
        stages: dict[str, Tensor] | None,
    ) -> Tensor:
        dtype = working_dtype(y, x) if isinstance(x, Tensor) else working_dtype(y)
        y, motion = y.to(dtype), motion.to(dtype)
        if isinstance(x, Tensor):
            groups = parts_in_time(x.shape[2], degradation.scale[0])
            parts = (x[:, :, part].to(dtype, copy=True, memory_format=torch.contiguous_format) for part in groups)
        else:
            parts = (part.to(dtype) for part in x)
        how = Averaging(STEPS, MISMATCH, REACH, FLAT)
        steps = self._steps(y, degradation, sigma)
        learned = self._learned(y, motion, degradation.scale)
        return refine_in_groups(parts, y, motion, degradation, *steps, how, waiting or dtype, learned, stages)

    def _learned(self, y: Tensor, motion: Tensor, scale: tuple[int, int, int]) -> Learned | None:
        """The learned parts of all rounds, and what they see of the motion."""
        if self.trust is None or self.detail is None:
            return None
        size = [n * s for n, s in zip(y.shape[3:], scale[1:], strict=True)]
        speed = []
        for part in parts_in_time(motion.shape[1], scale[0]):
            some = motion[:, part]
            fine = some if list(some.shape[3:]) == size else raised_motion(some, scale)
            speed.append(in_cells(length(fine, dim=2).squeeze(2), scale[1:]))
        trust = pack_trust(self.trust.in_units())
        networks = [RoundNetworks(trust, pack_detail(self.detail.in_units(k))) for k in range(1, self.rounds + 1)]
        return Learned(networks, torch.cat(speed, dim=1), TRUSTED, SUPPORT)

    def _refine(
        self,
        start: list[Tensor],  # x is taken out: of memory that is ours, only the names below may hold on to a volume
        y: Tensor,
        motion: Tensor,
        degradation: Operator,
        sigma: Tensor | None,
        stages: dict[str, Tensor] | None,
        in_place: bool,
    ) -> Tensor:
        x = start.pop()
        dtype = working_dtype(x, y)
        x, y, motion = x.to(dtype), y.to(dtype), motion.to(dtype).contiguous()  # once, instead of in every round
        alphas, momenta, flattening = self._steps(y, degradation, sigma)
        cell = degradation.scale[1:]
        speed = in_cells(length(motion, dim=2).squeeze(2), cell) if self.trust is not None else None
        learning = needs_gradient(self, x, y, motion, sigma) or torch.compiler.is_compiling()  # graphs have no memory
        own = in_place and not learning and x.is_contiguous() and not share_memory(x, y)
        z = degradation.data_step(x, y, alphas[0], out=x if own else None).contiguous()
        del x
        if stages is not None:
            stages["r_0"] = z.clone()
        if learning and self.rounds and self._goes_back_as_one(z, y, motion, alphas, degradation):
            assert isinstance(degradation, Degradation)
            how, sizes = Averaging(STEPS, MISMATCH, REACH, FLAT), (alphas[1:], momenta[1:], flattening[1:])
            if self.trust is None or self.detail is None or speed is None:
                return fixed_rounds(z, y, motion, *sizes, degradation, how)
            layers = pack_trust(self.trust.in_units()), self.detail.of_rounds(slice(1, None))
            return learned_rounds(z, y, motion, speed, *sizes, *layers, degradation, how, bounds=TRUSTED, level=SUPPORT)
        previous = z.clone() if learning else empty_volume(z, *z.shape).copy_(z)
        mean = None if learning or self.trust is not None else empty_volume(z, *z.shape)
        for k in range(1, self.rounds + 1):
            if learning:
                ahead = torch.lerp(previous, z, 1 + momenta[k])
                mean, support = self._average(ahead, motion, speed, cell)
                previous, z = z, degradation.data_step(self._settle(mean, support, k, flattening[k]), y, alphas[k])
            else:  # the same, in memory that is there: fresh memory costs more than the sums
                settled = self._in_place(
                    previous.lerp_(z, 1 + float(momenta[k])), mean, motion, speed, cell, k, flattening[k]
                )
                previous, z = z, degradation.data_step(settled, y, alphas[k], out=settled)
                del settled
        return z

    def _goes_back_as_one(self, z: Tensor, y: Tensor, motion: Tensor, alphas: Tensor, degradation: Operator) -> bool:
        """Whether the rounds have a derivative of their own.

        Without learned parts it is that of the frames and of what was observed alone; with them, all but the motion's.
        """
        if motion.requires_grad or torch.compiler.is_compiling() or not isinstance(degradation, Degradation):
            return False
        if self.trust is None:
            return not alphas.requires_grad and backend(z.device).name != "reference"
        single = all(v.dtype == torch.float32 for v in (z, y, motion, *self.parameters()))
        return single and backend(z.device).name.startswith("cpu")

    def _in_place(
        self,
        a: Tensor,
        mean: Tensor | None,
        motion: Tensor,
        speed: Tensor | None,
        cell: tuple[int, int],
        k: int,
        step: Tensor,
    ) -> Tensor:
        """What round k makes of a, in a's memory: with z, three volumes at a time are all that there is room for."""
        if mean is not None:
            motion_mean(a, motion, cell=cell, steps=STEPS, mismatch=MISMATCH, reach=REACH, out=mean)
            return flatten(mean, step, flat=FLAT, out=a)
        mean, support = self._average(a, motion, speed, cell)
        return self._settle(mean, support, k, step, out=a)

    def _average(self, a: Tensor, motion: Tensor, speed: Tensor | None, cell: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Every frame of a [b, c, T, H, W] averaged with its neighbours, moved to it.

        And the sum of their weights [b, T, H, W].

        A neighbour at a distance of d frames has the weight exp(-d^2 / (2 REACH^2)) times exp(-e / MISMATCH^2), e its
        mean squared difference in a cell of `cell` pixels: it counts for less where the motion is wrong or something is
        covered.

        Args:
            speed: length of the motion [b, T, h, w], for learned trust.
        """
        if self.trust is None or speed is None:
            return motion_average(a, motion, cell=cell, steps=STEPS, mismatch=MISMATCH, reach=REACH)
        error = motion_mismatch(a, motion, cell=cell, steps=STEPS)
        far = error.new_tensor(STEPS)[:, None, None, None]
        log_weight = error / -(MISMATCH**2) - far**2 / (2 * REACH**2) + self.trust(error, texture(a, cell), speed)
        return motion_blend(a, motion, log_weight.exp_(), steps=STEPS)

    def _settle(self, mean: Tensor, support: Tensor, k: int, step: Tensor, out: Tensor | None = None) -> Tensor:
        """What the average leaves open, in round k (from 1): flatten by `step`, and put learned detail back."""
        settled = flatten(mean, step, flat=FLAT, out=out)
        if self.detail is not None:
            for part in parts(mean.shape[2], len(mean) * mean.shape[3] * mean.shape[4] // 16):
                settled = add_cells(settled, self.detail(mean, support, part, k), frames=part)
        return settled


def raised_motion(motion: Tensor, scale: tuple[int, int, int]) -> Tensor:
    """A motion [b, T, 2, h, w] in LR pixels on the HR grid."""
    size = (motion.shape[3] * scale[1], motion.shape[4] * scale[2])
    return resize_flow(motion.flatten(0, 1), size).unflatten(0, motion.shape[:2])
