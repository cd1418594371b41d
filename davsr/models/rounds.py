"""Restoration along the motion: data steps in alternation with averages over trajectories; with few weights, or none.

A sharp frame is what its neighbours show, moved. Exposure hides that: the data step alone cannot tell the few frames apart that
one LR frame sums. Asking neighbours to agree along the motion does, and gathers the detail that each of them samples elsewhere
(multi-frame super-resolution: Elad and Feuer, 1997; Liu and Sun, 2011). What they leave open, total variation settles: among the
frames that explain the data, flat ones with sharp edges (Rudin, Osher and Fatemi, 1992).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.layers import weights_channels_last
from davsr.models.precision import like_weights, needs_gradient, working_dtype
from davsr.models.warp import sample, sampling_grid
from davsr.physics.operator import Operator

# Found by hand on cuts of the film and of the validation clips; results change slowly around them.
ALPHA = 0.08  # of the data step, times the largest eigenvalue of A A^T
MOMENTUM = 0.9
REACH = 2  # frames to each side that take part in an average
MISMATCH = 0.11  # root mean square difference at which a neighbour, moved, counts e times less
STEPS = tuple(step for step in range(-REACH, REACH + 1) if step)
FLATTENING = 0.005  # step down the total variation
FLAT = 0.02  # gradient up to which total variation counts quadratically
NOISE = 0.1  # the noise at which the data step takes a value's own error for as large as the noise's
_PIXELS = 2**18  # of one pass


class MotionPrior(nn.Module):
    """`rounds` of: go on in the direction of the last change, agree along the motion, flatten, data step.

    Without weights it goes by constants. With `channels` it learns, from them on: two small networks at a quarter of the size,
    one for the say of a neighbour, one for detail that is put back, and how far each round goes.

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
        x: Tensor,
        y: Tensor,
        motion: Tensor,
        degradation: Operator,
        sigma: Tensor | None = None,
        stages: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Refine an estimate.

        Args:
            x: estimate [b, c, T, H, W].
            y: observed video [b, c, t, h, w].
            motion: [b, T, 2, H, W], HR pixels per HR frame.
            sigma: noise of y [b]; None: none.
            stages: takes what the first data step made, as r_0.

        Returns:
            The refined estimate, like x.
        """
        with torch.autocast(x.device.type, enabled=False):
            dtype = working_dtype(x, y)
            return self._refine(x.to(dtype), y.to(dtype), motion.to(dtype), degradation, sigma, stages)

    def _refine(
        self,
        x: Tensor,
        y: Tensor,
        motion: Tensor,
        degradation: Operator,
        sigma: Tensor | None,
        stages: dict[str, Tensor] | None,
    ) -> Tensor:
        alphas, momenta, flattening = self.log_steps.to(x).exp().unbind(dim=1)
        alphas = alphas[:, None] * degradation.largest_eigenvalue()
        alphas = alphas + (0 if sigma is None else (sigma / NOISE) ** 2)  # [rounds + 1, b]
        alphas = alphas.expand(-1, len(x))
        still = sampling_grid(motion.new_zeros(1, *motion.shape[2:]))
        moves = (sampling_grid(motion.flatten(0, 1)) - still).unflatten(0, motion.shape[:2])
        cell = degradation.scale[1:]
        speed = F.avg_pool2d(motion.norm(dim=2), cell) if self.trust is not None else None
        z = degradation.data_step(x, y, alphas[0]).contiguous()
        if stages is not None:
            stages["r_0"] = z.clone()
        learning = needs_gradient(self, x, y, motion, sigma)
        previous, agreed = z.clone(), None if learning else torch.empty_like(z)
        for k in range(1, self.rounds + 1):
            if learning:
                ahead = z + momenta[k] * (z - previous)
                into = self._agree(ahead, still, moves, speed, cell, k, flattening[k], None)
                previous, z = z, degradation.data_step(into, y, alphas[k])
            else:  # three volumes take turns: fresh memory costs more than the sums
                momentum = float(momenta[k])
                ahead = previous.mul_(-momentum).add_(z, alpha=1 + momentum)
                into = self._agree(ahead, still, moves, speed, cell, k, flattening[k], agreed)
                previous, z, agreed = z, degradation.data_step(into, y, alphas[k], out=into), ahead
        return z

    def _agree(
        self,
        x: Tensor,
        still: Tensor,
        moves: Tensor,
        speed: Tensor | None,
        cell: tuple[int, int],
        k: int,
        flattening: Tensor,
        out: Tensor | None,
    ) -> Tensor:
        """Every frame of x [b, c, T, H, W] averaged with its neighbours, moved to it, then flattened, detail put back.

        A neighbour at a distance of d frames has the weight exp(-d^2 / (2 REACH^2)) times exp(-e / MISMATCH^2), e its mean
        squared difference in a cell of `cell` pixels: it loses its say where the motion is wrong or something is covered.

        Args:
            still, moves: a neighbour `step` frames away is sampled at still + step * moves (grids as of `sampling_grid`,
                [1, H, W, 2] and [b, T, H, W, 2]).
            speed: length of the motion [b, T, h, w], for learned trust.
            k: the round, from 1.
            out: where to put the result, like x; None: fresh memory, with gradient.
        """
        b, _, T, H, W = x.shape
        frames = x.transpose(1, 2)
        n = T if out is None else max(1, _PIXELS // (b * H * W))
        parts = []
        for first in range(0, T, n):
            last = min(first + n, T)
            # Frames first .. last that have the neighbour `step` away
            spans = {step: (max(first, -step), min(last, T - step)) for step in STEPS}
            spans = {step: (low, high) for step, (low, high) in spans.items() if low < high}
            total, weights = frames[:, first:last].clone(), frames.new_ones(b, last - first, 1, H, W)
            if spans:  # a clip of one frame has no neighbours
                neighbours, errors = [], []
                for step, (low, high) in spans.items():
                    neighbour = sample(
                        frames[:, low + step : high + step].flatten(0, 1),
                        torch.add(still, moves[:, low:high].flatten(0, 1), alpha=step),
                        padding="border",
                    )
                    difference = neighbour - frames[:, low:high].flatten(0, 1)
                    errors.append(F.avg_pool2d(difference.square().mean(dim=1, keepdim=True), cell))
                    neighbours.append(neighbour)
                error = torch.cat(errors)
                counts = [len(e) for e in errors]
                distance = torch.cat(
                    [e.new_full((len(e), 1, 1, 1), abs(s)) for s, e in zip(spans, errors, strict=True)]
                )
                say = error / -(MISMATCH**2) - distance**2 / (2 * REACH**2)
                if self.trust is not None and speed is not None:
                    rough = texture(frames[:, first:last].flatten(0, 1), cell).unflatten(0, (b, -1))
                    beside = [rough[:, low - first : high - first].flatten(0, 1) for low, high in spans.values()]
                    far = [speed[:, low:high].flatten(0, 1)[:, None] for low, high in spans.values()]
                    say = say + self.trust(error, torch.cat(beside), distance * torch.cat(far), distance)
                weight = F.interpolate(say.exp(), size=(H, W), mode="bilinear", align_corners=False)
                for (low, high), neighbour, own in zip(spans.values(), neighbours, weight.split(counts), strict=True):
                    part = slice(low - first, high - first)
                    total[:, part] += (neighbour * own).unflatten(0, (b, -1))
                    weights[:, part] += own.unflatten(0, (b, -1))
            mean = (total / weights).flatten(0, 1)
            result = flatten(mean, flattening)
            if self.detail is not None:
                result = result + self.detail(mean, weights.flatten(0, 1), k)
            result = result.unflatten(0, (b, -1)).transpose(1, 2)
            if out is None:
                parts.append(result)
            else:
                out[:, :, first:last] = result
        return torch.cat(parts, dim=2) if out is None else out


class Trust(nn.Module):
    """How much more or less say a neighbour has than its mismatch alone would give it; starts at no difference."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 1, 1),
        )
        start_at_zero(self.layers[-1])
        weights_channels_last(self)

    def forward(self, error: Tensor, texture: Tensor, far: Tensor, distance: Tensor) -> Tensor:
        """Of every cell [n, 1, h, w]: mean squared difference, texture, pixels of motion; frames between -> log of a factor."""
        between = (distance / REACH).expand_as(error)
        features = torch.cat([4 * (error + 1e-8).sqrt(), 4 * texture, far / 50, between], dim=1)
        hidden: Tensor = self.layers[:-1](like_weights(features, self).contiguous(memory_format=torch.channels_last))
        weight, bias = self.layers[-1].parameters()  # a 1x1 convolution to one channel: ten times as fast as a product
        factor = F.linear(hidden.permute(0, 2, 3, 1), weight.flatten(1), bias)
        return 0.3 * factor.to(error.dtype).view(error.shape).clamp(-24, 6)


