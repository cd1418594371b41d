"""The camera in one pass and its transpose: sums written out, the reference, every compiled level, the derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from davsr.ops import Axes, backend, camera, camera_adjoint, camera_adjoint_reference, camera_reference
from davsr.physics.degradation import Degradation
from tests.ops.by_threads import assert_threads_change_nothing

COMPILED = backend().name != "reference"
LEVELS = torch.ops.davsr.cpu_levels() if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")


def axes_of(scale, taps, start, circular) -> Axes:
    rng = np.random.default_rng(0)
    return Axes(tuple(tuple(rng.uniform(-1, 1, n)) for n in taps), start, scale, circular)


# Scales that divide a vector and that do not, gaps between windows, windows that reach over several borders at once and
# that lie wholly outside; frames of one sample; exposures that overlap, of more frames than two as well; more taps than
# a GPU's launch takes along, beyond a period of the border; axes that change nothing.
CASES = [
    ((1, 3, 2, 5, 18), axes_of((5, 4, 4), (5, 13, 13), (0, -5, -4), False)),
    ((2, 1, 3, 13, 33), axes_of((2, 3, 3), (4, 7, 6), (-1, -2, -2), True)),
    ((1, 2, 2, 3, 7), axes_of((1, 1, 5), (3, 9, 40), (-1, -20, 25), False)),
    ((1, 1, 1, 1, 1), axes_of((3, 2, 6), (2, 11, 3), (1, -4, 0), True)),
    ((1, 1, 4, 2, 40), axes_of((4, 7, 2), (1, 3, 2), (2, 1, -60), True)),
    ((1, 1, 4, 3, 4), axes_of((2, 3, 2), (7, 5, 3), (-3, -1, 0), False)),
    ((1, 2, 2, 6, 9), axes_of((3, 2, 2), (70, 150, 67), (-30, -70, -3), False)),
    ((2, 1, 3, 2, 4), axes_of((1, 1, 4), (1, 130, 66), (0, 5, -70), True)),
    ((1, 2, 3, 4, 5), Axes(((1.0,), (1.0,), (1.0,)), (0, 0, 0), (1, 1, 1), False)),
    ((0, 3, 1, 2, 2), axes_of((2, 2, 2), (2, 2, 2), (0, 0, 0), False)),
]


def videos(low, axes, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """x on the HR side, y on the LR side."""
    generator = torch.Generator().manual_seed(0)
    high = [*low[:2], *(s * n for s, n in zip(axes.scale, low[2:], strict=True))]
    return tuple(torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype) for size in (high, low))


@pytest.mark.parametrize("front", [camera, camera_reference])
@pytest.mark.parametrize("low, axes", CASES[:-1])
def test_it_is_the_product_of_its_axes(low, axes, front):
    """Against the matrices of the axes, which the degradation's tests hold to their definition."""
    x, y = videos(low, axes)
    matrices = []
    for n, taps, start, scale in zip(low[2:], axes.taps, axes.start, axes.scale, strict=True):
        matrix = torch.zeros(n, scale * n, dtype=torch.float64)
        for i in range(n):
            for k, weight in enumerate(taps):
                at, size = scale * i + start + k, scale * n
                period = size if axes.circular else 2 * size
                at %= period
                matrix[i, at if at < size else period - 1 - at] += weight
        matrices.append(matrix)
    expected = torch.einsum("bcTHW,tT,hH,wW->bcthw", x, *matrices)
    torch.testing.assert_close(front(x, axes), expected)
    torch.testing.assert_close(front(x, axes, y), y - expected)
    adjoint = camera_adjoint if front is camera else camera_adjoint_reference
    spread = torch.einsum("bcthw,tT,hH,wW->bcTHW", y, *matrices)
    torch.testing.assert_close(adjoint(y, axes), spread)
    torch.testing.assert_close(adjoint(y, axes, x), x + spread)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("low, axes", CASES)
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, low, axes, dtype):
    x, y = videos(low, axes, dtype)
    rest = (*axes.taps, axes.start, axes.scale, axes.circular, level)
    ops = torch.ops.davsr
    if not x.numel():
        assert ops.camera(x, y, *rest).shape == y.shape and ops.camera_adjoint(y, x, *rest).shape == x.shape
        return
    close = {} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-4}  # sums of 800 terms: 2e-5 measured
    if dtype == torch.float32 and len(axes.taps[0]) == 70:
        close = {"rtol": 1e-5, "atol": 1e-3}  # of 700,000: values to 800, 2e-4 measured
    torch.testing.assert_close(ops.camera(x, None, *rest), camera_reference(x, axes), **close)
    torch.testing.assert_close(ops.camera(x, y, *rest), camera_reference(x, axes, y), **close)
    torch.testing.assert_close(ops.camera_adjoint(y, None, *rest), camera_adjoint_reference(y, axes), **close)
    expected = camera_adjoint_reference(y, axes, x)
    torch.testing.assert_close(ops.camera_adjoint(y, x, *rest), expected, **close)
    for given in (x, None):  # None: memory that holds x
        for out in (x.clone(), x.transpose(3, 4).contiguous().transpose(3, 4)):
            ops.camera_adjoint_(out, y, given, *rest)
            torch.testing.assert_close(out, expected, **close)


