"""motion_average and its parts.

The average pixel by pixel, every compiled level, the gradients, and what is refused.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from davsr.ops import (
    backend,
    motion_average,
    motion_average_reference,
    motion_blend,
    motion_blend_reference,
    motion_mismatch,
    motion_mismatch_reference,
)
from tests.ops.by_threads import assert_threads_change_nothing

COMPILED = backend().name != "reference"
LEVELS = torch.ops.davsr.cpu_levels() if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")
STEPS = (-2, -1, 1, 2)
SCALES = {"mismatch": 0.4, "reach": 2.0}
# b, c, T, H, W, cell: vectors of 16, 8 and 4 pixels whole and cut, cells that do not divide the frame, one pixel, one
# frame, fewer frames than steps, motion across many rows of a vector (smooth = False)
CASES = [
    ((2, 3, 5, 19, 41), (4, 4), True),
    ((1, 3, 4, 24, 48), (4, 4), False),
    ((1, 1, 3, 9, 7), (2, 3), False),
    ((1, 2, 6, 8, 70), (8, 5), True),
    ((1, 3, 1, 8, 8), (4, 4), False),
    ((1, 3, 2, 1, 1), (1, 1), False),
    ((33, 1, 2, 4, 4), (4, 2), False),
    ((0, 3, 3, 8, 8), (4, 4), False),
    ((1, 3, 3, 40, 64), (4, 4), "sheared"),
]
IDS = ["x".join(map(str, shape)) for shape, _, _ in CASES]


def inputs(shape, cell, smooth: bool | str, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """a, motion, and numbers in cells."""
    b, c, T, H, W = shape
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    motion = 6 * uniform(b, T, 2, H, W) - 3
    if smooth == "sheared":  # a vector's pixels lie in a few rows, one after the other
        across, down = (
            torch.arange(W, dtype=torch.float64) - W / 2,
            torch.arange(H, dtype=torch.float64)[:, None] - H / 2,
        )
        motion = 0.05 * motion + torch.stack([0.1 * down.expand(H, W), 0.17 * across.expand(H, W)])
    elif smooth:  # fractions of a pixel across a vector, but beyond the borders of the frame
        motion = 0.05 * motion + torch.tensor([2.7, -1.4], dtype=torch.float64)[:, None, None]
    return tuple(
        v.to(dtype) for v in (uniform(b, c, T, H, W), motion, uniform(b, len(STEPS), T, H // cell[0], W // cell[1]))
    )


def at_level(level: str | None):
    """The three front functions, by the kernels of one level; None: the references."""
    if level is None:
        return motion_mismatch_reference, motion_blend_reference
    return (
        lambda a, motion, *, cell, steps: torch.ops.davsr.motion_mismatch(a, motion, list(cell), list(steps), level),
        lambda a, motion, weight, *, steps: torch.ops.davsr.motion_blend(a, motion, weight, list(steps), level),
    )


def specification(a: Tensor, motion: Tensor, trust: Tensor, cell: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The page's equations in Python's own numbers."""
    b, c, T, H, W = a.shape
    h, w = H // cell[0], W // cell[1]

    def held(at: float, size: int) -> tuple[int, int, float]:
        at = min(max(at, 0.0), size - 1.0)
        low = int(at)
        return low, min(low + 1, size - 1), at - low

    def sample(n: int, k: int, p: int, y: int, x: int) -> list[float]:
        dx, dy = motion[n, p, :, y, x].tolist()
        y0, y1, v = held(y + STEPS[k] * dy, H)
        x0, x1, u = held(x + STEPS[k] * dx, W)
        f = a[n, :, p + STEPS[k]]
        mixed = (1 - v) * ((1 - u) * f[:, y0, x0] + u * f[:, y0, x1]) + v * ((1 - u) * f[:, y1, x0] + u * f[:, y1, x1])
        return mixed.tolist()

    def raised(of: list[list[float]], y: int, x: int) -> float:
        y0, y1, v = held((y + 0.5) * h / H - 0.5, h)
        x0, x1, u = held((x + 0.5) * w / W - 0.5, w)
        return (1 - v) * ((1 - u) * of[y0][x0] + u * of[y0][x1]) + v * ((1 - u) * of[y1][x0] + u * of[y1][x1])

    mean, support = torch.zeros_like(a), torch.zeros(b, T, H, W, dtype=a.dtype)
    for n in range(b):
        for p in range(T):
            present = [k for k, step in enumerate(STEPS) if 0 <= p + step < T]
            moved = {(k, y, x): sample(n, k, p, y, x) for k in present for y in range(H) for x in range(W)}
            weights = {}
            for k in present:
                weights[k] = [[0.0] * w for _ in range(h)]
                for i in range(h):
                    for j in range(w):
                        inside = [
                            (y, x)
                            for y in range(i * cell[0], (i + 1) * cell[0])
                            for x in range(j * cell[1], (j + 1) * cell[1])
                        ]
                        squares = [
                            (m - own) ** 2
                            for y, x in inside
                            for m, own in zip(moved[k, y, x], a[n, :, p, y, x].tolist(), strict=True)
                        ]
                        error = sum(squares) / len(squares)
                        log_weight = -error / SCALES["mismatch"] ** 2 - STEPS[k] ** 2 / (2 * SCALES["reach"] ** 2)
                        weights[k][i][j] = math.exp(log_weight + float(trust[n, k, p, i, j]))
            for y in range(H):
                for x in range(W):
                    shares = {k: raised(weights[k], y, x) for k in present}
                    total = 1 + sum(shares.values())
                    support[n, p, y, x] = total
                    for i in range(c):
                        value = float(a[n, i, p, y, x]) + sum(shares[k] * moved[k, y, x][i] for k in present)
                        mean[n, i, p, y, x] = value / total
    return mean, support


