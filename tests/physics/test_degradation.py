"""The operator A and its data step, in float64 over sizes, scales, boundaries, phases, exposures and PSFs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from davsr.physics import factors, solvers
from davsr.physics.degradation import Degradation
from davsr.physics.psf import axis_matrix, bicubic_taps, plane_transfer_function, transfer_function
from davsr.physics.solvers import spectral_data_step_reference

GENERATOR = torch.Generator().manual_seed(0)
ASYMMETRIC = torch.rand(5, 4, generator=GENERATOR, dtype=torch.float64)
_quarter = torch.rand(2, 3, generator=GENERATOR, dtype=torch.float64)
_half = torch.cat([_quarter, _quarter.flip(0)])
MIRRORED = torch.cat([_half, _half.flip(1)], dim=1)  # [4, 6], mirrors about each axis

# scale, exposure, phase, psf, origin, LR size (t, h, w): odd, even and unequal, down to one sample
MODELS = [
    ((5, 4, 4), None, 0, "bicubic", None, (2, 3, 4)),
    ((5, 4, 4), 5, -2, "bicubic", None, (3, 2, 3)),
    ((3, 2, 5), 2.5, 0, "gaussian", None, (2, 4, 3)),
    ((2, 3, 2), 3.25, 1, "box", None, (4, 3, 5)),
    ((4, 1, 2), 9, -1, "bicubic", None, (3, 5, 4)),
    ((1, 2, 3), None, 0, "delta", None, (4, 3, 3)),
    ((5, 1, 1), None, 0, "delta", None, (2, 5, 4)),
    ((2, 2, 3), None, 0, ASYMMETRIC, None, (2, 4, 3)),
    ((3, 4, 2), 4.5, -1, ASYMMETRIC, (0, 3), (3, 3, 5)),
    ((2, 2, 4), 3, 0, MIRRORED, (2, 4), (3, 5, 3)),
    ((2, 2, 2), None, 0, (ASYMMETRIC[:, 0], ASYMMETRIC[0]), (1, 1), (2, 3, 4)),
    ((5, 4, 4), None, 0, "bicubic", None, (1, 1, 1)),
]
CASES = list(itertools.product(MODELS, ["reflect", "circular"], ["auto", "cg"]))


def make(model: tuple, boundary: str, solver: str = "auto") -> tuple[Degradation, Tensor, Tensor]:
    scale, exposure, phase, psf, origin, size = model
    degradation = Degradation(scale, exposure, phase, psf, boundary, solver, origin=origin)
    x = torch.rand(2, 2, *(n * s for n, s in zip(size, scale, strict=True)), generator=GENERATOR, dtype=torch.float64)
    y = torch.rand(2, 2, *size, generator=GENERATOR, dtype=torch.float64)
    return degradation, x, y


def direct(x: Tensor, model: tuple, boundary: str) -> Tensor:
    """A x by its definition for a dense PSF, one LR sample at a time."""
    (s_t, s_h, s_w), exposure, phase, psf, origin, (t, h, w) = model
    exposure = s_t if exposure is None else exposure
    o_h, o_w = origin or (psf.shape[0] // 2, psf.shape[1] // 2)

    def at(p: int, n: int) -> int:
        if boundary == "circular":
            return p % n
        p %= 2 * n
        return p if p < n else 2 * n - 1 - p

    y = x.new_zeros(*x.shape[:2], t, h, w)
    for j, i, k in itertools.product(range(t), range(h), range(w)):
        for p in range(s_t * j + phase, int(np.ceil(s_t * j + phase + exposure))):
            share = min(p + 1, s_t * j + phase + exposure) - p
            for a, b in itertools.product(range(psf.shape[0]), range(psf.shape[1])):
                row, column = at(s_h * i - (a - o_h), s_h * h), at(s_w * k - (b - o_w), s_w * w)
                y[:, :, j, i, k] += share / exposure * psf[a, b] * x[:, :, at(p, s_t * t), row, column]
    return y


@pytest.mark.parametrize("boundary", ["reflect", "circular"])
@pytest.mark.parametrize("model", [m for m in MODELS if isinstance(m[3], Tensor)][:3])
def test_apply_is_its_definition(model: tuple, boundary: str) -> None:
    degradation, x, _ = make(model, boundary)
    torch.testing.assert_close(degradation.apply(x), direct(x, model, boundary))


@pytest.mark.parametrize(("model", "boundary", "solver"), CASES)
def test_adjoint(model: tuple, boundary: str, solver: str) -> None:
    degradation, x, y = make(model, boundary, solver)
    torch.testing.assert_close((degradation.apply(x) * y).sum(), (x * degradation.adjoint(y)).sum())


@pytest.mark.parametrize(("model", "boundary", "solver"), CASES)
def test_data_step_solves_the_normal_equations(model: tuple, boundary: str, solver: str) -> None:
    degradation, x, y = make(model, boundary, solver)
    alpha = torch.tensor([0.003, 0.7], dtype=torch.float64)
    z = degradation.data_step(x, y, alpha)
    gradient = degradation.adjoint(degradation.apply(z) - y) + alpha.view(-1, 1, 1, 1, 1) * (z - x)
    assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_published_form_equals_ours(model: tuple) -> None:
    degradation, x, y = make(model, "circular")
    alpha = torch.tensor([0.02, 0.7], dtype=torch.float64)
    frames, height, width = x.shape[2:]
    time = transfer_function(degradation._time.taps, frames)
    otf = torch.from_numpy(time[:, None, None] * plane_transfer_function(degradation._plane.psf, height, width))
    published = spectral_data_step_reference(x, y, alpha, otf, degradation.scale)
    torch.testing.assert_close(degradation.data_step(x, y, alpha), published)


@pytest.mark.parametrize("solver", ["separable", "fourier", "cg"])
@pytest.mark.parametrize("boundary", ["reflect", "circular"])
def test_all_solvers_agree_where_all_apply(boundary: str, solver: str) -> None:
    model = ((3, 2, 4), 4.5, -1, "bicubic", None, (3, 4, 3))
    automatic, x, y = make(model, boundary)
    chosen, _, _ = make(model, boundary, solver)
    torch.testing.assert_close(chosen.data_step(x, y, 0.01), automatic.data_step(x, y, 0.01), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("boundary", ["reflect", "circular"])
def test_dense_kernel_equals_its_axis_taps(boundary: str) -> None:
    rows, columns = ASYMMETRIC[:, 0], ASYMMETRIC[0]
    model = ((2, 2, 3), None, 0, torch.outer(rows, columns), None, (2, 4, 3))
    dense, x, y = make(model, boundary, "cg")
    axes = Degradation((2, 2, 3), psf=(rows, columns), boundary=boundary)
    assert axes.solver == "separable"
    torch.testing.assert_close(dense.apply(x), axes.apply(x))
    torch.testing.assert_close(dense.data_step(x, y, 0.1), axes.data_step(x, y, 0.1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("s", [1, 2, 3, 4])
def test_bicubic_reflect_is_antialiased_imresize(s: int) -> None:
    """MATLAB's imresize from its formula: weights of the stretched cubic at u = i / scale + (1 - 1 / scale) / 2."""
    size = 7
    n = size * s
    cubic = np.vectorize(
        lambda d: 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d <= 2 else 0.0
    )
    matrix = np.zeros((size, n))
    for i in range(1, size + 1):  # MATLAB counts from one
        u = i * s + 0.5 * (1 - s)
        left = int(np.floor(u - 2 * s))
        indices = np.arange(left, left + 4 * s + 2)
        weights = cubic(np.abs(u - indices) / s) / s
        weights /= weights.sum()
        mirror = np.concatenate([np.arange(1, n + 1), np.arange(n, 0, -1)])
        np.add.at(matrix[i - 1], mirror[(indices - 1) % (2 * n)] - 1, weights)
    a = torch.from_numpy(matrix)
    x = torch.rand(1, 1, 2, n, n, dtype=torch.float64, generator=GENERATOR)
    torch.testing.assert_close(Degradation((1, s, s)).apply(x), a @ x @ a.mT)


