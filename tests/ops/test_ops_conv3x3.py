"""conv3x3: the plain sum in float64, every compiled level, the gradients, and what it leaves to torch."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import backend, conv3x3, conv3x3_reference, weights_stay

COMPILED = backend().name != "reference"
LEVELS = [level for level in torch.ops.davsr.cpu_levels() if level != "serial"] if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")
# b, c_in, c_out, h, w: tiles of 4x4 whole and cut, vectors of 4, 8 and 16 channels and what is left over, blocks of 64
# channels
CASES = [
    (1, 1, 1, 1, 1),
    (2, 3, 5, 4, 4),
    (1, 16, 16, 3, 9),
    (33, 5, 8, 5, 2),
    (1, 17, 33, 7, 6),
    (2, 64, 64, 9, 12),
    (1, 70, 130, 8, 5),
    (0, 4, 4, 6, 6),
]


def inputs(b: int, c_in: int, c_out: int, h: int, w: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias, residual."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return normal(b, c_in, h, w), normal(c_out, c_in, 3, 3) / (3 * c_in**0.5), normal(c_out), normal(b, c_out, h, w)


def specification(x: Tensor, weight: Tensor, bias: Tensor, slope: float, residual: Tensor | None) -> Tensor:
    """The sum over the nine taps, in float64."""
    padded = F.pad(x.double(), (1, 1, 1, 1))
    h, w = x.shape[2:]
    y = bias.double()[:, None, None]
    for i in range(3):
        for j in range(3):
            y = y + torch.einsum("bchw,oc->bohw", padded[:, :, i : i + h, j : j + w], weight[:, :, i, j].double())
    y = torch.where(y < 0, slope * y, y)
    return y if residual is None else y + residual.double()


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """Winograd's sums are of larger numbers than their result.

    2e-6 rms and 4e-5 at most are measured, of a deviation of 1.
    """
    assert actual.shape == expected.shape and actual.dtype == torch.float32
    if actual.numel():
        error = actual.double() - expected
        assert float(error.square().mean().sqrt()) < 5e-6
        assert float(error.abs().max()) < 1e-4


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", CASES, ids=["x".join(map(str, case)) for case in CASES])
@pytest.mark.parametrize("slope, with_residual", [(1.0, False), (0.0, True), (0.1, True)])
def test_every_level_is_the_sum(level, case, slope, with_residual):
    x, weight, bias, residual = inputs(*case)
    added = residual if with_residual else None
    kept = residual.clone()
    result = torch.ops.davsr.conv3x3(x, weight, bias, added, slope, level)
    assert_near(result, specification(x, weight, bias, slope, added))
    assert torch.equal(residual, kept)
    assert_near(conv3x3_reference(x, weight, bias, slope=slope, residual=added), result.double())


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_strided_inputs_equal_contiguous_ones(level):
    x, weight, bias, residual = inputs(2, 6, 20, 9, 10)
    expected = torch.ops.davsr.conv3x3(x, weight, bias, residual, 0.1, level)
    strided = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in (x, weight, residual)]
    assert torch.equal(torch.ops.davsr.conv3x3(strided[0], strided[1], bias, strided[2], 0.1, level), expected)
    wide = torch.cat([weight, weight], dim=1)
    assert torch.equal(torch.ops.davsr.conv3x3(x, wide[:, 6:], bias, residual, 0.1, level), expected)


def plain_gradients(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of weight and bias of the sum over the nine taps, in float64."""
    weight = torch.zeros(grad.shape[1], x.shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(grad.shape[1], dtype=torch.float64, requires_grad=True)
    result = specification(x, weight, bias, 1.0, None)
    return torch.autograd.grad(result, [weight, bias], grad.double())


def assert_gradient_near(actual: Tensor, expected: Tensor, count: int) -> None:
    """A sum of `count` products of numbers of deviation 1: 3e-6 rms of sqrt(count) and 3e-5 at most are measured."""
    assert actual.shape == expected.shape and actual.dtype == torch.float32
    if actual.numel():
        error = (actual.double() - expected) / max(count, 1) ** 0.5
        assert float(error.square().mean().sqrt()) < 5e-6
        assert float(error.abs().max()) < 1e-4


# blocks of tiles that are summed apart, the last one cut
@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", [*CASES, (2, 40, 20, 70, 66)], ids=lambda case: "x".join(map(str, case)))
def test_every_level_has_the_gradients_of_the_sum(level, case):
    x, _, _, grad = inputs(*case)
    count = case[0] * case[3] * case[4]
    for actual, expected in zip(
        torch.ops.davsr.conv3x3_weight_gradient(grad, x, level), plain_gradients(grad, x), strict=True
    ):
        assert_gradient_near(actual, expected, count)


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_strided_gradients_equal_contiguous_ones(level):
    x, _, _, grad = inputs(2, 6, 20, 9, 10)
    expected = torch.ops.davsr.conv3x3_weight_gradient(grad, x, level)
    strided = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in (grad, x)]
    for a, e in zip(torch.ops.davsr.conv3x3_weight_gradient(*strided, level), expected, strict=True):
        assert torch.equal(a, e)


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_known_points_change_nothing(level):
    x, weight, bias, residual = inputs(2, 17, 33, 7, 6)
    points = torch.ops.davsr.conv3x3_points(weight, level)
    expected = torch.ops.davsr.conv3x3(x, weight, bias, residual, 0.1, level)
    assert torch.equal(torch.ops.davsr.conv3x3(x, weight, bias, residual, 0.1, level, points), expected)


