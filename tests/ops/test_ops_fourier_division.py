"""fourier_division: the full-spectrum formula, the normal equations, the reference, and every compiled level."""

from __future__ import annotations

import resource

import pytest
import torch
from torch import Tensor

from davsr.ops import backend, fold_power, fourier_division, fourier_division_reference

COMPILED = backend().name != "reference"
LEVELS = torch.ops.davsr.cpu_levels() if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")
AXES = (-3, -2, -1)
# scale, LR size: odd, even, unequal; widths whose LR or HR half is its own mirror image or is not
CASES = [
    ((5, 4, 4), (2, 4, 6)),
    ((2, 3, 1), (3, 5, 7)),
    ((1, 1, 1), (1, 3, 4)),
    ((2, 2, 3), (1, 2, 5)),
    ((3, 2, 5), (2, 3, 3)),
    ((1, 2, 4), (1, 4, 1)),
    ((1, 1, 2), (1, 2, 2)),
    ((1, 1, 3), (2, 2, 2)),
    ((2, 1, 4), (2, 2, 40)),
]
IDS = ["x".join(map(str, (*scale, *size))) for scale, size in CASES]


def signals(scale, size, *, b=2, c=3, dtype=torch.float64, seed=0):
    """x, y, point-spread function and alpha."""
    generator = torch.Generator().manual_seed(seed)
    hr = [s * n for s, n in zip(scale, size, strict=True)]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return normal(b, c, *hr), normal(b, c, *size), normal(*hr).abs() / hr[-1], normal(b).abs() + 0.1


def spectra(scale, size, **options):
    x, y, psf, alpha = signals(scale, size, **options)
    return torch.fft.rfftn(x, dim=AXES), torch.fft.rfftn(y, dim=AXES), torch.fft.rfftn(psf), alpha


def at_level(level: str):
    def run(x_hat, y_hat, otf, alpha, *, scale, width, gram=None):
        gram = fold_power(otf, scale=scale, width=width) if gram is None else gram
        pairs = [torch.view_as_real(tensor.resolve_conj()) for tensor in (x_hat, y_hat, otf)]
        return torch.view_as_complex(
            torch.ops.davsr.fourier_division(*pairs, gram, alpha, list(scale), width, level)[0]
        )

    return run


IMPLEMENTATIONS = [("reference", fourier_division_reference), *((level, at_level(level)) for level in LEVELS)]


def gradients(run, given, grad, **options):
    given = [tensor.detach().requires_grad_() for tensor in given]
    out = run(*given, **options)
    return out.detach(), torch.autograd.grad(out, given, grad)


@pytest.mark.parametrize("scale, size", CASES, ids=IDS)
@pytest.mark.parametrize("name, run", IMPLEMENTATIONS, ids=[name for name, _ in IMPLEMENTATIONS])
def test_solves_the_data_step(name, run, scale, size):
    """z minimises ||y - A z||^2 + alpha ||z - x||^2.

    A^T (A z - y) + alpha (z - x) = 0, with A written in full spectra.
    """
    x, y, psf, alpha = signals(scale, size)
    hr = x.shape[-3:]
    spectrum = torch.fft.fftn(psf)

    def blur(v: Tensor, transfer: Tensor) -> Tensor:
        return torch.fft.ifftn(torch.fft.fftn(v, dim=AXES) * transfer, dim=AXES).real

    def adjoint(u: Tensor) -> Tensor:
        stuffed = torch.zeros_like(x)
        stuffed[..., :: scale[0], :: scale[1], :: scale[2]] = u
        return blur(stuffed, spectrum.conj())

    given = torch.fft.rfftn(x, dim=AXES), torch.fft.rfftn(y, dim=AXES), torch.fft.rfftn(psf), alpha
    z = torch.fft.irfftn(run(*given, scale=scale, width=hr[2]), s=hr, dim=AXES)
    observed = blur(z, spectrum)[..., :: scale[0], :: scale[1], :: scale[2]]
    residual = adjoint(observed - y) + alpha[:, None, None, None, None] * (z - x)
    assert residual.abs().max() < 1e-9