def test_identity_and_delta() -> None:
    x = torch.rand(1, 3, 4, 5, 6, dtype=torch.float64, generator=GENERATOR)
    identity = Degradation((1, 1, 1))
    torch.testing.assert_close(identity.apply(x), x)
    torch.testing.assert_close(identity.data_step(x, 2 * x, 1.0), 1.5 * x)
    x = torch.rand(1, 3, 4, 6, 6, dtype=torch.float64, generator=GENERATOR)
    decimation = Degradation((2, 3, 2), exposure=1, psf="delta")
    torch.testing.assert_close(decimation.apply(x), x[:, :, ::2, ::3, ::2])


def test_alpha_limits() -> None:
    degradation, x, y = make(MODELS[0], "reflect")
    torch.testing.assert_close(degradation.data_step(x, y, 1e12), x)
    assert degradation.residual(degradation.data_step(x, y, 1e-9), y).max() < 1e-5  # y - A z = O(alpha / eigenvalue)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 1.0, 1e6])
def test_float32_error(alpha: float) -> None:
    degradation = Degradation()
    x = torch.rand(1, 1, 10, 64, 48, dtype=torch.float64, generator=GENERATOR)
    y = degradation.apply(torch.rand(x.shape, dtype=torch.float64, generator=GENERATOR))
    exact = degradation.data_step(x, y, alpha)
    single = degradation.data_step(x.float(), y.float(), alpha)
    assert (single - exact).abs().max() < 1e-5  # measured: 2e-6 at alpha = 1e-6, whose step amplifies y by up to 30


