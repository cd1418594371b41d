"""The learned parts of a round and their gradients: what autograd of torch's operations makes of them in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import (
    TrustedKept,
    add_cells,
    flatten_reference,
    flatten_with_detail,
    flatten_with_detail_gradient,
    motion_blend_reference,
    motion_mismatch_reference,
    pack_trust,
    samples_memory,
    split_like,
    to_cells,
    trusted_average_gradient,
    trusted_average_kept,
)
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import CASES, IDS, LEVELS, SCALES, STEPS, inputs, needs_extension

# Strips of columns that networks look across, bands of rows likewise, frames of few cells
MORE = [((1, 3, 2, 23, 1100), (4, 4), True), ((1, 3, 2, 300, 20), (4, 4), False), ((1, 3, 3, 8, 12), (4, 4), True)]
ALL = [*CASES, *MORE]
NAMES = [*IDS, *("x".join(map(str, shape)) for shape, _, _ in MORE)]
PASSES = [level for level in LEVELS if level != "serial"]
BOUNDS = (-1.0, 0.5)
LEVEL = 2.0
FLAT = 0.3
STEP = torch.tensor(0.2)


def layers(*sizes: tuple[int, ...]) -> list[Tensor]:
    """Weight and bias of convolutions, in turn."""
    generator = torch.Generator().manual_seed(5)
    drawn = []
    for size in sizes:
        scale = 1.5 / (size[1] * size[2] * size[3]) ** 0.5
        drawn += [scale * torch.randn(size, generator=generator), 0.3 * torch.randn(size[0], generator=generator)]
    return drawn


def of_trust(hidden: int) -> list[Tensor]:
    return layers((hidden, 4, 3, 3), (hidden, hidden, 3, 3), (1, hidden, 1, 1))


def of_detail(channels: int, hidden: int) -> list[Tensor]:
    return layers((hidden, 16 * channels + 1, 3, 3), (16 * channels, hidden, 3, 3))


def clip(case) -> tuple[Tensor, Tensor, Tensor]:
    """a, motion and speed."""
    a, motion, cells = inputs(*case, dtype=torch.float32)
    return a, motion, cells[:, 0].contiguous()


def slopes_like(*made: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.dtype) for v in made]


def average_of_parts(
    a: Tensor, motion: Tensor, speed: Tensor, network: list[Tensor], cell: tuple[int, int]
) -> TrustedKept:
    """Of torch's operations."""
    first, first_bias, second, second_bias, last, last_bias = network
    error = motion_mismatch_reference(a, motion, cell=cell, steps=STEPS)
    grey, root = a.mean(dim=1), (error + 1e-8).sqrt()
    texture = ((F.avg_pool2d(grey.square(), cell) - F.avg_pool2d(grey, cell).square()).clamp(min=0) + 1e-6).sqrt()
    far = error.new_tensor(STEPS)[:, None, None, None]
    seen = [root, texture[:, None].expand_as(error), far.abs() * speed[:, None], far.abs().expand_as(error)]
    stacked = torch.stack(seen, dim=3).flatten(0, 2)
    hidden = F.conv2d(F.conv2d(stacked, first, first_bias, padding=1).relu(), second, second_bias, padding=1).relu()
    trust = F.conv2d(hidden, last, last_bias).view(error.shape).clamp(*BOUNDS)
    weight = (trust - error / SCALES["mismatch"] ** 2 - far**2 / (2 * SCALES["reach"] ** 2)).exp()
    return TrustedKept(*motion_blend_reference(a, motion, weight, steps=STEPS), weight, root, texture)


def kept_average(level: str | None, case, network: list[Tensor]) -> TrustedKept:
    a, motion, speed = clip(case)
    trust = pack_trust(network)
    if level is None:
        return trusted_average_kept(a, motion, speed, trust, cell=case[1], steps=STEPS, **SCALES, bounds=BOUNDS)
    numbers = (list(case[1]), list(STEPS), *SCALES.values(), *BOUNDS)
    return TrustedKept(*torch.ops.davsr.trusted_average_kept(a, motion, speed, trust, *numbers, level))