@pytest.mark.parametrize("scale, size", CASES[:5], ids=IDS[:5])
def test_specification(scale, size):
    """The formula bin by bin on the full spectrum, in Python's own numbers."""
    x, y, psf, alpha = signals(scale, size, b=1, c=1)
    (s_t, s_h, s_w), (t, h, w) = scale, size
    hr = x.shape[-3:]
    big_x, big_b = (torch.fft.fftn(v).tolist() for v in (x[0, 0], psf))
    big_y = torch.fft.fftn(y[0, 0]).tolist()
    z = torch.zeros(hr, dtype=torch.complex128)
    for p in range(t):
        for r in range(h):
            for k in range(w):
                aliases = [
                    (p + i * t, r + j * h, k + m * w) for i in range(s_t) for j in range(s_h) for m in range(s_w)
                ]
                blurred = sum(big_b[a][b][c] * big_x[a][b][c] for a, b, c in aliases) / len(aliases)
                power = sum(abs(big_b[a][b][c]) ** 2 for a, b, c in aliases) / len(aliases)
                quotient = (big_y[p][r][k] - blurred) / (power + alpha[0].item())
                for a, b, c in aliases:
                    z[a, b, c] = big_x[a][b][c] + big_b[a][b][c].conjugate() * quotient
    given = torch.fft.rfftn(x, dim=AXES), torch.fft.rfftn(y, dim=AXES), torch.fft.rfftn(psf), alpha
    out = fourier_division_reference(*given, scale=scale, width=hr[2])
    torch.testing.assert_close(out[0, 0], z[..., : hr[2] // 2 + 1])


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale, size", CASES, ids=IDS)
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, scale, size, dtype):
    """Values and all gradients; spectra of no real signal, so that no symmetry hides a wrong bin."""
    generator = torch.Generator().manual_seed(3)
    given = list(spectra(scale, size, dtype=dtype))
    for i in range(3):
        given[i] = torch.randn(given[i].shape, dtype=given[i].dtype, generator=generator)
    grad = torch.randn(given[0].shape, dtype=given[0].dtype, generator=generator)
    width = scale[2] * size[2]
    expected, slopes = gradients(fourier_division_reference, given, grad, scale=scale, width=width)
    out, ours = gradients(at_level(level), given, grad, scale=scale, width=width)
    for our, slope in zip((out, *ours), (expected, *slopes), strict=True):
        # gradients are sums over up to 80 aliases and all bins: relative to the largest, measured 2e-6 in float32
        bound = 1e-5 if dtype == torch.float32 else 1e-13
        assert (our - slope).abs().max() <= bound * slope.abs().max()


@pytest.mark.parametrize("name, run", IMPLEMENTATIONS, ids=[name for name, _ in IMPLEMENTATIONS])
def test_gradcheck(name, run):
    scale, size = (2, 1, 3), (1, 2, 2)
    given = [tensor.requires_grad_() for tensor in spectra(scale, size, b=2, c=1)]
    assert torch.autograd.gradcheck(lambda *v: run(*v, scale=scale, width=6), given, fast_mode=True)


@needs_extension
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_opcheck(strided):
    scale, size = (2, 1, 3), (1, 2, 5)
    x, y, otf, alpha = spectra(scale, size, dtype=torch.float32)
    given = [torch.view_as_real(v) for v in (x, y, otf)]
    if strided:
        given = [v.transpose(0, 1).contiguous().transpose(0, 1) for v in given]
        assert not any(v.is_contiguous() for v in given)
    given = [v.requires_grad_() for v in given]
    gram = fold_power(otf, scale=scale, width=15)
    torch.library.opcheck(
        torch.ops.davsr.fourier_division.default, (*given, gram, alpha.requires_grad_(), list(scale), 15)
    )


@pytest.mark.parametrize("b, c", [(0, 3), (33, 1), (1, 5)])
def test_batches(b, c):
    scale, size = (2, 2, 2), (1, 3, 2)
    x, y, otf, alpha = spectra(scale, size, b=max(b, 1), c=c)
    given = x[:b], y[:b], otf, alpha[:b]
    expected = fourier_division_reference(*given, scale=scale, width=4)
    torch.testing.assert_close(fourier_division(*given, scale=scale, width=4), expected)


def test_lazily_conjugated_and_strided_inputs():
    scale, size = (2, 2, 3), (1, 3, 3)
    x, y, otf, alpha = spectra(scale, size)
    expected = fourier_division(x, y, otf, alpha, scale=scale, width=9)
    lazy = [v.conj().resolve_conj().conj() for v in (x, y, otf)]
    assert all(v.is_conj() for v in lazy)
    strided = [v.transpose(-1, -2).contiguous().transpose(-1, -2) for v in lazy]
    torch.testing.assert_close(fourier_division(*lazy, alpha, scale=scale, width=9), expected)
    torch.testing.assert_close(fourier_division(*strided, alpha, scale=scale, width=9), expected)


def test_given_gram_and_inputs_stay():
    scale, size = (2, 2, 3), (1, 3, 3)
    given = spectra(scale, size)
    before = [v.clone() for v in given]
    gram = fold_power(given[2], scale=scale, width=9)
    once = fourier_division(*given, scale=scale, width=9, gram=gram)
    torch.testing.assert_close(once, fourier_division(*given, scale=scale, width=9))
    for v, kept in zip(given, before, strict=True):
        assert torch.equal(v, kept)


@needs_extension
def test_result_does_not_depend_on_threads():
    scale, size = (3, 2, 2), (2, 5, 6)
    given = spectra(scale, size, dtype=torch.float32)
    grad = torch.ones_like(given[0])
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            out, slopes = gradients(fourier_division, given, grad, scale=scale, width=12)
            results.append([out, *slopes[:3]])  # alpha's is a plain sum of torch's
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name, run", IMPLEMENTATIONS, ids=[name for name, _ in IMPLEMENTATIONS])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_input_stays_in_its_sample(name, run, value):
    scale, size = (2, 2, 2), (1, 2, 3)
    given = list(spectra(scale, size))
    clean = run(*given, scale=scale, width=6)
    given[0] = given[0].clone()
    given[0][0, 0, 0, 0, 0] = value
    out = run(*given, scale=scale, width=6)
    assert not out[0, 0].isfinite().all()
    torch.testing.assert_close(out[1], clean[1])
    torch.testing.assert_close(out[0, 1:], clean[0, 1:])


@pytest.mark.parametrize("front", [fourier_division, fourier_division_reference])
@pytest.mark.parametrize(
    "change, message",
    [
        ({0: torch.zeros(2, 3, 2, 4, 4)}, "fourier_division: x_hat must be complex64 or complex128, got torch.float32"),
        (
            {0: torch.zeros(3, 2, 4, 4) + 0j},
            r"fourier_division: x_hat must be \[b, c, T, H, W//2\+1\], got \[3, 2, 4, 4\]",
        ),
        (
            {1: torch.zeros(2, 3, 1, 2, 3) + 0j},
            r"fourier_division: y_hat must be .* = \[2, 3, 1, 2, 2\], got \[2, 3, 1, 2, 3\]",
        ),
        ({2: torch.zeros(2, 4, 5) + 0j}, r"fourier_division: otf must be .* = \[2, 4, 4\], got \[2, 4, 5\]"),
        ({3: torch.zeros(3)}, r"fourier_division: alpha must be \[b\] = \[2\], got \[3\]"),
        ({3: torch.zeros(2).double()}, "fourier_division: alpha must be torch.float32, like x_hat, got torch.float64"),
        ({"width": 8}, "fourier_division: width must be .* = 4 columns of x_hat, got 8"),
        ({"scale": (2, 3, 2)}, "fourier_division: scale must be a divisor of the 4 HR rows, got 3"),
        ({"scale": (2, 2)}, "fourier_division: scale must be three integers"),
        ({"gram": torch.zeros(1, 2, 3)}, r"fourier_division: gram must be .* = \[1, 2, 2\], got \[1, 2, 3\]"),
    ],
)
def test_errors(front, change, message):
    given = list(spectra((2, 2, 2), (1, 2, 3), dtype=torch.float32))
    options: dict = {"scale": (2, 2, 2), "width": 6}
    for key, value in change.items():
        if isinstance(key, int):
            given[key] = value
        else:
            options[key] = value
    with pytest.raises(ValueError, match=message):
        front(*given, **options)


@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_torch_compile_and_export():
    scale, size = (2, 2, 2), (1, 2, 3)
    given = [tensor.requires_grad_() for tensor in spectra(scale, size, dtype=torch.float32)]

    class Step(torch.nn.Module):
        def forward(self, *v: Tensor) -> Tensor:
            return fourier_division(*v, scale=scale, width=6)

    expected = Step()(*given)
    grad = torch.ones_like(expected)
    slopes = torch.autograd.grad(expected, given, grad)
    compiled = torch.compile(Step(), fullgraph=True)(*given)
    torch.testing.assert_close(compiled, expected)
    for ours, slope in zip(torch.autograd.grad(compiled, given, grad), slopes, strict=True):
        torch.testing.assert_close(ours, slope)
    exported = torch.export.export(Step(), tuple(tensor.detach() for tensor in given))
    torch.testing.assert_close(exported.module()(*given), expected)


@needs_extension
def test_memory_is_flat_over_1000_calls():
    scale, size = (2, 2, 2), (2, 8, 8)
    given = spectra(scale, size, dtype=torch.float32)
    grad = torch.ones_like(given[0])
    for _ in range(50):
        gradients(fourier_division, given, grad, scale=scale, width=16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        gradients(fourier_division, given, grad, scale=scale, width=16)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096, (
        f"{grown} KiB"
    )  # a call's tensors are 0.2 MiB: a leak of any of them would show as 50 MiB or more
