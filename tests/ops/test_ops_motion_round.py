"""motion_round: some frames of a clip, whose frames lie in a ring, averaged and flattened in one pass."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from davsr.ops import flatten, motion_average_reference, motion_round, resize_flow
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import LEVELS, SCALES, STEPS, inputs
from tests.ops.test_ops_motion_pass import needs_extension

# Shape, cell, whether motion is of cells; strips, bands of rows, cells that do not fit
CASES = [
    ((1, 3, 9, 12, 20), (4, 4), True),
    ((2, 2, 7, 9, 18), (2, 3), False),
    ((1, 3, 8, 8, 1100), (4, 4), True),
    ((1, 3, 6, 140, 1500), (4, 4), True),
    ((1, 1, 6, 11, 23), (4, 4), True),
]
IDS = ["x".join(map(str, shape)) for shape, _, _ in CASES]
HELD = 6


def given(case, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """A clip, its motion on its own grid, and as it is given."""
    shape, cell, coarse = case
    a, motion, _ = inputs(shape, cell, True, dtype)
    if not coarse:
        return a, motion, motion
    b, _, T, H, W = shape
    small = motion[..., : H // cell[0], : W // cell[1]].contiguous() / cell[1]
    return a, resize_flow(small.flatten(0, 1), (H, W)).unflatten(0, (b, T)), small


def in_a_ring(a: Tensor, first: int, n: int) -> Tensor:
    """Frames around first, ..., first + n - 1 in HELD places; what nobody needs is not a number."""
    ring = torch.full_like(a[:, :, :1].expand(-1, -1, HELD, -1, -1).contiguous(), float("nan"))
    for p in range(max(first - 2, 0), min(first + n + 2, a.shape[2])):
        ring[:, :, p % HELD] = a[:, :, p]
    return ring


def rounds(run, case, dtype: torch.dtype = torch.float64, n: int = 2) -> Tensor:
    """All frames of a clip, n at a time."""
    a, _, motion = given(case, dtype)
    made = []
    for first in range(0, a.shape[2], n):
        some = motion[:, first : first + n]
        out = torch.empty_like(a[:, :, first : first + n], memory_format=torch.contiguous_format)
        run(out, in_a_ring(a, first, some.shape[1]), some, first, a.shape[2], case[1])
        made.append(out)
    return torch.cat(made, dim=2)


def front(out: Tensor, a: Tensor, motion: Tensor, first: int, frames: int, cell: tuple[int, int]) -> None:
    made = motion_round(
        a, motion, 0.05, first=first, frames=frames, cell=cell, steps=STEPS, **SCALES, flat=0.02, out=out
    )
    assert made is out


def compiled(
    level: str, out: Tensor, a: Tensor, motion: Tensor, first: int, frames: int, cell: tuple[int, int]
) -> None:
    numbers = (SCALES["mismatch"], SCALES["reach"], 0.02)
    step = torch.tensor(0.05, dtype=a.dtype)
    torch.ops.davsr.motion_round_(out, a, motion, step, first, frames, list(cell), list(STEPS), *numbers, level)


def expected(case, dtype: torch.dtype = torch.float64) -> Tensor:
    a, motion, _ = given(case, dtype)
    mean, _ = motion_average_reference(a, motion, cell=case[1], steps=STEPS, **SCALES)
    return flatten(mean, 0.05, flat=0.02)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_it_is_the_average_of_the_whole_clip_flattened(case, monkeypatch):
    whole = expected(case)
    torch.testing.assert_close(rounds(front, case), whole)
    monkeypatch.setattr("davsr.ops._extension.available", lambda device: False)
    torch.testing.assert_close(rounds(front, case), whole)


@needs_extension
@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("level", [level for level in LEVELS if level != "serial"])
def test_levels_equal_the_reference(level, case):
    whole = expected(case)
    torch.testing.assert_close(rounds(partial(compiled, level), case), whole)
    single = rounds(partial(compiled, level), case, torch.float32)
    assert (single - whole).square().mean().sqrt() < 1e-5  # 2e-7 is measured


@needs_extension
def test_threads_change_nothing():
    for case in (CASES[0], CASES[3]):
        assert_threads_change_nothing(lambda case=case: [rounds(front, case, torch.float32)])


@needs_extension
def test_opcheck():
    a, _, motion = given(CASES[0], torch.float32)
    step = torch.tensor(0.1)
    for out in (torch.zeros(1, 3, 2, 12, 20), torch.zeros(20, 12, 2, 3, 1).permute(4, 3, 2, 1, 0)):
        numbers = (2, 9, [4, 4], list(STEPS), 0.4, 2.0, 0.02)
        torch.library.opcheck(torch.ops.davsr.motion_round_.default, (out, a, motion[:, 2:4], step, *numbers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": 8}, "frames must be of the 9 of the clip, got 2 from 8"),
        ({"held": 5}, "a must hold frames 1 to 6, got 5 places"),
        ({"n": 3}, "out must be"),
        ({"h": 4}, "motion"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    a, _, motion = given(CASES[0])
    first, n = change.get("first", 3), change.get("n", 2)
    out = torch.empty(1, 3, n, 12, 20, dtype=torch.float64)
    some = motion[:, 3:5, :, : change.get("h", 12)]
    if "h" in change:
        some = torch.zeros(1, 2, 2, 4, 5, dtype=torch.float64)
    with pytest.raises((ValueError, RuntimeError), match=message):
        front(out, a[:, :, : change.get("held", 9)].contiguous(), some, first, 9, (4, 4))
