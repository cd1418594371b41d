"""deform_align: the specification in loops, the reference, and every compiled level, forward and backward."""

from __future__ import annotations

import math
import resource

import pytest
import torch
from torch import Tensor

from davsr.ops import backend, deform_align, deform_align_reference, one_source_channels

COMPILED = backend().name != "reference"
LEVELS = torch.ops.davsr.cpu_levels() if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")
REACH = 10.0


def inputs(
    b=1, per_group=2, groups=4, c_out=5, h=6, w=7, *, dtype=torch.float32, two=True, flow=3.0, seed=0, last=False
):
    """features, raw, flow_1, flow_2, weight, bias."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)

    c = per_group * groups
    made = [normal(b, c, h, w), normal(b, 27 * groups, h, w)]
    if last:
        made = [tensor.contiguous(memory_format=torch.channels_last) for tensor in made]
    flows = [normal(b, 2, h, w, scale=flow), normal(b, 2, h, w, scale=flow) if two else None]
    return [*made, *flows, normal(c_out, c, 3, 3, scale=1 / math.sqrt(9 * c)), normal(c_out)]


def at_level(level: str):
    def run(features, raw, flow_1, flow_2, weight, bias, *, groups, max_residue=REACH):
        return torch.ops.davsr.deform_align(features, raw, flow_1, flow_2, weight, bias, groups, max_residue, level)

    return run


def specification(features, raw, flow_1, flow_2, weight, bias, *, groups, max_residue):
    """Section 3.3 of the design, one sample at a time, in Python's own numbers."""
    b, c, h, w = features.shape
    c_out, per_group = weight.shape[0], c // groups
    out = torch.zeros(b, c_out, h, w, dtype=torch.float64)
    x, o, k = features.tolist(), raw.tolist(), weight.tolist()
    flows = [flow_1.tolist(), None if flow_2 is None else flow_2.tolist()]
    for n in range(b):
        for i in range(h):
            for j in range(w):
                for g in range(groups):
                    flow = flows[0] if flow_2 is None or g < groups // 2 else flows[1]
                    for tap in range(9):
                        first = 18 * g + 2 * tap
                        y = i + tap // 3 - 1 + max_residue * math.tanh(o[n][first][i][j]) + flow[n][1][i][j]
                        z = j + tap % 3 - 1 + max_residue * math.tanh(o[n][first + 1][i][j]) + flow[n][0][i][j]
                        mask = 1 / (1 + math.exp(-o[n][18 * groups + 9 * g + tap][i][j]))
                        top, left = math.floor(y), math.floor(z)
                        for row, column, share in (
                            (top, left, (1 - (y - top)) * (1 - (z - left))),
                            (top, left + 1, (1 - (y - top)) * (z - left)),
                            (top + 1, left, (y - top) * (1 - (z - left))),
                            (top + 1, left + 1, (y - top) * (z - left)),
                        ):
                            if not (0 <= row < h and 0 <= column < w):
                                continue
                            for channel in range(g * per_group, (g + 1) * per_group):
                                value = mask * share * x[n][channel][row][column]
                                for target in range(c_out):
                                    out[n, target, i, j] += k[target][channel][tap // 3][tap % 3] * value
    return out + bias.double()[:, None, None]


def gradients(run, given, grad, **options):
    given = [None if tensor is None else tensor.detach().requires_grad_() for tensor in given]
    out = run(*given, **options)
    return out.detach(), torch.autograd.grad(out, [tensor for tensor in given if tensor is not None], grad)


@pytest.mark.parametrize("two", [True, False], ids=["two_sources", "one_source"])
@pytest.mark.parametrize("implementation", ["reference", *LEVELS])
def test_specification(implementation, two):
    given = inputs(2, per_group=2, groups=2, c_out=3, h=4, w=5, dtype=torch.float64, two=two)
    run = deform_align_reference if implementation == "reference" else at_level(implementation)
    expected = specification(*given, groups=2, max_residue=REACH)
    torch.testing.assert_close(run(*given, groups=2, max_residue=REACH), expected)


@needs_extension
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("per_group", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, per_group, last):
    """Values and all gradients, in float64 so that nothing hides in rounding; rows of a tile end inside vectors."""
    groups = 4
    given = inputs(2, per_group, groups, c_out=19, h=7, w=11, dtype=torch.float64, last=last)
    grad = torch.randn(2, 19, 7, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, slopes = gradients(deform_align_reference, given, grad, groups=groups, max_residue=REACH)
    out, ours = gradients(at_level(level), given, grad, groups=groups)
    torch.testing.assert_close(out, expected)
    for slope, our in zip(slopes, ours, strict=True):
        torch.testing.assert_close(our, slope)


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_storage_types(level, dtype):
    """Sums and coordinates are float32: only the storage of inputs and results rounds."""
    given = inputs(1, 8, 4, 16, 9, 20, last=True)
    stored = [tensor if i in (2, 3) else tensor.to(dtype) for i, tensor in enumerate(given)]
    exact = [tensor.double() for tensor in stored]
    grad = torch.randn(1, 16, 9, 20, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected, slopes = gradients(deform_align_reference, exact, grad.double(), groups=4, max_residue=REACH)
    out, ours = gradients(at_level(level), stored, grad, groups=4)
    assert out.dtype == dtype
    # bound: float32 rounding of ~300 terms (2e-6 measured); storage of the result at half a unit in the last place; the
    # GPU's path, which `serial` runs, also stores its columns and their gradients in the features' type before the
    # product
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}[dtype]
    if level == "serial" and dtype != torch.float32:
        rounding *= 2
    for our, exact_value in zip((out, *ours), (expected, *slopes), strict=True):
        error = (our.double() - exact_value).abs().max() / exact_value.abs().max()
        assert error <= rounding, f"{error:.2e}"


@needs_extension
def test_float32_is_as_exact_far_from_the_origin():
    """Fractions come from the displacement: the error does not grow with the coordinate."""
    given = inputs(1, 2, 2, 2, 1, 3000)
    expected = deform_align_reference(*(tensor.double() for tensor in given), groups=2, max_residue=REACH)
    out = deform_align(*given, groups=2, max_residue=REACH)
    error = (out.double() - expected).abs()
    assert error[..., 2900:].max() <= 2 * error[..., :100].max() + 1e-6


@pytest.mark.parametrize("implementation", ["reference", *LEVELS])
def test_gradcheck(implementation):
    given = inputs(1, 1, 2, 2, 3, 4, dtype=torch.float64, flow=1.0)
    run = deform_align_reference if implementation == "reference" else at_level(implementation)
    given = [tensor.requires_grad_() for tensor in given]
    assert torch.autograd.gradcheck(lambda *x: run(*x, groups=2, max_residue=2.0), given, fast_mode=True)


@needs_extension
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_opcheck(strided):
    given = inputs(2, 2, 4, 3, 5, 6)
    if strided:
        given = [tensor.transpose(0, -1).contiguous().transpose(0, -1) for tensor in given]
        assert not any(tensor.is_contiguous() for tensor in given[:5])
    given = [tensor.requires_grad_() for tensor in given]
    torch.library.opcheck(torch.ops.davsr.deform_align.default, (*given, 4, REACH))


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_strided_inputs_equal_contiguous_ones(level):
    given = inputs(2, 3, 2, 4, 5, 6)
    strided = [tensor.transpose(1, -1).contiguous().transpose(1, -1) for tensor in given[:5]] + [given[5]]
    expanded = inputs(2, 3, 2, 4, 5, 6)
    expanded[2] = given[2][:1].expand(2, 2, 5, 6)
    given[2] = expanded[2].contiguous()
    strided[2] = expanded[2]
    grad = torch.randn(2, 4, 6, 5).transpose(2, 3)
    expected, slopes = gradients(at_level(level), given, grad.contiguous(), groups=2)
    out, ours = gradients(at_level(level), strided, grad, groups=2)
    torch.testing.assert_close(out, expected)
    for our, slope in zip(ours, slopes, strict=True):
        torch.testing.assert_close(our, slope)


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("b, h, w", [(0, 4, 5), (33, 2, 3), (1, 1, 1), (1, 1, 50), (2, 50, 1), (1, 9, 97), (2, 23, 53)])
def test_sizes(level, b, h, w):
    given = inputs(b, 2, 2, 3, h, w, dtype=torch.float64, flow=1.0)
    grad = torch.ones(b, 3, h, w, dtype=torch.float64)
    expected, slopes = gradients(deform_align_reference, given, grad, groups=2, max_residue=1.5)
    out, ours = gradients(at_level(level), given, grad, groups=2, max_residue=1.5)
    torch.testing.assert_close(out, expected)
    for our, slope in zip(ours, slopes, strict=True):
        torch.testing.assert_close(our, slope)


@pytest.mark.parametrize("implementation", ["reference", *LEVELS])
@pytest.mark.parametrize("distance", [30.0, 1e6, 1e30, math.inf])
def test_far_outside_samples_zero(implementation, distance):
    run = deform_align_reference if implementation == "reference" else at_level(implementation)
    given = inputs(1, 2, 2, 3, 4, 5)
    given[2] = torch.full_like(given[2], distance)
    given[3] = torch.full_like(given[3], -distance)
    grad = torch.ones(1, 3, 4, 5)
    out, slopes = gradients(run, given, grad, groups=2, max_residue=REACH)
    torch.testing.assert_close(out, given[5][:, None, None].expand(1, 3, 4, 5))
    for slope in slopes[:5]:  # of all but the bias
        torch.testing.assert_close(slope, torch.zeros_like(slope))


@pytest.mark.parametrize("implementation", ["reference", *LEVELS])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", range(6))
def test_non_finite_input_does_not_crash_or_spread(implementation, value, which):
    """Not a number stays at the pixels that read it; an infinite offset is a bounded one."""
    run = deform_align_reference if implementation == "reference" else at_level(implementation)
    given = inputs(2, 2, 2, 3, 4, 5)
    clean = run(*given, groups=2, max_residue=REACH)
    given[which].view(-1)[0] = value
    out, _ = gradients(run, given, torch.ones(2, 3, 4, 5), groups=2, max_residue=REACH)
    if which < 4:
        torch.testing.assert_close(out[1], clean[1])  # the other sample does not notice
    if math.isnan(value) and which in (1, 2, 3):
        assert out[0, :, 0, 0].isnan().all()
        assert out[0, :, 1:].isfinite().all()


@needs_extension
def test_result_does_not_depend_on_threads():
    given = inputs(2, 8, 16, 24, 13, 17, last=True)
    grad = torch.randn(2, 24, 13, 17, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7, 2):
            torch.set_num_threads(count)
            out, slopes = gradients(deform_align, given, grad, groups=16, max_residue=REACH)
            results.append([out, *slopes[:5]])  # the bias is a plain sum of torch's
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_one_source_form_equals_a_second_source_of_zeros():
    groups, m = 4, 6
    features, raw, flow_1, flow_2, weight, bias = inputs(1, 2 * m // groups, groups, 5, 6, 7, dtype=torch.float64)
    features[:, m:] = 0
    expected = deform_align(features, raw, flow_1, flow_2, weight, bias, groups=groups, max_residue=REACH)
    part = raw[:, one_source_channels(groups)]
    out = deform_align(features[:, :m], part, flow_1, None, weight[:, :m], bias, groups=groups // 2, max_residue=REACH)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
def test_memory_format_follows_features_and_inputs_stay(last):
    given = inputs(2, 8, 2, 8, 5, 6, last=last)
    before = [tensor.clone() for tensor in given]
    out, slopes = gradients(deform_align, given, torch.ones(2, 8, 5, 6), groups=2, max_residue=REACH)
    compiled = not backend().name.startswith("reference")  # autograd lays the gradient of the reference out by itself
    for tensor in (out, slopes[0]) if compiled else (out,):
        assert tensor.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    for tensor, kept in zip(given, before, strict=True):
        assert torch.equal(tensor, kept)


@pytest.mark.parametrize("front", [deform_align, deform_align_reference])
@pytest.mark.parametrize(
    "change, message",
    [
        ({0: torch.zeros(8, 5, 6)}, r"deform_align: features must be \[b, c, h, w\], got \[8, 5, 6\]"),
        (
            {1: torch.zeros(2, 100, 5, 6)},
            r"deform_align: raw must be \[b, 27\*groups, h, w\] = \[2, 108, 5, 6\], got \[2, 100",
        ),
        (
            {2: torch.zeros(2, 2, 5, 5)},
            r"deform_align: flow_1 must be \[b, 2, h, w\] = \[2, 2, 5, 6\], got \[2, 2, 5, 5\]",
        ),
        ({3: torch.zeros(1, 2, 5, 6)}, r"deform_align: flow_2 must be"),
        ({4: torch.zeros(3, 8, 5, 5)}, r"deform_align: weight must be .* = \[c_out, 8, 3, 3\], got \[3, 8, 5, 5\]"),
        ({5: torch.zeros(4)}, r"deform_align: bias must be \[c_out\] = \[3\], got \[4\]"),
        ({0: torch.zeros(2, 8, 5, 6, dtype=torch.int64)}, r"deform_align: features must be float32.*, got torch.int64"),
        ({1: torch.zeros(2, 108, 5, 6, device="meta")}, r"deform_align: raw must be on cpu, like features, got meta"),
        ({"groups": 3}, r"deform_align: groups must be a divisor of the 8 channels of features, got 3"),
        ({"groups": 1}, r"deform_align: groups must be even where there are two sources, got 1"),
        ({"max_residue": -1.0}, r"deform_align: max_residue must be .*, got -1.0"),
    ],
)
def test_errors(front, change, message):
    given = inputs(2, 2, 4, 3, 5, 6)
    options = {"groups": 4, "max_residue": REACH}
    for key, value in change.items():
        if isinstance(key, int):
            given[key] = value
        else:
            options[key] = value
    with pytest.raises(ValueError, match=message):
        front(*given, **options)


@needs_extension
def test_errors_behind_the_front():
    given = inputs(2, 2, 4, 3, 5, 6)
    with pytest.raises(ValueError, match=r"deform_align: raw must be \[2, 54, 5, 6\], got \[2, 108, 5, 6\]"):
        torch.ops.davsr.deform_align(*given, 2, REACH)
    with pytest.raises(ValueError, match="level must be one of"):
        torch.ops.davsr.deform_align(*given, 4, REACH, "z80")


def test_autocast_rounds_features_and_weights_only():
    given = inputs(1, 8, 4, 8, 6, 7, flow=20.0)
    with torch.autocast("cpu", torch.bfloat16):
        out = deform_align(*given, groups=4, max_residue=REACH)
    assert out.dtype == torch.bfloat16
    rounded = [tensor.bfloat16().double() if i in (0, 4, 5) else tensor.double() for i, tensor in enumerate(given)]
    expected = deform_align_reference(*rounded, groups=4, max_residue=REACH)
    # one rounding of the result; coordinates in bfloat16 would be off by up to 0.06 pixels and miss this by far
    torch.testing.assert_close(out.double(), expected, rtol=2**-8, atol=1e-4)


def test_torch_compile_and_export():
    given = [tensor.requires_grad_() for tensor in inputs(1, 4, 4, 4, 6, 7)]

    class Align(torch.nn.Module):
        def forward(self, *x: Tensor) -> Tensor:
            return torch.tanh(deform_align(*x, groups=4, max_residue=REACH))

    align = Align()
    expected = align(*given)
    grad = torch.ones_like(expected)
    slopes = torch.autograd.grad(expected, given, grad)
    compiled = torch.compile(align, fullgraph=True)(*given)
    torch.testing.assert_close(compiled, expected)
    for ours, slope in zip(torch.autograd.grad(compiled, given, grad), slopes, strict=True):
        torch.testing.assert_close(ours, slope)
    exported = torch.export.export(align, tuple(tensor.detach() for tensor in given))
    torch.testing.assert_close(exported.module()(*given), expected)


@needs_extension
def test_memory_is_flat_over_1000_calls():
    given = inputs(1, 8, 4, 16, 24, 24)
    grad = torch.ones(1, 16, 24, 24)
    for _ in range(50):
        gradients(deform_align, given, grad, groups=4, max_residue=REACH)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        gradients(deform_align, given, grad, groups=4, max_residue=REACH)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096, f"{grown} KiB"  # one call's tensors are 1.5 MiB: a leak of any of them would show as gigabytes