@needs_extension
def test_weights_are_transformed_once_while_they_stay_and_anew_afterwards(monkeypatch):
    x, weight, bias, _ = inputs(1, 6, 9, 5, 5)
    weight = torch.nn.Parameter(weight)
    made = []
    points = torch.ops.davsr.conv3x3_points
    monkeypatch.setattr(torch.ops.davsr, "conv3x3_points", lambda *given: made.append(given) or points(*given))
    with torch.no_grad():
        before = conv3x3(x, weight, bias)
        with weights_stay():
            for _ in range(2):
                with weights_stay():  # one within another is the same
                    assert torch.equal(conv3x3(x, weight, bias), before)
                assert torch.equal(conv3x3(x, weight * 1, bias), before)  # no parameter: not kept
        assert len(made) == 1
        weight.mul_(2)
        changed = conv3x3(x, weight, torch.zeros(9))
        with weights_stay():
            assert torch.equal(conv3x3(x, weight, torch.zeros(9)), changed)
        assert len(made) == 2 and not torch.equal(changed, before)


@pytest.mark.parametrize("c_out", [64, 128, 20])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_shuffled_channels_are_pixels(c_out, with_gradient):
    x, weight, bias, _ = inputs(2, 6, c_out, 9, 6)
    y = conv3x3_reference(x, weight, bias, slope=0.1)
    expected = F.pixel_shuffle(y.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)
    weight.requires_grad_(with_gradient)
    for function in (conv3x3, conv3x3_reference):
        assert_near(function(x, weight, bias, slope=0.1, shuffle=True).detach(), expected.double())


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_shuffles(level):
    x, weight, bias, _ = inputs(2, 6, 64, 9, 6)
    expected = conv3x3_reference(x, weight, bias, slope=0.1, shuffle=True)
    assert_near(torch.ops.davsr.conv3x3(x, weight, bias, None, 0.1, level, None, True), expected.double())


@needs_extension
def test_second_derivatives_are_those_of_the_reference():
    given = [v.requires_grad_() for v in inputs(1, 9, 10, 6, 7)[:3]]
    double = [v.double().detach().requires_grad_() for v in given]
    results = []
    for function, leaves in ((conv3x3, given), (conv3x3_reference, double)):
        first = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(d.square().mean() for d in first), leaves))
    for a, e in zip(*results, strict=True):
        torch.testing.assert_close(a.double() / e.std(), e / e.std(), rtol=0, atol=1e-4)  # as in assert_near


@needs_extension
def test_threads_change_nothing():
    x, weight, bias, grad = inputs(3, 24, 40, 30, 22)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append([conv3x3(x, weight, bias), *torch.ops.davsr.conv3x3_weight_gradient(grad, x)])
    finally:
        torch.set_num_threads(threads)
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.parametrize("slope, with_residual", [(1.0, False), (0.0, False), (0.1, True)])
def test_gradients_are_those_of_the_reference(slope, with_residual):
    given = [v.requires_grad_() for v in inputs(2, 18, 20, 9, 7)]
    grad = torch.randn(2, 20, 9, 7, generator=torch.Generator().manual_seed(1))
    x, weight, bias, residual = given
    wanted = given if with_residual else given[:3]
    expected = [v.double().detach().requires_grad_() for v in given]
    double = conv3x3_reference(*expected[:3], slope=slope, residual=expected[3] if with_residual else None)
    out = conv3x3(x, weight, bias, slope=slope, residual=residual if with_residual else None)
    actual = torch.autograd.grad(out, wanted, grad)
    for a, e in zip(actual, torch.autograd.grad(double, expected[: len(wanted)], grad.double()), strict=True):
        torch.testing.assert_close(a.double() / e.std(), e / e.std(), rtol=0, atol=1e-4)  # as in assert_near


@needs_extension
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_only_what_is_asked_for_is_differentiated(frozen):
    given = list(inputs(1, 4, 6, 5, 5)[:3])
    for i, v in enumerate(given):
        v.requires_grad_(i != frozen)
    conv3x3(*given).sum().backward()
    assert [v.grad is not None for v in given] == [i != frozen for i in range(3)]


