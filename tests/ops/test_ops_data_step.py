"""The data step in one call: the least squares that it solves, the reference, every compiled level, any memory."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys

import pytest
import torch
from torch import Tensor

from davsr.ops import Axes, backend, data_step, data_step_reference
from davsr.physics.degradation import Degradation
from tests.ops.by_threads import assert_threads_change_nothing

COMPILED = backend().name != "reference"
LEVELS = [level for level in torch.ops.davsr.cpu_levels() if level != "serial"] if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")

# Frames of one pixel, of fewer columns than a vector and more, of more rows than one thread takes at a time; several
# samples, channels and LR frames, and none; exposures with gaps between them; borders of both kinds.
CASES = [
    (Degradation((5, 4, 4)), (1, 3, 2, 5, 18)),
    (Degradation((2, 3, 3), exposure=1, boundary="circular"), (2, 1, 3, 7, 33)),
    (Degradation((1, 2, 5), psf="gaussian"), (1, 2, 1, 1, 1)),
    (Degradation((1, 1, 2), psf="box"), (1, 1, 2, 61, 16)),
    (Degradation((2, 2, 2)), (0, 3, 1, 2, 2)),
]


def given(
    A: Degradation, low: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], Axes, list[Tensor]]:
    """x, y, alpha; the axes; the bases and the spectrum."""
    generator = torch.Generator().manual_seed(0)
    high = [*low[:2], *(s * n for s, n in zip(A.scale, low[2:], strict=True))]
    x, y = (torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype) for size in (high, low))
    alpha = torch.linspace(0.05, 0.5, max(low[0], 1), dtype=dtype)[: low[0]]
    rows, columns = A._space
    spectrum = A._time.joint_eigenvalues(rows, columns, (1, *low[3:]), x)[0]
    axes = A._by_axes
    assert axes is not None
    return [x, y, alpha], axes, [rows.basis(low[3], x), columns.basis(low[4], x), spectrum]


@pytest.mark.parametrize("front", [data_step, data_step_reference])
@pytest.mark.parametrize("A, low", CASES[:-1], ids=str)
def test_it_solves_the_least_squares(A, low, front):
    """At the minimum of ||y - A z||^2 + alpha ||z - x||^2 the gradient is zero; and alpha u = y - A z."""
    (x, y, alpha), axes, solution = given(A, low)
    for observed in (y, None):
        z, u = front(x, observed, alpha, axes, *solution)
        left = (torch.zeros_like(y) if observed is None else y) - A.apply(z)
        penalty = alpha.view(-1, 1, 1, 1, 1)
        torch.testing.assert_close(A.adjoint(left), penalty * (z - x), atol=1e-11, rtol=0)
        torch.testing.assert_close(penalty * u, left, atol=1e-11, rtol=0)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("A, low", CASES, ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, A, low, dtype):
    (x, y, alpha), axes, solution = given(A, low, dtype)
    rest = (*axes.taps, axes.start, axes.scale, axes.circular, level)
    for observed in (y, None):
        z = torch.full_like(x, torch.nan)
        u = torch.ops.davsr.data_step_(z, x, observed, alpha, *solution, *rest)
        assert u.is_contiguous()
        torch.testing.assert_close((z, u), data_step_reference(x, observed, alpha, axes, *solution))


@needs_extension
def test_it_takes_any_memory():
    """Frames whose pixels do not follow each other, and a result in their place."""
    A, low = CASES[0]
    (x, y, alpha), axes, solution = given(A, low)
    expected = data_step_reference(x, y, alpha, axes, *solution)
    apart = x.transpose(1, 2).contiguous().transpose(1, 2)
    last = y.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(data_step(apart, last, alpha, axes, *solution), expected)
    z, _ = data_step(apart, last, alpha, axes, *solution, out=apart)
    assert z is apart
    torch.testing.assert_close(apart, expected[0])


@needs_extension
@pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for on Linux")
def test_pages_that_the_system_has_not_given_yet():
    """All of a large result's, and no other ones."""
    A, low = Degradation((3, 4, 4)), (1, 1, 6, 64, 72)
    (x, y, alpha), axes, solution = given(A, low, torch.float32)
    page, beside = mmap.PAGESIZE, 2**21
    memory = mmap.mmap(-1, beside + 4 * x.numel() + beside)
    with contextlib.suppress(OSError):  # a system without large pages, which would reach beyond the result
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    all_of_it = torch.frombuffer(memory, dtype=torch.uint8)
    out = all_of_it[beside + 12 : beside + 12 + 4 * x.numel()].view(torch.float32).view(x.shape)
    z, _ = data_step(x, y, alpha, axes, *solution, out=out)
    assert z is out
    present = (ctypes.c_ubyte * (len(memory) // page))()
    address = ctypes.c_void_p(all_of_it.data_ptr())
    assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(len(memory)), present) == 0
    first, last = (beside + 12) // page, (beside + 12 + 4 * x.numel() - 1) // page
    assert [i for i, there in enumerate(present) if there & 1] == list(range(first, last + 1))
    torch.testing.assert_close(out, data_step_reference(x, y, alpha, axes, *solution)[0])


@needs_extension
def test_threads_change_nothing():
    A, low = CASES[0]
    (x, y, alpha), axes, solution = given(A, low, torch.float32)
    assert_threads_change_nothing(lambda: data_step(x, y, alpha, axes, *solution))


@needs_extension
@pytest.mark.parametrize(
    "name, sizes",
    [("alpha", (2,)), ("rows_basis", (5, 6)), ("columns_basis", (18,)), ("spectrum", (18, 5)), ("y", (1,))],
)
def test_what_does_not_fit_is_refused(name, sizes):
    A, low = CASES[0]
    (x, y, alpha), axes, solution = given(A, low)
    tensors = dict(zip(("y", "alpha", "rows_basis", "columns_basis", "spectrum"), (y, alpha, *solution), strict=True))
    rest = (*axes.taps, axes.start, axes.scale, axes.circular)
    tensors[name] = x.new_zeros(sizes)
    with pytest.raises(ValueError, match=f"data_step_: {name} must be"):
        torch.ops.davsr.data_step_(x, None, *tensors.values(), *rest)
    tensors[name] = tensors[name].float()
    with pytest.raises(ValueError, match=f"data_step_: {name} must be"):
        torch.ops.davsr.data_step_(x, None, *tensors.values(), *rest)


@needs_extension
def test_what_was_observed_may_not_lie_in_the_result():
    A, low = Degradation((1, 1, 1), psf="delta"), (1, 1, 2, 3, 4)
    (x, _, alpha), axes, solution = given(A, low)
    rest = (*axes.taps, axes.start, axes.scale, axes.circular)
    with pytest.raises(RuntimeError, match=r"overlap|memory"):
        torch.ops.davsr.data_step_(x, None, x, alpha, *solution, *rest)


@needs_extension
def test_a_degradation_goes_by_it(monkeypatch):
    """Where exposures lie apart, and no derivative is wanted of its parts; not where they overlap."""
    calls = []
    monkeypatch.setattr("davsr.physics.degradation.data_step", lambda *a, **k: calls.append(1) or data_step(*a, **k))
    x, y = torch.rand(1, 1, 6, 8, 8), torch.rand(1, 1, 3, 4, 4)
    for A, expected in ((Degradation((2, 2, 2)), 1), (Degradation((2, 2, 2), exposure=3.5), 0)):
        calls.clear()
        A.data_step(x, y, 0.1)
        assert len(calls) == expected
        A.data_step(x.requires_grad_(), y, 0.1).sum().backward()
        assert len(calls) == 3 * expected
        x.requires_grad_(False)


@needs_extension
def test_opcheck():
    A, low = CASES[0]
    (x, y, alpha), axes, solution = given(A, low, torch.float32)
    rest = (alpha, *solution, *axes.taps, axes.start, axes.scale, axes.circular)
    for started, observed in ((x.clone(), y), (None, None)):
        torch.library.opcheck(torch.ops.davsr.data_step_.default, (x, started, observed, *rest))
