"""motion_average without trust: the one pass of the extension, and the mean in memory that is there."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from davsr.ops import backend, flatten, motion_average, motion_average_reference, motion_blend_reference, motion_mean
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import CASES, IDS, LEVELS, SCALES, STEPS, inputs, specification

needs_extension = pytest.mark.skipif(not LEVELS, reason=f"no extension: {backend().reason}")
# Cells that fit the frame ever worse from left to right and from top to bottom, cells of one pixel, rows that are cut
# into strips, vectors that lie in two rows and columns apart from each other
MORE = [((1, 3, 3, 23, 1100), (4, 4), True), ((1, 2, 2, 31, 47), (8, 16), False), ((1, 3, 3, 5, 40), (1, 1), True)]
ALL = [*CASES, *MORE]
NAMES = [*IDS, *("x".join(map(str, shape)) for shape, _, _ in MORE)]


def average(level: str | None, a: Tensor, motion: Tensor, cell: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if level is None:
        return motion_average_reference(a, motion, cell=cell, steps=STEPS, **SCALES)
    numbers = (SCALES["mismatch"], SCALES["reach"])
    return torch.ops.davsr.motion_average(a, motion, list(cell), list(STEPS), *numbers, level)[:2]


def everything(level: str | None, case, dtype: torch.dtype, motion_gradient: bool = True) -> list[Tensor]:
    """Results and gradients."""
    a, motion, _ = inputs(*case, dtype=dtype)
    a.requires_grad_()
    motion.requires_grad_(motion_gradient)
    found = list(average(level, a, motion, case[1]))
    generator = torch.Generator().manual_seed(9)
    random = [torch.randn(v.shape, generator=generator).to(dtype) for v in found]
    wanted = [a, motion] if motion_gradient else [a]
    pairs = [
        (out, grad) for out, grad in zip(found, random, strict=True) if out.requires_grad
    ]  # one frame: no support's
    slopes = torch.autograd.grad([v for v, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
    found += [torch.zeros_like(v) if g is None else g for g, v in zip(slopes, wanted, strict=True)]
    return [v.detach() for v in found]


@pytest.mark.parametrize("case", [((1, 2, 4, 6, 7), (2, 3), False), ((1, 3, 3, 5, 18), (4, 4), True)])
def test_specification(case):
    a, motion, trust = inputs(*case)
    expected = specification(a, motion, torch.zeros_like(trust), case[1])
    for ours, exact in zip(motion_average(a, motion, cell=case[1], steps=STEPS, **SCALES), expected, strict=True):
        torch.testing.assert_close(ours, exact)


@needs_extension
@pytest.mark.parametrize("case", ALL, ids=NAMES)
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, case):
    for motion_gradient in (True, False):
        ours = everything(level, case, torch.float64, motion_gradient)
        expected = everything(None, case, torch.float64, motion_gradient)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b)


@needs_extension
@pytest.mark.parametrize("case", [*CASES[:3], CASES[-1], *MORE], ids=[*IDS[:3], *NAMES[len(CASES) - 1 :]])
@pytest.mark.parametrize("level", LEVELS)
def test_float32_is_near_float64(level, case):
    """1e-5 rms is asked for; 5e-7 is measured. Of gradients too, but not the motion's: at a pixel's border it jumps."""
    exact = [v.float() for v in everything(level, case, torch.float64, motion_gradient=False)]
    for ours, expected in zip(everything(level, case, torch.float32, motion_gradient=False), exact, strict=True):
        assert (ours - expected).square().mean().sqrt() < 1e-5 * max(1.0, float(expected.std()))


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_gradcheck(level):
    a, motion, _ = inputs((1, 2, 3, 3, 18), (2, 4), False)
    motion = motion.floor() + 0.2 + 0.6 * (motion - motion.floor())  # away from pixels' borders, at steps of 1
    op = torch.ops.davsr.motion_average
    given = (a.requires_grad_(), motion.requires_grad_())
    assert torch.autograd.gradcheck(lambda *v: op(*v, [2, 4], [-1, 1], 0.4, 2.0, level)[:2], given, fast_mode=True)


@needs_extension
@pytest.mark.parametrize("strided", [False, True])
def test_opcheck(strided):
    given = list(inputs((1, 3, 3, 6, 9), (2, 3), False, torch.float32)[:2])
    if strided:
        given = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in given]
        assert not any(v.is_contiguous() for v in given)
    numbers = ([2, 3], list(STEPS), 0.4, 2.0)
    a, motion = (v.requires_grad_() for v in given)
    op = torch.ops.davsr.motion_average
    torch.library.opcheck(op.default, (a, motion, *numbers))
    torch.library.opcheck(op.default, (a, motion.detach(), *numbers))
    mean, support, weight = op(a.detach(), motion.detach(), *numbers)
    known = (a.detach(), motion.detach(), weight, mean, support, *numbers[:3])
    for d_support in (None, support):
        torch.library.opcheck(torch.ops.davsr.motion_average_backward.default, (mean, d_support, *known))
    out = torch.zeros(a.shape)
    torch.library.opcheck(torch.ops.davsr.motion_average_.default, (out, a.detach(), motion.detach(), *numbers))
    step = torch.tensor(0.1)
    torch.library.opcheck(torch.ops.davsr.flatten_.default, (out, a.detach(), step, 0.02))


@needs_extension
def test_threads_change_nothing():
    for case in (((2, 3, 5, 23, 40), (4, 4), False), *CASES[2:4], *MORE):
        for wanted in (True, False):
            run = partial(everything, LEVELS[0], case, torch.float32, wanted)
            assert_threads_change_nothing(run)


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30, 1e9])
def test_a_motion_that_leads_nowhere_stays_inside_the_frame(level, value):
    """It is held at the border; the other pixels of its vector are what they are without it."""
    a, motion, _ = inputs((1, 3, 3, 8, 40), (4, 4), True, torch.float32)
    wide = (SCALES["mismatch"] * 1e9, 1e9)  # weights that depend on nothing
    op = partial(torch.ops.davsr.motion_average, cell=[4, 4], steps=list(STEPS), mismatch=wide[0], reach=wide[1])
    clean = op(a, motion, level=level)[0]
    for column in (20, 0, 15, 39):
        wild = motion.clone()
        wild[0, 1, :, 3, column] = value
        given = a.clone().requires_grad_()
        mean, support, _ = op(given, wild, level=level)
        changed = (mean != clean).any(dim=1)[0]
        assert changed.sum() <= 1 and mean.isfinite().all() and support.isfinite().all()
        mean.sum().backward()
        assert given.grad.isfinite().all()
        torch.testing.assert_close(given.grad.sum(), torch.tensor(float(mean.numel())))  # weights that sum to one


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strided", [False, True])
def test_the_mean_lies_where_it_is_wanted(dtype, strided):
    """And what is flattened."""
    a, motion, _ = inputs((2, 3, 3, 9, 40), (4, 4), True, dtype)
    out = torch.full_like(a, float("nan"))
    if strided:
        out = out.transpose(0, -1).contiguous().transpose(0, -1)
    scales = {"cell": (4, 4), "steps": STEPS, **SCALES}
    assert motion_mean(a, motion, out=out, **scales) is out
    assert torch.equal(out, motion_average(a, motion, **scales)[0])
    into = torch.empty_like(out)
    assert flatten(out, 0.1, flat=0.02, out=into) is into
    assert torch.equal(into, flatten(out, 0.1, flat=0.02))


@needs_extension
def test_errors_of_memory_and_scales():
    a, motion, _ = inputs((1, 3, 3, 6, 9), (2, 3), False, torch.float32)
    scales = {"cell": (2, 3), "steps": STEPS, **SCALES}
    with pytest.raises(ValueError, match="out must be"):
        motion_mean(a, motion, out=a[:, :2].clone(), **scales)
    with pytest.raises(ValueError, match="out must be Float"):
        motion_mean(a, motion, out=a.double(), **scales)
    with pytest.raises(RuntimeError, match="unsupported operation"):
        motion_mean(a, motion, out=a, **scales)
    with pytest.raises(RuntimeError, match="unsupported operation"):
        flatten(a, 0.1, flat=0.02, out=a)
    with pytest.raises(ValueError, match="cell must be two sides within the frame of 6x9"):
        motion_average(a, motion, **{**scales, "cell": (7, 3)})
    for number, name in ((0.0, "mismatch"), (float("nan"), "reach")):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            motion_average(a, motion, **{**scales, name: number})
        given = {**SCALES, name: number}
        with pytest.raises(ValueError, match="mismatch and reach must be above 0"):
            torch.ops.davsr.motion_average(a, motion, [2, 3], list(STEPS), given["mismatch"], given["reach"])


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_the_weights_of_cells_are_those_of_the_mean(level):
    """Of every cell, also where threads or strips meet; none where there is no frame."""
    for case in ALL:
        a, motion, trust = inputs(*case)
        numbers = (SCALES["mismatch"], SCALES["reach"])
        mean, _, weight = torch.ops.davsr.motion_average(a, motion, list(case[1]), list(STEPS), *numbers, level)
        assert weight.shape == trust.shape
        torch.testing.assert_close(mean, motion_blend_reference(a, motion, weight, steps=STEPS)[0])
        for k, step in enumerate(STEPS):
            absent = weight[:, k, max(0, a.shape[2] - step) :] if step > 0 else weight[:, k, :-step]
            assert absent.eq(0).all()


@needs_extension
def test_errors_of_the_gradient():
    a, motion, weight = inputs((1, 3, 3, 6, 9), (2, 3), False, torch.float32)
    mean, support, weight = torch.ops.davsr.motion_average(a, motion, [2, 3], list(STEPS), 0.4, 2.0)
    right = {"d_mean": mean, "d_support": None, "weight": weight, "mean": mean, "support": support}
    for name, wrong, message in (
        ("d_mean", mean[:, :2], "motion_average: grad must be"),
        ("d_support", support[:, :2], "motion_average: grad of support must be"),
        ("weight", weight[..., :2], "motion_average: weight must be"),
        ("mean", mean.double(), "motion_average: mean must be"),
        ("support", support[:, :2], "motion_average: support must be"),
    ):
        d_mean, d_support, *known = {**right, name: wrong}.values()
        with pytest.raises(ValueError, match=message):
            torch.ops.davsr.motion_average_backward(d_mean, d_support, a, motion, *known, [2, 3], list(STEPS), 0.4)
    with pytest.raises(ValueError, match="motion_blend: support must be"):
        torch.ops.davsr.motion_blend_backward(
            mean, support[:, :2], a, motion, weight, mean, support[:, :2], list(STEPS), False
        )