class Detail(nn.Module):
    """What the average along the motion lacks, from cells of 4x4 pixels; starts at nothing."""

    def __init__(self, channels: int, rounds: int, colours: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(16 * colours + 1, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 16 * colours, 3, padding=1),
        )
        self.strength = nn.Parameter(torch.ones(rounds + 1))
        start_at_zero(self.layers[-1])
        weights_channels_last(self)

    def forward(self, mean: Tensor, weights: Tensor, k: int) -> Tensor:
        """mean [n, c, H, W], the sum of the neighbours' weights [n, 1, H, W], round k -> [n, c, H, W]."""
        n, c, H, W = mean.shape
        support = F.avg_pool2d(weights, 4, ceil_mode=True)
        if H % 4 or W % 4:
            mean = F.pad(mean, (0, -W % 4, 0, -H % 4), mode="replicate")
        h, w = support.shape[2:]
        cells = mean.view(n, c, h, 4, w, 4).permute(0, 2, 4, 1, 3, 5).reshape(n, h, w, 16 * c)
        level = cells.mean(dim=3, keepdim=True)
        inputs = torch.cat([4 * (cells - level), support.view(n, h, w, 1) - 3], dim=3)
        # In units of a few levels: Adam's first steps, as large in every weight, would else add more than there is to gain.
        layers = self.layers(like_weights(inputs, self.layers).permute(0, 3, 1, 2)).to(mean.dtype)
        detail = 0.01 * self.strength[k].to(mean.dtype) * layers.permute(0, 2, 3, 1)
        pixels = detail.reshape(n, h, w, c, 4, 4).permute(0, 3, 1, 4, 2, 5)
        return pixels.reshape(n, c, 4 * h, 4 * w)[..., :H, :W]