@needs_extension
@pytest.mark.parametrize("columns", [64, 63])
@pytest.mark.parametrize("exposure", [2, 3, 4])
@pytest.mark.parametrize("level", [level for level in LEVELS if level != "serial"])
def test_results_that_are_larger_than_the_caches(level, exposure, columns):
    """They pass the caches by where rows are of whole vectors, and exposures lie apart; nothing beside them changes."""
    axes = axes_of((3, 4, 4), (exposure, 7, 6), (0, -2, -1), False)
    x, y = videos((1, 2, 6, 62, columns), axes, torch.float32)
    assert 4 * x.numel() > 2**23
    for given in (x, None):
        expected = camera_adjoint_reference(y, axes, given)
        for shift in (0, 16, 1):
            memory = torch.full((x.numel() + 64,), torch.nan)
            out = memory[shift : shift + x.numel()].view(x.shape)
            if given is None:
                out.zero_()
            torch.ops.davsr.camera_adjoint_(out, y, given, *axes.taps, axes.start, axes.scale, axes.circular, level)
            torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-4)
            assert memory[:shift].isnan().all() and memory[shift + x.numel() :].isnan().all()


@needs_extension
@pytest.mark.parametrize("circular", [False, True])
def test_gradcheck(circular):
    axes = axes_of((2, 2, 3), (3, 4, 5), (-1, -1, -2), circular)
    x, y = (v.requires_grad_() for v in videos((1, 1, 2, 2, 3), axes))
    for run in (lambda x, y: camera(x, axes, y), lambda x, y: camera_adjoint(y, axes, x)):
        assert torch.autograd.gradcheck(run, (x, y))
        assert torch.autograd.gradgradcheck(run, (x, y))
    assert torch.autograd.gradcheck(lambda x: camera(x, axes), (x,))
    assert torch.autograd.gradcheck(lambda y: camera_adjoint(y, axes), (y,))


@needs_extension
@pytest.mark.parametrize("strided", [False, True])
def test_opcheck(strided):
    low, axes = CASES[1]
    x, y = videos(low, axes, torch.float32)
    if strided:
        x, y = (v.transpose(0, -1).contiguous().transpose(0, -1) for v in (x, y))
    rest = (*axes.taps, axes.start, axes.scale, axes.circular)
    out = torch.empty_like(x)
    torch.library.opcheck(torch.ops.davsr.camera_adjoint_.default, (out, y, x, *rest))
    for given in (x.requires_grad_(), None):
        torch.library.opcheck(torch.ops.davsr.camera_adjoint.default, (y.requires_grad_(), given, *rest))
    for given in (y, None):
        torch.library.opcheck(torch.ops.davsr.camera.default, (x, given, *rest))


@needs_extension
def test_threads_change_nothing():
    axes = axes_of((2, 4, 4), (3, 13, 13), (-1, -5, -5), False)
    x, y = videos((1, 2, 3, 29, 17), axes, torch.float32)
    assert_threads_change_nothing(lambda: [camera(x, axes, y), camera_adjoint(y, axes, x)])


@pytest.mark.parametrize("boundary", ["reflect", "circular"])
@pytest.mark.parametrize("exposure, phase", [(5.0, 0), (3.0, 1), (7.5, -1.25)])
def test_the_data_step_is_the_same_without_the_extension(boundary, exposure, phase, monkeypatch):
    """And its derivatives, in memory that is there too."""
    operator = Degradation((5, 4, 4), exposure, phase, boundary=boundary)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 3, *size, generator=generator, dtype=torch.float64) for size in ((15, 24, 20), (3, 6, 5)))
    alpha = torch.tensor([0.01, 0.02], dtype=torch.float64)
    grad = torch.rand(x.shape, generator=generator, dtype=torch.float64)

    def results() -> list[Tensor]:
        given = [v.clone().requires_grad_() for v in (x, y, alpha)]
        out = operator.data_step(*given)
        own, other = x.clone(), torch.empty_like(x)
        operator.data_step(own, y, alpha, out=own)
        operator.data_step(x, y, alpha, out=other)
        return [out, *torch.autograd.grad(out, given, grad), own, other, operator.apply(x), operator.adjoint(y)]

    ours = results()
    monkeypatch.setattr("davsr.physics.degradation.camera_compiled", lambda x: False)
    for a, b in zip(ours, results(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("front", [camera, camera_adjoint])
def test_errors(front):
    axes = axes_of((1, 2, 2), (1, 2, 2), (0, 0, 0), False)
    name = front.__name__
    with pytest.raises(ValueError, match=rf"{name}: . must be \[b, c, T, H, W\], got \[3, 4, 4\]"):
        front(torch.zeros(3, 4, 4), axes)
    with pytest.raises(ValueError, match=rf"{name}: . must be float32 or float64, got torch.float16"):
        front(torch.zeros(1, 3, 1, 4, 4).half(), axes)
    with pytest.raises(ValueError, match=rf"{name}: . must be \[1, 3, 1, .*, got \[1, 3, 1, 5, 5\]"):
        front(torch.zeros(1, 3, 1, 4, 4), axes, torch.zeros(1, 3, 1, 5, 5))


def test_sizes_that_are_no_multiples():
    axes = axes_of((1, 2, 2), (1, 2, 2), (0, 0, 0), False)
    with pytest.raises(ValueError, match=r"camera: \(T, H, W\) of x must be multiples of the scale \(1, 2, 2\)"):
        camera(torch.zeros(1, 3, 1, 4, 5), axes)
