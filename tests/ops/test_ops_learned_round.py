"""A round's two small networks inside of compiled passes: what torch's convolutions make of the same cells."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import (
    flatten_reference,
    flatten_with_detail,
    motion_blend_reference,
    motion_mismatch_reference,
    to_cells,
    trusted_average,
)
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import CASES, IDS, LEVELS, SCALES, STEPS, inputs
from tests.ops.test_ops_motion_pass import needs_extension

# Strips of columns that networks look across, bands of rows likewise, frames of few cells
MORE = [((1, 3, 2, 23, 1100), (4, 4), True), ((1, 3, 1, 300, 20), (4, 4), False), ((1, 3, 3, 8, 12), (4, 4), True)]
ALL = [*CASES, *MORE]
NAMES = [*IDS, *("x".join(map(str, shape)) for shape, _, _ in MORE)]
PASSES = [level for level in LEVELS if level != "serial"]
BOUNDS = (-1.5, 0.6)
SEEN = 4  # by the network that changes weights
FLAT, STEP, LEVEL = 0.02, 0.03, 2.0


def layers(*sizes: tuple[int, ...]) -> list[Tensor]:
    """Weight and bias of convolutions, in turn."""
    generator = torch.Generator().manual_seed(5)
    drawn = []
    for size in sizes:
        scale = 1.5 / (size[1] * size[2] * size[3]) ** 0.5
        drawn += [
            scale * torch.randn(size, generator=generator),
            0.3 * torch.randn(size[0], generator=generator),
        ]
    return drawn


def of_trust(hidden: int) -> list[Tensor]:
    return layers((hidden, SEEN, 3, 3), (hidden, hidden, 3, 3), (1, hidden, 1, 1))


def of_detail(channels: int, hidden: int) -> list[Tensor]:
    return layers((hidden, 16 * channels + 1, 3, 3), (16 * channels, hidden, 3, 3))


def clip(case) -> tuple[Tensor, Tensor, Tensor]:
    """a, motion and speed."""
    a, motion, cells = inputs(*case, dtype=torch.float32)
    return a, motion, cells[:, 0].contiguous()


def expected_average(case, network: list[Tensor]) -> tuple[Tensor, Tensor]:
    a, motion, speed = (v.double() for v in clip(case))
    first, first_bias, second, second_bias, last, last_bias = (v.double() for v in network)
    error = motion_mismatch_reference(a, motion, cell=case[1], steps=STEPS)
    grey = a.mean(dim=1)
    texture = (F.avg_pool2d(grey.square(), case[1]) - F.avg_pool2d(grey, case[1]).square() + 1e-6).sqrt()
    far = error.new_tensor(STEPS)[:, None, None, None]
    seen = [(error + 1e-8).sqrt(), texture[:, None].expand_as(error), far.abs() * speed[:, None]]
    stacked = torch.stack([*seen, far.abs().expand_as(error)], dim=3).flatten(0, 2)
    hidden = F.conv2d(F.conv2d(stacked, first, first_bias, padding=1).relu(), second, second_bias, padding=1).relu()
    trust = F.conv2d(hidden, last, last_bias).view(error.shape).clamp(*BOUNDS)
    log_weight = trust - error / SCALES["mismatch"] ** 2 - far**2 / (2 * SCALES["reach"] ** 2)
    return motion_blend_reference(a, motion, log_weight.exp(), steps=STEPS)


def average(level: str | None, case, network: list[Tensor]) -> tuple[Tensor, Tensor]:
    a, motion, speed = clip(case)
    if level is None:
        return trusted_average(a, motion, speed, network, cell=case[1], steps=STEPS, **SCALES, bounds=BOUNDS)
    numbers = (list(case[1]), list(STEPS), *SCALES.values(), *BOUNDS)
    return torch.ops.davsr.trusted_average(a, motion, speed, *network, *numbers, level)


@needs_extension
@pytest.mark.parametrize("case", ALL, ids=NAMES)
@pytest.mark.parametrize("level", [None, *PASSES])
@pytest.mark.parametrize("hidden", [8, 5, 17])
def test_the_average_is_that_of_weights_which_the_network_changes(level, case, hidden):
    network = of_trust(hidden)
    for ours, exact in zip(average(level, case, network), expected_average(case, network), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=3e-6)


@needs_extension
def test_the_network_has_a_say():
    case = CASES[1]
    silent = [*of_trust(8)[:4], torch.zeros(1, 8, 1, 1), torch.zeros(1)]
    assert (average(None, case, of_trust(8))[1] - average(None, case, silent)[1]).abs().max() > 0.05


def detailed(case, channels: int) -> tuple[Tensor, Tensor]:
    mean = clip(case)[0]
    b, _, T, H, W = mean.shape
    return mean, 1 + 3 * torch.rand(b, T, H, W, generator=torch.Generator().manual_seed(2))


def expected_detail(mean: Tensor, support: Tensor, network: list[Tensor]) -> Tensor:
    mean, support = mean.double(), support.double()
    first, first_bias, last, last_bias = (v.double() for v in network)
    b, c, T, H, W = mean.shape
    cells = to_cells(mean, support, frames=slice(None), level=LEVEL).permute(0, 3, 1, 2)
    made = F.conv2d(F.conv2d(cells, first, first_bias, padding=1).relu(), last, last_bias, padding=1)
    pixels = F.pixel_shuffle(made, 4)[..., :H, :W].view(b, T, c, H, W).transpose(1, 2)
    return flatten_reference(mean, STEP, flat=FLAT) + pixels


def with_detail(level: str | None, mean: Tensor, support: Tensor, network: list[Tensor], out: Tensor) -> Tensor:
    step = torch.tensor(STEP)
    if level is None:
        return flatten_with_detail(mean, support, step, network, flat=FLAT, level=LEVEL, out=out)
    torch.ops.davsr.flatten_with_detail_(out, mean, support, step, *network, FLAT, LEVEL, level)
    return out


@needs_extension
@pytest.mark.parametrize("case", ALL, ids=NAMES)
@pytest.mark.parametrize("level", [None, *PASSES])
@pytest.mark.parametrize("hidden", [16, 3])
def test_detail_is_what_the_network_makes_of_cells(level, case, hidden):
    mean, support = detailed(case, hidden)
    network = of_detail(mean.shape[1], hidden)
    kept = mean.clone()
    ours = with_detail(level, mean, support, network, torch.full_like(mean, float("nan")))
    torch.testing.assert_close(ours.double(), expected_detail(mean, support, network), rtol=1e-5, atol=1e-5)
    assert torch.equal(mean, kept)


@needs_extension
def test_any_strides_are_taken():
    case = ALL[1]
    mean, support = detailed(case, 4)
    network = of_detail(3, 4)
    spread = torch.zeros(*mean.shape[:-1], 2 * mean.shape[-1])[..., ::2]
    apart = [v.transpose(-1, -2).contiguous().transpose(-1, -2) for v in (mean, support)]
    made = with_detail(None, *apart, network, spread)
    assert made is spread and torch.equal(made, with_detail(None, mean, support, network, torch.empty_like(mean)))


@needs_extension
def test_threads_change_nothing():
    case, (trust, detail) = ALL[-3], (of_trust(8), of_detail(3, 16))
    mean, support = detailed(case, 16)
    assert_threads_change_nothing(
        lambda: [*average(None, case, trust), with_detail(None, mean, support, detail, torch.empty_like(mean))]
    )


@needs_extension
def test_opcheck():
    case = CASES[2]
    a, motion, speed = clip(case)
    numbers = (list(case[1]), list(STEPS), *SCALES.values(), *BOUNDS)
    torch.library.opcheck(torch.ops.davsr.trusted_average.default, (a, motion, speed, *of_trust(3), *numbers))
    mean, support = detailed(case, 3)
    given = (torch.empty_like(mean), mean, support, torch.tensor(STEP), *of_detail(1, 3), FLAT, LEVEL)
    torch.library.opcheck(torch.ops.davsr.flatten_with_detail_.default, given)


@needs_extension
def test_errors():
    case = CASES[1]
    a, motion, speed = clip(case)
    network = of_trust(8)

    def run(a: Tensor, speed: Tensor, network: list[Tensor], bounds: tuple[float, float] = BOUNDS) -> None:
        trusted_average(a, motion.to(a.dtype), speed, network, cell=(4, 4), steps=STEPS, **SCALES, bounds=bounds)

    with pytest.raises(ValueError, match="trusted_average: speed must be"):
        run(a, speed[..., 1:], network)
    with pytest.raises(ValueError, match="trusted_average: a must be float32"):
        run(a.double(), speed, network)
    with pytest.raises(ValueError, match="trusted_average: first must be"):
        run(a, speed, [network[0][:, :3], *network[1:]])
    with pytest.raises(ValueError, match="trusted_average: second must be"):
        run(a, speed, [*network[:2], network[2][:, 1:], *network[3:]])
    with pytest.raises(ValueError, match="low must not be above high"):
        run(a, speed, network, (1.0, 0.0))
    mean, support = detailed(case, 8)
    detail = of_detail(3, 8)
    with pytest.raises(ValueError, match="support must be"):
        with_detail(None, mean, support[..., 1:], detail, torch.empty_like(mean))
    with pytest.raises(ValueError, match="flatten_with_detail: last must be"):
        with_detail(None, mean, support, [*detail[:2], detail[2][1:], detail[3]], torch.empty_like(mean))
    with pytest.raises(ValueError, match="flatten_with_detail: mean must be"):
        with_detail(None, mean.double(), support.double(), detail, torch.empty_like(mean).double())
    with pytest.raises(RuntimeError, match=r"overlap|memory"):
        with_detail(None, mean, support, detail, mean)
