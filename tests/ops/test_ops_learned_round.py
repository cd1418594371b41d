"""learned_round: motion_round with two small networks in it, beside torch's convolutions of the same cells."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import (
    RoundNetworks,
    flatten_reference,
    learned_round,
    motion_blend_reference,
    motion_mismatch_reference,
    pack_detail,
    pack_trust,
    to_cells,
)
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import LEVELS, SCALES, STEPS
from tests.ops.test_ops_motion_pass import needs_extension
from tests.ops.test_ops_motion_round import CASES, IDS, given, in_a_ring

# Strips of columns that networks look across, parts of a frame likewise, frames of few cells, odd numbers of cells
MORE = [
    ((1, 3, 2, 23, 1100), (4, 4), False),
    ((1, 3, 2, 276, 800), (4, 4), True),
    ((1, 3, 1, 300, 20), (4, 4), True),
    ((1, 3, 3, 8, 12), (4, 4), True),
    ((2, 3, 3, 5, 4), (4, 4), False),
]
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


def speed_of(case) -> Tensor:
    (b, _, T, H, W), (high, wide), _ = case
    return torch.rand(b, T, H // high, W // wide, generator=torch.Generator().manual_seed(2))


def expected(case, trust: list[Tensor], detail: list[Tensor]) -> Tensor:
    a, motion, _ = given(case)
    mean, support = averaged(a, motion, speed_of(case).double(), case[1], [v.double() for v in trust])
    return flatten_reference(mean, STEP, flat=FLAT) + found(mean, support, [v.double() for v in detail])


def averaged(
    a: Tensor, motion: Tensor, speed: Tensor, cell: tuple[int, int], network: list[Tensor]
) -> tuple[Tensor, Tensor]:
    first, first_bias, second, second_bias, last, last_bias = network
    error = motion_mismatch_reference(a, motion, cell=cell, steps=STEPS)
    grey = a.mean(dim=1)
    texture = (F.avg_pool2d(grey.square(), cell) - F.avg_pool2d(grey, cell).square() + 1e-6).sqrt()
    far = error.new_tensor(STEPS)[:, None, None, None]
    seen = [(error + 1e-8).sqrt(), texture[:, None].expand_as(error), far.abs() * speed[:, None]]
    stacked = torch.stack([*seen, far.abs().expand_as(error)], dim=3).flatten(0, 2)
    hidden = F.conv2d(F.conv2d(stacked, first, first_bias, padding=1).relu(), second, second_bias, padding=1).relu()
    trust = F.conv2d(hidden, last, last_bias).view(error.shape).clamp(*BOUNDS)
    log_weight = trust - error / SCALES["mismatch"] ** 2 - far**2 / (2 * SCALES["reach"] ** 2)
    return motion_blend_reference(a, motion, log_weight.exp(), steps=STEPS)


def found(mean: Tensor, support: Tensor, network: list[Tensor]) -> Tensor:
    first, first_bias, last, last_bias = network
    b, c, T, H, W = mean.shape
    cells = to_cells(mean, support, frames=slice(None), level=LEVEL).permute(0, 3, 1, 2)
    made = F.conv2d(F.conv2d(cells, first, first_bias, padding=1).relu(), last, last_bias, padding=1)
    return F.pixel_shuffle(made, 4)[..., :H, :W].view(b, T, c, H, W).transpose(1, 2)


def packed(case, hidden: tuple[int, int]) -> RoundNetworks:
    return RoundNetworks(pack_trust(of_trust(hidden[0])), pack_detail(of_detail(case[0][1], hidden[1])))


def front(
    networks: RoundNetworks, out: Tensor, a: Tensor, motion: Tensor, speed: Tensor, first: int, frames: int, cell
) -> None:
    common = {"first": first, "frames": frames, "cell": cell, "steps": STEPS, **SCALES, "flat": FLAT}
    made = learned_round(a, motion, speed, torch.tensor(STEP), networks, **common, bounds=BOUNDS, level=LEVEL, out=out)
    assert made is out


def numbers(first: int, frames: int, cell: tuple[int, int]) -> tuple:
    return (first, frames, list(cell), list(STEPS), *SCALES.values(), *BOUNDS, FLAT, LEVEL)


def compiled(
    level: str,
    networks: RoundNetworks,
    out: Tensor,
    a: Tensor,
    motion: Tensor,
    speed: Tensor,
    first: int,
    frames: int,
    cell,
) -> None:
    torch.ops.davsr.learned_round_(
        out, a, motion, speed, torch.tensor(STEP), *networks, *numbers(first, frames, cell), level
    )


def rounds(run, case, networks: RoundNetworks, n: int = 2) -> Tensor:
    """All frames of a clip, n at a time; memory that is written to is not a number before."""
    a, _, motion = given(case, torch.float32)
    made = []
    for first in range(0, a.shape[2], n):
        part = slice(first, first + n)
        out = torch.full_like(a[:, :, part].contiguous(), float("nan"))
        run(
            networks,
            out,
            in_a_ring(a, first, out.shape[2]),
            motion[:, part],
            speed_of(case)[:, part],
            first,
            a.shape[2],
            case[1],
        )
        made.append(out)
    return torch.cat(made, dim=2)


@needs_extension
@pytest.mark.parametrize("case", ALL, ids=NAMES)
@pytest.mark.parametrize("level", PASSES)
def test_it_is_what_convolutions_make_of_the_same_cells(level, case):
    ours = rounds(partial(compiled, level), case, packed(case, (8, 16)))
    torch.testing.assert_close(
        ours.double(), expected(case, of_trust(8), of_detail(case[0][1], 16)), rtol=1e-5, atol=2e-5
    )


@needs_extension
@pytest.mark.parametrize("hidden", [(5, 3), (17, 20)])
@pytest.mark.parametrize("n", [1, 5])
def test_any_number_of_hidden_channels_and_frames(hidden, n):
    for case in (CASES[1], CASES[4]):
        ours = rounds(front, case, packed(case, hidden), n=min(n, 2 if case is CASES[1] else 1))
        whole = expected(case, of_trust(hidden[0]), of_detail(case[0][1], hidden[1]))
        torch.testing.assert_close(ours.double(), whole, rtol=1e-5, atol=2e-5)


@needs_extension
def test_both_networks_have_a_say():
    case = CASES[0]
    trust, detail = of_trust(8), of_detail(3, 16)
    whole = rounds(front, case, RoundNetworks(pack_trust(trust), pack_detail(detail)))
    silent = [*trust[:4], torch.zeros(1, 8, 1, 1), torch.zeros(1)]
    flat = [*detail[:2], torch.zeros(48, 16, 3, 3), torch.zeros(48)]
    for others in (
        RoundNetworks(pack_trust(silent), pack_detail(detail)),
        RoundNetworks(pack_trust(trust), pack_detail(flat)),
    ):
        assert (rounds(front, case, others) - whole).abs().max() > 0.01


@needs_extension
def test_threads_change_nothing():
    for case in (CASES[3], MORE[1]):
        assert_threads_change_nothing(lambda case=case: [rounds(front, case, packed(case, (8, 16)))])


@needs_extension
def test_any_strides_are_taken():
    case = CASES[0]
    a, _, motion = given(case, torch.float32)
    ring, some, speed, networks = in_a_ring(a, 2, 2), motion[:, 2:4], speed_of(case)[:, 2:4], packed(case, (8, 16))
    dense = torch.empty_like(a[:, :, 2:4].contiguous())
    front(networks, dense, ring, some, speed, 2, 9, (4, 4))
    apart = [v.transpose(-1, -2).contiguous().transpose(-1, -2) for v in (ring, some, speed)]
    spread = torch.zeros(*dense.shape[:-1], 2 * dense.shape[-1])[..., ::2]
    front(networks, spread, *apart, 2, 9, (4, 4))
    assert torch.equal(dense, spread)


@needs_extension
def test_opcheck():
    case = CASES[0]
    a, _, motion = given(case, torch.float32)
    out, speed = torch.zeros(1, 3, 2, 12, 20), speed_of(case)[:, 2:4]
    inputs = (out, a, motion[:, 2:4], speed, torch.tensor(STEP), *packed(case, (3, 3)), *numbers(2, 9, (4, 4)))
    torch.library.opcheck(torch.ops.davsr.learned_round_.default, inputs)


@needs_extension
def test_what_does_not_fit_is_said():
    case = CASES[0]
    a, _, motion = given(case, torch.float32)
    networks, speed = packed(case, (8, 16)), speed_of(case)[:, 3:5]
    out, some = torch.empty(1, 3, 2, 12, 20), motion[:, 3:5]

    def run(
        networks: RoundNetworks = networks, speed: Tensor = speed, a: Tensor = a, first: int = 3, bounds=BOUNDS
    ) -> None:
        given_numbers = (first, 9, [4, 4], list(STEPS), *SCALES.values(), *bounds, FLAT, LEVEL)
        step = torch.tensor(STEP, dtype=a.dtype)
        torch.ops.davsr.learned_round_(
            out.to(a.dtype), a, some.to(a.dtype), speed.to(a.dtype), step, *networks, *given_numbers
        )

    with pytest.raises(ValueError, match="learned_round: speed must be"):
        run(speed=speed[..., 1:])
    with pytest.raises(ValueError, match="learned_round: a must be float32"):
        run(a=a.double())
    with pytest.raises(ValueError, match="learned_round: frames must be of the 9 of the clip, got 2 from 8"):
        run(first=8)
    with pytest.raises(ValueError, match="low must not be above high"):
        run(bounds=(1.0, 0.0))
    trust, detail = networks
    for wrong in ([trust[0][:, :, :3], *trust[1:]], trust[:5], [*trust[:2], trust[2][:, :, 1:], *trust[3:]]):
        with pytest.raises(ValueError, match="learned_round: trust must"):
            run(RoundNetworks(wrong, detail))
    for wrong in (of_detail(3, 16), [*detail[:3], detail[3][1:]], [v.double() for v in detail]):
        with pytest.raises(ValueError, match="learned_round: detail must"):
            run(RoundNetworks(trust, wrong))
    with pytest.raises(ValueError, match="a multiple of 8 hidden channels, got 5"):
        run(RoundNetworks(trust, [detail[0], torch.zeros(5), *detail[2:]]))
    with pytest.raises(RuntimeError, match=r"overlap|memory"):
        front(networks, out, out, some, speed, 0, 2, (4, 4))