@needs_extension
@pytest.mark.parametrize("strided", [False, True])
def test_opcheck(strided):
    x, weight, bias, _ = inputs(2, 3, 5, 6, 7)
    if strided:
        x, weight = (v.transpose(0, -1).contiguous().transpose(0, -1) for v in (x, weight))
    given = [v.requires_grad_() for v in (x, weight, bias)]
    torch.library.opcheck(torch.ops.davsr.conv3x3.default, (*given, None, 1.0))
    torch.library.opcheck(torch.ops.davsr.conv3x3_points.default, (weight.detach(),))
    x, weight, bias, _ = inputs(2, 3, 64, 6, 7)
    points = torch.ops.davsr.conv3x3_points(weight)
    torch.library.opcheck(torch.ops.davsr.conv3x3.default, (x, weight, bias, None, 0.1, None, points, True))


@needs_extension
@pytest.mark.parametrize("strided", [False, True])
def test_opcheck_of_the_gradient(strided):
    x, _, _, grad = inputs(2, 3, 5, 6, 7)
    if strided:
        x, grad = (v.transpose(0, -1).contiguous().transpose(0, -1) for v in (x, grad))
    given = [v.requires_grad_() for v in (grad, x)]
    torch.library.opcheck(torch.ops.davsr.conv3x3_weight_gradient.default, tuple(given))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_torch(dtype):
    x, weight, bias, residual = (v.to(dtype) for v in inputs(1, 4, 6, 5, 5))
    expected = conv3x3_reference(x, weight, bias, slope=0.1, residual=residual)
    assert torch.equal(conv3x3(x, weight, bias, slope=0.1, residual=residual), expected)


def test_autocast_is_left_to_torch():
    x, weight, bias, _ = inputs(1, 4, 6, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv3x3(x, weight, bias).dtype == torch.bfloat16


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    x, weight, bias, residual = inputs(1, 4, 6, 5, 5)
    compiled = torch.compile(lambda *given: conv3x3(*given, slope=0.1, residual=residual), fullgraph=True)
    torch.testing.assert_close(
        compiled(x, weight, bias), conv3x3_reference(x, weight, bias, slope=0.1, residual=residual)
    )


@needs_extension
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_near(value):
    x, weight, bias, _ = inputs(1, 3, 4, 16, 16)
    x[0, 1, 8, 8] = value
    bad = ~torch.isfinite(conv3x3(x, weight, bias))
    assert bad[:, :, 7:10, 7:10].all()  # what sees it
    assert not bad[:, :, :4].any() and not bad[:, :, 12:].any()  # tiles that do not


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"x": torch.zeros(3, 4, 5)}, r"conv3x3: x must be \[b, c_in, h, w\], got \[3, 4, 5\]"),
        ({"weight": torch.zeros(6, 3, 3, 3)}, r"conv3x3: weight must be \[c_out, 4, 3, 3\], got \[6, 3, 3, 3\]"),
        ({"bias": torch.zeros(5)}, r"conv3x3: bias must be \[6\], got \[5\]"),
        ({"shuffle": True}, r"conv3x3: shuffled channels must be a multiple of 4 .*, got 6"),
        ({"residual": torch.zeros(1, 6, 5, 4)}, r"conv3x3: residual must be \[1, 6, 5, 5\], got \[1, 6, 5, 4\]"),
    ],
)
def test_errors(changed, message):
    given: dict[str, Any] = dict(zip(("x", "weight", "bias", "residual"), inputs(1, 4, 6, 5, 5), strict=True)) | changed
    with pytest.raises(ValueError, match=message):
        conv3x3(**given)


@needs_extension
def test_errors_of_the_compiled_op():
    x, weight, bias, residual = inputs(1, 4, 6, 5, 5)
    for given, message in (
        ((x[0], weight, bias, None), "x must be"),
        ((x, weight[:, :3], bias, None), "weight must be"),
        ((x, weight, bias[:5], None), "bias must be"),
        ((x.double(), weight, bias, None), "must be float32"),
        ((x, weight, bias, residual[:, :5]), "residual must be"),
    ):
        with pytest.raises(ValueError, match=f"conv3x3: .*{message}"):
            torch.ops.davsr.conv3x3(*given, 1.0)
    for more, message in (((weight,), "points must be"), ((None, True), "shuffled channels must be")):
        with pytest.raises(ValueError, match=f"conv3x3: .*{message}"):
            torch.ops.davsr.conv3x3(x, weight, bias, None, 1.0, None, *more)
    with pytest.raises(ValueError, match="conv3x3: weight must be"):
        torch.ops.davsr.conv3x3_points(weight[..., :2])
    for grad, like, message in (
        (residual[0], x, "grad must be"),
        (residual[..., :3], x, "grad must be"),
        (residual, x[:0], "grad must be"),
        (residual.double(), x, "must be float32"),
    ):
        with pytest.raises(ValueError, match=f"conv3x3: .*{message}"):
            torch.ops.davsr.conv3x3_weight_gradient(grad, like)


@needs_extension
def test_memory_is_flat_over_1000_calls():
    given = inputs(1, 16, 32, 40, 40)

    def run() -> None:
        conv3x3(*given[:3], slope=0.0, residual=given[3])
        torch.ops.davsr.conv3x3_weight_gradient(given[3], given[0])

    for _ in range(50):
        run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        run()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096, f"{grown} KiB"  # one call's result is 200 KiB