def average_gradient(level: str | None, case, network: list[Tensor]) -> list[Tensor]:
    """Of a, and of the packed network."""
    trust = pack_trust(network)
    kept = kept_average(level, case, network)
    d_mean, d_support = slopes_like(kept.mean, kept.support)
    given = (d_mean, d_support, *clip(case))
    samples = samples_memory(kept.mean, STEPS).fill_(float("nan"))
    if level is None:
        of_a, of_network = trusted_average_gradient(*given, kept, trust, **how(case, samples))
        return [of_a, *split_like(of_network, trust)]
    numbers = (list(case[1]), list(STEPS), SCALES["mismatch"], *BOUNDS)
    of_a, of_network = torch.ops.davsr.trusted_average_backward_(samples, *given, *kept, trust, *numbers, level)
    return [of_a, *split_like(of_network, trust)]


def how(case, samples: Tensor) -> dict[str, Any]:
    """What the gradient of the average takes beside tensors."""
    return {
        "cell": case[1],
        "steps": STEPS,
        "mismatch": SCALES["mismatch"],
        "bounds": BOUNDS,
        "samples": samples,
    }


def near(ours: Tensor, exact: Tensor, share: float) -> bool:
    """Whether the difference is at most this share of what is right, root mean square."""
    return bool((ours.double() - exact).norm() <= share * exact.norm() + 1e-6 * exact.numel() ** 0.5)


@needs_extension
@pytest.mark.parametrize("case", ALL, ids=NAMES)
@pytest.mark.parametrize("level", [None, *PASSES])
@pytest.mark.parametrize("hidden", [8, 5, 17])
def test_the_average_and_its_gradient_are_those_of_its_parts(level, case, hidden):
    network = of_trust(hidden)
    a, motion, speed = (v.double() for v in clip(case))
    leaves = [a.requires_grad_(), *(v.double().requires_grad_() for v in network)]
    exact = average_of_parts(a, motion, speed, leaves[1:], case[1])
    ours = kept_average(level, case, network)
    for name, made, right in zip(TrustedKept._fields, ours, exact, strict=True):
        if name in ("weight", "root"):  # of frames that are there
            for k, step in enumerate(STEPS):
                frames = [p for p in range(a.shape[2]) if 0 <= p + step < a.shape[2]]
                torch.testing.assert_close(
                    made[:, k, frames].double(), right[:, k, frames].detach(), rtol=1e-5, atol=1e-5
                )
        else:
            torch.testing.assert_close(made.double(), right.detach(), rtol=1e-5, atol=1e-5)
    loss = sum((v * d).sum() for v, d in zip(exact[:2], slopes_like(*exact[:2]), strict=True))
    of_a, *of_layers = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    for made, right in zip(average_gradient(level, case, network), [of_a, *pack_trust(of_layers)], strict=True):
        assert made.shape == right.shape and near(made, right, 3e-5)


@needs_extension
def test_the_network_has_a_say():
    case = CASES[1]
    silent = [*of_trust(8)[:4], torch.zeros(1, 8, 1, 1), torch.zeros(1)]
    told, not_told = (average_gradient(None, case, network) for network in (of_trust(8), silent))
    assert (told[0] - not_told[0]).norm() > 0.01 * told[0].norm()
    assert all(v.abs().max() > 0 for v in told)


def test_packing_takes_the_gradient_back():
    network = [v.requires_grad_() for v in of_trust(5)]
    packed = pack_trust(network)
    of_packed = slopes_like(*packed)
    back = torch.autograd.grad(packed, network, of_packed)
    for made, right in zip(pack_trust(back), of_packed, strict=True):
        inside = tuple(slice(5) if n == 8 else slice(None) for n in right.shape)
        torch.testing.assert_close(made[inside], right[inside], rtol=0, atol=0)


@needs_extension
def test_no_gradient_of_the_support_is_one_of_zeros():
    case, network = CASES[0], of_trust(8)
    kept = kept_average(None, case, network)
    (d_mean,) = slopes_like(kept.mean)
    given = (*clip(case), kept, pack_trust(network))
    samples = samples_memory(d_mean, STEPS)
    without = trusted_average_gradient(d_mean, None, *given, **how(case, samples))
    zeros = trusted_average_gradient(d_mean, torch.zeros_like(kept.support), *given, **how(case, samples))
    torch.testing.assert_close(without, zeros, rtol=0, atol=0)