@pytest.mark.parametrize(
    ("model", "boundary"),
    [
        (MODELS[0], "reflect"),
        (MODELS[7], "reflect"),
        (MODELS[8], "circular"),
        (MODELS[9], "reflect"),
        (MODELS[3], "circular"),
    ],
)
def test_gradients(model: tuple, boundary: str) -> None:
    scale, exposure, phase, psf, origin, _ = model
    degradation, x, y = make((scale, exposure, phase, psf, origin, (2, 2, 1)), boundary)
    x, y = x[:, :1].requires_grad_(), y[:, :1].requires_grad_()
    alpha = torch.tensor([0.05, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(degradation.apply, x, fast_mode=True)
    assert torch.autograd.gradcheck(degradation.adjoint, y, fast_mode=True)
    assert torch.autograd.gradcheck(degradation.data_step, (x, y, alpha), fast_mode=True)


def test_half_precision_and_strides() -> None:
    degradation = Degradation((2, 2, 2))
    x = torch.rand(1, 4, 3, 6, 8, generator=GENERATOR).transpose(1, 2)[:, :, :, ::1]
    before = x.clone()
    y = degradation.apply(x)
    z = degradation.data_step(x, y, 0.1)
    torch.testing.assert_close(x, before)
    torch.testing.assert_close(z, degradation.data_step(x.contiguous(), y, 0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(degradation.data_step(x, y, 0.1), z)
    assert degradation.apply(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("model", [MODELS[0], MODELS[7], MODELS[9]])
def test_bases_made_in_inference_mode_serve_training(model: tuple) -> None:
    degradation, x, y = make(model, "reflect")
    with torch.inference_mode():
        degradation.data_step(x, y, 0.1)
    degradation.data_step(x.requires_grad_(), y, 0.1).sum().backward()
    assert x.grad is not None


def test_largest_eigenvalue() -> None:
    assert Degradation().largest_eigenvalue() == pytest.approx(1 / 80)
    degradation, _, _ = make(((1, 2, 2), None, 0, ASYMMETRIC, None, (1, 16, 16)), "circular")
    basis = torch.eye(256, dtype=torch.float64).view(256, 1, 1, 16, 16)
    gram = degradation.apply(degradation.adjoint(basis)).view(256, 256)
    assert degradation.largest_eigenvalue() == pytest.approx(torch.linalg.eigvalsh(gram).max().item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": (5, 4)}, "degradation.scale: must be three integers"),
        ({"scale": (0, 4, 4)}, "degradation.scale: must be three integers"),
        ({"exposure": 0}, "degradation.exposure: must be a positive"),
        ({"boundary": "wrap"}, "degradation.boundary: must be reflect or circular, got 'wrap'"),
        ({"solver": "svd"}, "degradation.solver: must be auto"),
        ({"psf": "bicubik"}, "degradation.psf: must be bicubic"),
        ({"psf": torch.zeros(3, 3)}, "degradation.psf: a dense kernel must be a non-zero"),
        ({"psf": torch.full((3, 3), float("nan"))}, "degradation.psf: the kernel must be finite"),
        ({"psf": ASYMMETRIC, "solver": "separable"}, "needs a PSF of rank one"),
        ({"psf": ASYMMETRIC, "solver": "fourier"}, "fourier with boundary reflect needs a PSF that mirrors"),
    ],
)
def test_bad_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Degradation(**arguments)


def test_bad_sizes_are_refused() -> None:
    degradation = Degradation()
    with pytest.raises(
        ValueError, match=r"must be multiples of the scale \(5, 4, 4\), got \(6, 8, 9\); nearest below: \(5, 8, 8\)"
    ):
        degradation.apply(torch.zeros(1, 3, 6, 8, 9))
    with pytest.raises(ValueError, match=r"y must be \[1, 3, 1, 2, 2\]"):
        degradation.data_step(torch.zeros(1, 3, 5, 8, 8), torch.zeros(1, 3, 1, 2, 3), 1.0)
    with pytest.raises(ValueError, match=r"alpha must be a number or \[1\], got \[2\]"):
        degradation.data_step(torch.zeros(1, 3, 5, 8, 8), torch.zeros(1, 3, 1, 2, 2), torch.ones(2))
    with pytest.raises(ValueError, match="alpha must be above 0"):
        degradation.data_step(torch.zeros(1, 3, 5, 8, 8), torch.zeros(1, 3, 1, 2, 2), 0.0)
    for alpha in (torch.tensor([0.1, 0.0]), torch.tensor([-1.0, 1.0]), torch.tensor(-1.0)):
        with pytest.raises(ValueError, match="alpha must be above 0"):
            degradation.data_step(torch.zeros(2, 3, 5, 8, 8), torch.zeros(2, 3, 1, 2, 2), alpha)
    with pytest.raises(ValueError, match="must be floating point"):
        degradation.apply(torch.zeros(1, 3, 5, 8, 8, dtype=torch.uint8))


def test_eigenvalues_of_a_dense_kernel_are_computed_once_for_a_size(monkeypatch):
    given = []
    division = solvers.fourier_division
    monkeypatch.setattr(
        solvers,
        "fourier_division",
        lambda *inputs, gram, **how: given.append(gram) or division(*inputs, gram=gram, **how),
    )
    degradation = Degradation(scale=(1, 2, 2), solver="fourier", boundary="circular")
    x, y = torch.rand(1, 3, 2, 8, 12), torch.rand(1, 3, 2, 4, 6)
    for _ in range(2):
        degradation.data_step(x, y, 0.1)
    assert len(given) == 2 and given[0] is given[1] and given[0].shape == (2, 4, 4)


@pytest.mark.parametrize("settings", [{}, {"exposure": 7.0}, {"boundary": "circular", "solver": "fourier"}])
def test_data_step_into_given_memory(settings):
    A = Degradation((5, 2, 2), **settings)
    x, y = torch.rand(2, 3, 10, 8, 8), torch.rand(2, 3, 2, 4, 4)
    expected = A.data_step(x, y, 0.01)
    into = x.clone()
    A.data_step(into, y, 0.01, out=into)
    torch.testing.assert_close(into, expected)


def test_what_the_operator_keeps_for_sizes_it_has_seen_is_bounded() -> None:
    degradation = Degradation(scale=(1, 2, 2), solver="fourier", boundary="circular")
    for n in range(2, 60):
        x = torch.rand(1, 1, 1, 2 * n, 4)
        degradation.data_step(x, degradation.apply(x), 0.1)
    rows, plane = degradation._space[0]._cache, degradation._plane._cache
    assert len(rows._tensors) <= 64 and len(plane._tensors) <= 64
    again = torch.rand(1, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))  # the size that was forgotten first
    fresh = Degradation(scale=(1, 2, 2), solver="fourier", boundary="circular")
    y = fresh.apply(again)
    assert torch.equal(degradation.data_step(again, y, 0.1), fresh.data_step(again, y, 0.1))


def test_large_arrays_are_kept_in_small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors, "_KEPT_BYTES", 1000)
    cache = factors._Cache()
    for n in range(20):
        cache.tensor((n,), torch.zeros(1), lambda: np.zeros(500))
        cache.array((n,), lambda: (np.zeros(500), np.zeros(1)))
    assert [key[0] for key in cache._tensors] == [key[0] for key in cache._arrays] == list(range(12, 20))


def test_an_outer_product_stored_in_float32_is_separable() -> None:
    rows, columns = (torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (9, 12))
    kernel = torch.outer(rows / rows.sum(), columns / columns.sum())
    for stored in (kernel, kernel.float(), kernel.float() / kernel.float().sum(), kernel.float().numpy()):
        assert Degradation(psf=stored).solver == "separable"
    x = torch.rand(1, 1, 5, 24, 32, generator=torch.Generator().manual_seed(0))
    separable, dense = Degradation(psf=kernel.float()), Degradation(psf=kernel.float(), solver="cg")
    y = dense.apply(x)
    torch.testing.assert_close(separable.apply(x), y)
    torch.testing.assert_close(separable.data_step(x, y.flip(3), 0.01), dense.data_step(x, y.flip(3), 0.01))
    other = kernel + 1e-5 * kernel.max() * torch.rand(kernel.shape, generator=torch.Generator().manual_seed(1))
    assert Degradation(psf=other.float()).solver == "cg"


@pytest.mark.parametrize("boundary", ["reflect", "circular"])
@pytest.mark.parametrize(("scale", "size"), [(4, 64), (4, 97), (1, 70), (3, 130)])
@pytest.mark.parametrize("dim", [3, 4])
def test_long_axes_are_filtered_in_parts_that_sum_to_the_matrix(boundary: str, scale: int, size: int, dim: int) -> None:
    factor = factors.AxisFactor(bicubic_taps(scale), scale, boundary)
    matrix = torch.from_numpy(axis_matrix(factor.taps, scale, size, boundary))
    x = torch.randn(2, 1, 2, *((scale * size, 3) if dim == 3 else (3, scale * size)), dtype=torch.float64)
    y = torch.randn(2, 1, 2, *((size, 3) if dim == 3 else (3, size)), dtype=torch.float64)
    x.requires_grad_()
    expected = (matrix @ x.movedim(dim, -2)).movedim(-2, dim)
    seen = factor.apply(x, dim=dim)
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(factor.adjoint(y, dim=dim), (matrix.T @ y.movedim(dim, -2)).movedim(-2, dim))
    (gradient,) = torch.autograd.grad(seen, x, y)
    torch.testing.assert_close(gradient, factor.adjoint(y, dim=dim))


@pytest.mark.parametrize(("model", "boundary", "solver"), CASES)
def test_the_data_step_s_gradient_is_autograd_s(model: tuple, boundary: str, solver: str) -> None:
    degradation, x, y = make(model, boundary, solver)
    alpha = torch.linspace(0.003, 0.01, len(x), dtype=x.dtype)
    leaves = [v.clone().requires_grad_() for v in (x, y)]
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    expected = torch.autograd.grad(degradation.data_step(*leaves, alpha), leaves, grad)
    torch.testing.assert_close(degradation.data_step_gradient(grad, alpha), expected)
    into = grad.clone()
    of_x, of_y = degradation.data_step_gradient(into, alpha, out=into)
    assert of_x.data_ptr() == into.data_ptr()
    torch.testing.assert_close((into, of_y), expected)