@pytest.mark.parametrize("front", [motion_average, motion_average_reference])
@pytest.mark.parametrize(
    "case", [((1, 2, 4, 6, 7), (2, 3), False), ((1, 3, 3, 5, 18), (4, 4), True)], ids=["ragged", "wide"]
)
def test_specification(front, case):
    a, motion, trust = inputs(*case)
    expected = specification(a, motion, trust, case[1])
    for ours, exact in zip(front(a, motion, trust, cell=case[1], steps=STEPS, **SCALES), expected, strict=True):
        torch.testing.assert_close(ours, exact)


def everything(level: str | None, case, dtype: torch.dtype, motion_gradient: bool = True) -> list[Tensor]:
    """Results and gradients of both parts."""
    _, cell, _ = case
    given = [v.requires_grad_(motion_gradient or i != 1) for i, v in enumerate(inputs(*case, dtype=dtype))]
    a, motion, weight = given
    mismatch, blend = at_level(level)
    error, (mean, support) = mismatch(a, motion, cell=cell, steps=STEPS), blend(a, motion, weight, steps=STEPS)
    random = [
        torch.randn(v.shape, generator=torch.Generator().manual_seed(9)).to(dtype) for v in (error, mean, support)
    ]
    wanted = [v for v in given if v.requires_grad]
    found = [error, mean, support]
    for out, grad in zip(found, random, strict=True):
        slopes: tuple[Tensor | None, ...] = (None,) * len(wanted)
        if out.requires_grad:  # of a single frame nothing depends on the weights
            slopes = torch.autograd.grad(out, wanted, grad, retain_graph=True, allow_unused=True)
        found = [*found, *(torch.zeros_like(v) if g is None else g for g, v in zip(slopes, wanted, strict=True))]
    return [v.detach() for v in found]


@needs_extension
@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, case):
    for motion_gradient in (True, False):
        ours = everything(level, case, torch.float64, motion_gradient)
        expected = everything(None, case, torch.float64, motion_gradient)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b)


@needs_extension
@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=[IDS[0], IDS[-1]])
@pytest.mark.parametrize("level", LEVELS)
def test_float32_is_near_float64(level, case):
    """1e-5 rms is asked for; 5e-7 is measured. Of gradients too, but not the motion's: at a pixel's border it jumps."""
    exact = [v.float() for v in everything(level, case, torch.float64, motion_gradient=False)]
    for ours, expected in zip(everything(level, case, torch.float32, motion_gradient=False), exact, strict=True):
        assert (ours - expected).square().mean().sqrt() < 1e-5 * max(1.0, float(expected.std()))


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_gradcheck(level):
    a, motion, weight = inputs((1, 2, 3, 3, 18), (2, 4), False)
    motion = motion.floor() + 0.2 + 0.6 * (motion - motion.floor())  # away from pixels' borders, at steps of 1
    steps = (-1, 1)
    given = (a.requires_grad_(), motion.requires_grad_(), weight[:, :2].contiguous().requires_grad_())
    mismatch, blend = at_level(level)
    assert torch.autograd.gradcheck(lambda a, m: mismatch(a, m, cell=(2, 4), steps=steps), given[:2], fast_mode=True)
    assert torch.autograd.gradcheck(lambda *v: blend(*v, steps=steps), given, fast_mode=True)


@needs_extension
@pytest.mark.parametrize("strided", [False, True])
def test_opcheck(strided):
    given = list(inputs((1, 3, 3, 6, 9), (2, 3), False, torch.float32))
    if strided:
        given = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in given]
        assert not any(v.is_contiguous() for v in given)
    a, motion, weight = (v.requires_grad_() for v in given)
    torch.library.opcheck(torch.ops.davsr.motion_mismatch.default, (a, motion, [2, 3], list(STEPS)))
    torch.library.opcheck(torch.ops.davsr.motion_blend.default, (a, motion, weight, list(STEPS)))


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_strided_inputs_equal_contiguous_ones(level):
    given = inputs((2, 3, 3, 6, 9), (2, 3), False)
    strided = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in given]
    mismatch, blend = at_level(level)
    assert torch.equal(mismatch(*strided[:2], cell=(2, 3), steps=STEPS), mismatch(*given[:2], cell=(2, 3), steps=STEPS))
    assert torch.equal(blend(*strided, steps=STEPS)[0], blend(*given, steps=STEPS)[0])


