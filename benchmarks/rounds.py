"""The rounds along the motion.

Ours against their composition of PyTorch's operations, and against what the machine can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import OURS, Case, Run
from davsr.models.rounds import FLAT, MISMATCH, REACH, STEPS, MotionPrior
from davsr.ops import conv3x3_reference, flatten_reference, sampling_grid
from davsr.physics.degradation import Degradation
from davsr.runtime import keep_freed_memory

SCALE = (5, 4, 4)
ROUNDS = 12  # those of the shipped model
CHANNELS = 8  # of the learned parts that the first model had
PEER = "the same rounds of grid_sample, avg_pool2d and interpolate, four frames at a time; torch's convolutions"
_PIXELS = 2**18  # of one pass of the peer


class PeerRounds(nn.Module):
    """`MotionPrior` as a composition of PyTorch's operations, with the same weights."""

    def __init__(self, prior: MotionPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, y: Tensor, motion: Tensor, operator: Degradation) -> Tensor:
        alphas, momenta, flattening = self.prior.log_steps.exp().unbind(dim=1)
        alphas = (alphas * operator.largest_eigenvalue())[:, None].expand(-1, len(x))
        still = sampling_grid(motion.new_zeros(1, *motion.shape[2:]))
        moves = (sampling_grid(motion.flatten(0, 1)) - still).unflatten(0, motion.shape[:2])
        speed = F.avg_pool2d(motion.norm(dim=2), SCALE[1:])
        learning = torch.is_grad_enabled()
        z = operator.data_step(x, y, alphas[0]).contiguous()
        previous, settled = z.clone(), None if learning else torch.empty_like(z)
        for k in range(1, self.prior.rounds + 1):
            if learning:
                ahead = z + momenta[k] * (z - previous)
                into = self.settle(ahead, still, moves, speed, k, flattening[k], None)
                previous, z = z, operator.data_step(into, y, alphas[k])
            else:
                ahead = previous.mul_(-momenta[k]).add_(z, alpha=1 + float(momenta[k]))
                into = self.settle(ahead, still, moves, speed, k, flattening[k], settled)
                previous, z, settled = z, operator.data_step(into, y, alphas[k], out=into), ahead
        return z

    def settle(
        self, x: Tensor, still: Tensor, moves: Tensor, speed: Tensor, k: int, step: Tensor, out: Tensor | None
    ) -> Tensor:
        b, _, T, H, W = x.shape
        frames = x.transpose(1, 2)
        n = T if out is None else max(1, _PIXELS // (b * H * W))
        results = []
        for first in range(0, T, n):
            last = min(first + n, T)
            spans = {s: (max(first, -s), min(last, T - s)) for s in STEPS}
            spans = {s: (low, high) for s, (low, high) in spans.items() if low < high}
            total, weights = frames[:, first:last].clone(), frames.new_ones(b, last - first, 1, H, W)
            neighbours, errors = [], []
            for s, (low, high) in spans.items():
                grid = torch.add(still, moves[:, low:high].flatten(0, 1), alpha=s)
                neighbour = F.grid_sample(
                    frames[:, low + s : high + s].flatten(0, 1), grid, padding_mode="border", align_corners=False
                )
                difference = neighbour - frames[:, low:high].flatten(0, 1)
                errors.append(F.avg_pool2d(difference.square().mean(dim=1, keepdim=True), SCALE[1:]))
                neighbours.append(neighbour)
            error = torch.cat(errors)
            far = torch.cat([e.new_full((len(e), 1, 1, 1), abs(s)) for s, e in zip(spans, errors, strict=True)])
            log_weight = error / -(MISMATCH**2) - far**2 / (2 * REACH**2)
            if self.prior.trust is not None:
                rough = texture(frames[:, first:last].flatten(0, 1)).unflatten(0, (b, -1))
                beside = [rough[:, low - first : high - first].flatten(0, 1) for low, high in spans.values()]
                moved = [speed[:, low:high].flatten(0, 1)[:, None] for low, high in spans.values()]
                log_weight = log_weight + self.trust(error, torch.cat(beside), far * torch.cat(moved), far)
            weight = F.interpolate(log_weight.exp(), size=(H, W), mode="bilinear", align_corners=False)
            own_weights = weight.split([len(e) for e in errors])
            for (low, high), neighbour, own in zip(spans.values(), neighbours, own_weights, strict=True):
                part = slice(low - first, high - first)
                total[:, part] += (neighbour * own).unflatten(0, (b, -1))
                weights[:, part] += own.unflatten(0, (b, -1))
            mean = (total / weights).flatten(0, 1)
            result = flatten_reference(mean[:, :, None], step, flat=FLAT)[:, :, 0]
            if self.prior.detail is not None:
                result = result + self.detail(mean, weights.flatten(0, 1), k)
            result = result.unflatten(0, (b, -1)).transpose(1, 2)
            if out is None:
                results.append(result)
            else:
                out[:, :, first:last] = result
        return torch.cat(results, dim=2) if out is None else out

    def trust(self, error: Tensor, texture: Tensor, far: Tensor, distance: Tensor) -> Tensor:
        assert self.prior.trust is not None
        between = (distance / REACH).expand_as(error)
        hidden = torch.cat([4 * (error + 1e-8).sqrt(), 4 * texture, far / 50, between], dim=1)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        *others, weight, bias = self.prior.trust.layers.parameters()
        for w, b in zip(others[::2], others[1::2], strict=True):
            hidden = conv3x3_reference(hidden, w, b, slope=0.0)
        return 0.3 * F.conv2d(hidden, weight, bias).clamp(-24, 6)

    def detail(self, mean: Tensor, weights: Tensor, k: int) -> Tensor:
        assert self.prior.detail is not None
        first, first_bias, last, last_bias = self.prior.detail.layers.parameters()
        cells = F.pixel_unshuffle(mean, 4)
        inputs = torch.cat([4 * (cells - cells.mean(dim=1, keepdim=True)), F.avg_pool2d(weights, 4) - 3], dim=1)
        hidden = conv3x3_reference(inputs.contiguous(memory_format=torch.channels_last), first, first_bias, slope=0.0)
        return 0.01 * self.prior.detail.strength[k] * F.pixel_shuffle(F.conv2d(hidden, last, last_bias, padding=1), 4)


def texture(x: Tensor) -> Tensor:
    grey = x.mean(dim=1, keepdim=True)
    square = F.avg_pool2d(grey.square(), SCALE[1:]) - F.avg_pool2d(grey, SCALE[1:]).square()
    return (square.clamp(min=0) + 1e-6).sqrt()


def rounds_cases(quick: bool, passes: dict[str, Callable[..., Run]]) -> list[Case]:
    """The rounds as every model that ships has them, and with learned parts.

    Backward on a smaller clip, as the peer keeps 2 GB a round.
    """
    whole, small_clip = ((1, 8, 8), (1, 8, 8)) if quick else ((9, 64, 64), (2, 32, 32))

    def build(
        wrap: Callable[..., Run],
        channels: int,
        lr: tuple[int, int, int],
        contestant: str,
        device: torch.device,
        tiny: bool,
    ) -> Run:
        keep_freed_memory()  # as every command does; the peer, in the same process, has it too
        t, h, w = (1, 8, 8) if tiny else lr
        prior = seeded_prior(channels).to(device)
        operator = Degradation(SCALE)
        x, y, motion = (v.to(device) for v in moving_clip(t, h, w))
        run: nn.Module = prior if contestant == OURS else PeerRounds(prior)
        learned = {"also": tuple(prior.parameters())} if channels and wrap is passes["forward + backward"] else {}
        return wrap(lambda x, y: run(x, y, motion, operator), x, y, **learned)

    return [
        Case(
            "rounds",
            f"{ROUNDS} rounds, {kind}, {name}",
            f"{'x'.join(map(str, lr))} -> {5 * lr[0]}x{4 * lr[1]}x{4 * lr[2]}",
            lambda contestant, device, tiny, wrap=wrap, channels=channels, lr=lr: build(
                wrap, channels, lr, contestant, device, tiny
            ),
            PEER,
            target=None if quick else target,
            tolerance=1e-4 if "backward" in name else 3e-5,
            repeats=5,
        )
        for kind, channels in (("learned", CHANNELS), ("training-free", 0))
        for (name, wrap), lr, target in zip(passes.items(), (whole, small_clip), (5.0, 4.0), strict=True)
    ]


def seeded_prior(channels: int) -> MotionPrior:
    """Rounds whose learned parts do something."""
    prior = MotionPrior(ROUNDS, channels)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for module in (prior.trust, prior.detail) if module for p in module.layers.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return prior.eval()


def moving_clip(t: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """An estimate, an observation and a motion that changes slowly over the frame, as flows do."""
    generator = torch.Generator().manual_seed(1)
    s_t, s_h, s_w = SCALE
    size = (s_t * t, s_h * h, s_w * w)
    y = F.interpolate(
        torch.rand(1, 3, t, max(h // 4, 1), max(w // 4, 1), generator=generator), (t, h, w), mode="trilinear"
    )
    x = F.interpolate(y, size, mode="trilinear")
    motion = F.interpolate(3 * torch.randn(1, 2, t + 1, 3, 3, generator=generator), size, mode="trilinear")
    return x, y, motion.transpose(1, 2).contiguous()


def floor(frames: int, height: int, width: int) -> dict[str, float]:
    """Seconds that one learned round needs at least.

    Its numbers read and written once at the speed of a copy, its arithmetic at that of a matrix product, both measured
    here, one after the other.

    Numbers a pixel: the average 3 + 2 + 3, momentum 3 + 3 + 3, flattening 3 + 3, detail 3 + 3, data step 3 + 3; cells
    beside. Operations a pixel: the average 150, flattening 40, data step 2 (16 + 5) 3 2 / 4, the small networks'
    products a quarter (Winograd) of 2 9 (49 16 + 16 48) / 16 and, for each of four neighbours, of 2 9 (4 8 + 8 8) / 16.
    """
    pixels = frames * height * width
    source = torch.ones(2**25)
    target = torch.empty_like(source)
    matrix = torch.rand(1536, 1536)
    copies, products = best(lambda: target.copy_(source)), best(lambda: matrix @ matrix)
    bytes_a_second, operations_a_second = 8 * source.numel() / copies, 2 * len(matrix) ** 3 / products
    numbers = 8 + 9 + 6 + 6 + 6
    operations = 150 + 40 + 63 + 2 * 9 * (49 * 16 + 16 * 48 + 4 * (4 * 8 + 8 * 8)) / 16 / 4
    return {"memory": 4 * numbers * pixels / bytes_a_second, "arithmetic": operations * pixels / operations_a_second}


def best(run: Callable[[], Tensor], turns: int = 7) -> float:
    times = []
    for _ in range(turns):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