def start_at_zero(layer: nn.Module) -> None:
    """Before training, a layer that adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def texture(x: Tensor, cell: tuple[int, int]) -> Tensor:
    """Standard deviation of the brightness of x [n, c, H, W] in cells: [n, 1, H / cell, W / cell]."""
    grey = x.mean(dim=1, keepdim=True)
    square = F.avg_pool2d(grey.square(), cell) - F.avg_pool2d(grey, cell).square()
    return (square.clamp(min=0) + 1e-6).sqrt()


def flatten(x: Tensor, step: Tensor | float) -> Tensor:
    """A step down the total variation of every image of x [n, c, H, W], colours coupled; smooth below gradients of `FLAT`."""
    dx, dy = torch.diff(x, dim=3), torch.diff(x, dim=2)
    square = F.pad(dx.square().sum(dim=1, keepdim=True), (0, 1)) + F.pad(
        dy.square().sum(dim=1, keepdim=True), (0, 0, 0, 1)
    )
    weight = (square + FLAT**2).rsqrt() * step
    dx = dx * weight[..., :-1]
    dy = dy * weight[..., :-1, :]
    x = x.clone()
    x[..., :-1] += dx
    x[..., 1:] -= dx
    x[..., :-1, :] += dy
    x[..., 1:, :] -= dy
    return x