def detailed(case) -> tuple[Tensor, Tensor]:
    """Mean and support."""
    mean = clip(case)[0]
    b, _, T, H, W = mean.shape
    return mean, 1 + 3 * torch.rand(b, T, H, W, generator=torch.Generator().manual_seed(2))


def detail_of_parts(mean: Tensor, support: Tensor, step: Tensor, network: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of torch's operations: the sum, and the hidden layer, channels last."""
    first, first_bias, last, last_bias = network
    cells = to_cells(mean, support, frames=slice(None), level=LEVEL).permute(0, 3, 1, 2)
    hidden = F.conv2d(cells, first, first_bias, padding=1).relu()
    made = F.conv2d(hidden, last, last_bias, padding=1).permute(0, 2, 3, 1)
    flattened = flatten_reference(mean, step, flat=FLAT)
    return add_cells(flattened, made, frames=slice(None)), hidden.permute(0, 2, 3, 1)


def detail_and_gradient(level: str | None, case, network: list[Tensor]) -> list[Tensor]:
    """The sum, the hidden layer, and all gradients."""
    mean, support = detailed(case)
    (grad,) = slopes_like(mean)
    if level is None:
        sizes = {"flat": FLAT, "level": LEVEL}
        made, hidden = flatten_with_detail(mean, support, STEP, network, **sizes)
        back = flatten_with_detail_gradient(grad, mean, support, hidden, STEP, network, **sizes)
        return [made, hidden, *back[:3], *back.layers]
    made, hidden = torch.ops.davsr.flatten_with_detail(mean, support, STEP, *network, FLAT, LEVEL, level)
    given = (grad, mean, support, hidden, STEP, network[0], network[2], FLAT, LEVEL, level)
    return [made, hidden, *torch.ops.davsr.flatten_with_detail_backward(*given)]


@needs_extension
@pytest.mark.parametrize("case", [case for case in ALL if case[0][0]], ids=[n for n in NAMES if n[:2] != "0x"])
@pytest.mark.parametrize("level", [None, *PASSES])
@pytest.mark.parametrize("hidden", [16, 3, 21])
def test_detail_and_its_gradient_are_those_of_their_parts(level, case, hidden):
    network = of_detail(case[0][1], hidden)
    leaves = [v.double().requires_grad_() for v in (*detailed(case), STEP, *network)]
    right, between = detail_of_parts(*leaves[:3], leaves[3:])
    (grad,) = slopes_like(right.float())
    expected = torch.autograd.grad((right * grad).sum(), leaves)
    made, seen, *gradients = detail_and_gradient(level, case, network)
    torch.testing.assert_close(made.double(), right.detach(), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(seen.double(), between.detach(), rtol=1e-5, atol=2e-5)
    for ours, exact in zip(gradients, expected, strict=True):
        assert ours.shape == exact.shape and near(ours, exact, 3e-5)


@needs_extension
def test_any_strides_are_taken():
    case = ALL[1]
    mean, support = detailed(case)
    network = of_detail(3, 4)
    apart = [v.transpose(-1, -2).contiguous().transpose(-1, -2) for v in (mean, support)]
    first, last = (v.transpose(-1, -2).contiguous().transpose(-1, -2) for v in network[::2])
    made = flatten_with_detail(*apart, STEP, [first, network[1], last, network[3]], flat=FLAT, level=LEVEL)
    for ours, dense in zip(made, detail_and_gradient(None, case, network), strict=False):
        assert torch.equal(ours, dense)
    a, motion, speed = clip(case)
    kept = kept_average(None, case, of_trust(5))
    d_mean, d_support = slopes_like(kept.mean, kept.support)
    spread = [torch.stack([v, v], -1)[..., 0] for v in (d_mean, d_support, a, motion, speed, *kept)]
    trust = pack_trust(of_trust(5))
    of_a, of_network = trusted_average_gradient(
        *spread[:5], TrustedKept(*spread[5:]), trust, **how(case, samples_memory(a, STEPS))
    )
    for ours, dense in zip(
        [of_a, *split_like(of_network, trust)], average_gradient(None, case, of_trust(5)), strict=True
    ):
        assert torch.equal(ours, dense)


@needs_extension
@pytest.mark.parametrize("case", [ALL[0], ALL[-3], ALL[-2]], ids=["frames", "strips", "bands"])
def test_threads_change_nothing(case):
    trust, detail = of_trust(8), of_detail(3, 16)
    assert_threads_change_nothing(
        lambda: [
            *kept_average(None, case, trust),
            *average_gradient(None, case, trust),
            *detail_and_gradient(None, case, detail),
        ]
    )


@needs_extension
def test_opcheck():
    case = CASES[2]
    a, motion, speed = clip(case)
    cell, steps, network = list(case[1]), list(STEPS), of_trust(3)
    trust = pack_trust(network)
    given = (a, motion, speed, trust, cell, steps, *SCALES.values(), *BOUNDS)
    torch.library.opcheck(torch.ops.davsr.trusted_average_kept.default, given)
    kept = kept_average(None, case, network)
    back = (
        samples_memory(a, STEPS),
        *slopes_like(kept.mean, kept.support),
        a,
        motion,
        speed,
        *kept,
        trust,
        cell,
        steps,
        0.4,
        *BOUNDS,
    )
    torch.library.opcheck(torch.ops.davsr.trusted_average_backward_.default, back)
    mean, support = detailed(case)
    detail = of_detail(1, 3)
    given = (mean, support, STEP, *detail, FLAT, LEVEL)
    torch.library.opcheck(torch.ops.davsr.flatten_with_detail.default, given)
    made, hidden = torch.ops.davsr.flatten_with_detail(*given)
    back = (made, mean, support, hidden, STEP, detail[0], detail[2], FLAT, LEVEL)
    torch.library.opcheck(torch.ops.davsr.flatten_with_detail_backward.default, back)


@needs_extension
def test_errors():
    case = CASES[1]
    a, motion, speed = clip(case)
    trust = pack_trust(of_trust(8))
    scales = {"cell": (4, 4), "steps": STEPS, "mismatch": 0.4, "bounds": BOUNDS}
    samples = samples_memory(a, STEPS)
    with pytest.raises(ValueError, match="trusted_average: speed must be"):
        trusted_average_kept(a, motion, speed[..., 1:], trust, reach=2.0, **scales)
    with pytest.raises(ValueError, match="trusted_average: a must be float32"):
        trusted_average_kept(a.double(), motion.double(), speed, trust, reach=2.0, **scales)
    kept = kept_average(None, case, of_trust(8))
    d_mean, d_support = slopes_like(kept.mean, kept.support)
    with pytest.raises(ValueError, match="trusted_average: root"):
        wrong = kept._replace(root=kept.root[:, 1:])
        trusted_average_gradient(d_mean, d_support, a, motion, speed, wrong, trust, **how(case, samples))
    with pytest.raises(ValueError, match="trusted_average: trust must be"):
        wrong_layers = [*trust[:2], trust[2][:, 1:], *trust[3:]]
        trusted_average_gradient(d_mean, d_support, a, motion, speed, kept, wrong_layers, **how(case, samples))
    with pytest.raises(ValueError, match="trusted_average: samples must be"):
        given = (d_mean, d_support, a, motion, speed, kept, trust)
        trusted_average_gradient(*given, **how(case, samples_memory(a, STEPS[1:])))
    mean, support = detailed(case)
    detail = of_detail(3, 8)
    sizes = {"flat": FLAT, "level": LEVEL}
    with pytest.raises(ValueError, match="support must be"):
        flatten_with_detail(mean, support[..., 1:], STEP, detail, **sizes)
    with pytest.raises(ValueError, match="flatten_with_detail: last must be"):
        flatten_with_detail(mean, support, STEP, [*detail[:2], detail[2][1:], detail[3]], **sizes)
    with pytest.raises(ValueError, match="flatten_with_detail: mean must be float32"):
        flatten_with_detail(mean.double(), support, STEP, detail, **sizes)
    with pytest.raises(ValueError, match="flatten_with_detail: step must be one number"):
        flatten_with_detail(mean, support, STEP.expand(2), detail, **sizes)
    with pytest.raises(ValueError, match="flatten_with_detail: flat must be above 0"):
        flatten_with_detail(mean, support, STEP, detail, flat=0.0, level=LEVEL)
    made, hidden = flatten_with_detail(mean, support, STEP, detail, **sizes)
    with pytest.raises(ValueError, match="flatten_with_detail: hidden must be"):
        flatten_with_detail_gradient(made, mean, support, hidden[..., 1:], STEP, detail, **sizes)