@needs_extension
def test_threads_change_nothing():
    case = ((2, 3, 5, 24, 40), (4, 4), False)
    assert_threads_change_nothing(lambda: everything(LEVELS[0], case, torch.float32))


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_a_motion_that_leads_nowhere_stays_inside_the_frame(level, value):
    """It is held at the border; nothing outside the frames is read or written."""
    a, motion, weight = inputs((1, 3, 3, 8, 40), (4, 4), True, torch.float32)
    clean = at_level(level)[1](a, motion, weight, steps=STEPS)[0]
    motion[0, 1, :, 3, 20] = value
    given = a.requires_grad_(), motion.requires_grad_(), weight.requires_grad_()
    mean, _ = at_level(level)[1](*given, steps=STEPS)
    mean.sum().backward()
    changed = (mean != clean).any(dim=1)[0]
    assert changed.sum() <= 1 and mean.isfinite().all() and a.grad.isfinite().all()


def test_motion_of_a_whole_frame_is_followed():
    """A texture that moves by whole pixels: the neighbours match, and the mean is the frame."""
    texture = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    a = torch.stack([texture.roll((2 * t, -3 * t), (2, 3)) for t in range(5)], dim=2)
    motion = torch.tensor([-3.0, 2.0])[:, None, None].expand(1, 5, 2, 40, 60)
    inside = (..., slice(8, -8), slice(12, -12))
    mean, support = motion_average(a, motion, cell=(4, 4), steps=STEPS, mismatch=0.1, reach=2.0)
    torch.testing.assert_close(mean[inside], a[inside])
    expected = 1 + sum(math.exp(-(step**2) / 8) for step in STEPS)
    torch.testing.assert_close(support[:, 2][inside], torch.full_like(support[:, 2][inside], expected))
    still, _ = motion_average(a, torch.zeros_like(motion), cell=(4, 4), steps=STEPS, mismatch=1.0, reach=2.0)
    assert (still - a)[inside].abs().mean() > 0.05


GIVEN = inputs((1, 3, 3, 6, 9), (2, 3), False, torch.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (partial(motion_mismatch, GIVEN[0][0], GIVEN[1], cell=(2, 3)), r"motion_mismatch: a must be \[b, c, T, H, W\]"),
        (partial(motion_mismatch, GIVEN[0].half(), GIVEN[1], cell=(2, 3)), "a must be float32 or float64"),
        (partial(motion_blend, GIVEN[0], GIVEN[1][:, :2], GIVEN[2]), r"motion must be .* = \[1, 3, 2, 6, 9\], got"),
        (partial(motion_blend, GIVEN[0], GIVEN[1].double(), GIVEN[2]), "motion must be torch.float32 on cpu, like a"),
        (partial(motion_mismatch, GIVEN[0], GIVEN[1], cell=(7, 3)), "cell must be two sides within the frame of 6x9"),
        (partial(motion_blend, GIVEN[0], GIVEN[1], GIVEN[2][:, :3]), r"weight must be \[b, steps, T, h, w\]"),
        (partial(motion_average, *GIVEN, cell=(3, 3), mismatch=0.1, reach=2), "motion_average: trust must be"),
        (partial(motion_average, *GIVEN, cell=(2, 3), mismatch=0, reach=2), "mismatch must be above 0, got 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(steps=STEPS)
    with pytest.raises(ValueError, match="steps must be 1 to 16 distances"):
        motion_mismatch(*GIVEN[:2], cell=(2, 3), steps=())


@needs_extension
def test_errors_of_the_compiled_ops():
    a, motion, weight = GIVEN
    mismatch, blend = torch.ops.davsr.motion_mismatch, torch.ops.davsr.motion_blend
    for call, message in (
        (lambda: mismatch(a[0], motion, [2, 3], [1]), "a must be"),
        (lambda: mismatch(a.half(), motion, [2, 3], [1]), "float32 or float64"),
        (lambda: mismatch(a, motion[:, :2], [2, 3], [1]), "motion must be"),
        (lambda: mismatch(a, motion, [2, 10], [1]), "cell must be"),
        (lambda: mismatch(a, motion, [2, 3], []), "steps must be"),
        (lambda: blend(a, motion, weight, [1]), "weight must be"),
        (lambda: blend(a, motion, weight.double(), list(STEPS)), "weight must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    a, motion, trust = GIVEN
    options = {"cell": (2, 3), "steps": STEPS, **SCALES}
    compiled = torch.compile(lambda *v: motion_average(*v, **options), fullgraph=True)
    torch.testing.assert_close(compiled(a, motion, trust), motion_average_reference(a, motion, trust, **options))
