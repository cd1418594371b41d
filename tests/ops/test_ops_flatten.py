"""flatten: the gradient of the total variation, every compiled level, the derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from davsr.ops import backend, flatten, flatten_reference
from tests.ops.by_threads import assert_threads_change_nothing

COMPILED = backend().name != "reference"
LEVELS = torch.ops.davsr.cpu_levels() if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")
FLAT = 0.02
SHAPES = [
    (2, 3, 2, 7, 37),
    (1, 1, 3, 5, 4),
    (1, 2, 1, 1, 6),
    (1, 3, 1, 6, 1),
    (1, 3, 2, 1, 1),
    (0, 3, 2, 4, 4),
    (1, 3, 0, 4, 4),
]


def inputs(shape, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """x, a gradient, the step."""
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x, grad, torch.tensor(0.03, dtype=dtype)


def test_it_is_a_step_down_the_total_variation():
    """By autograd of the sum of sqrt(|D x|^2 + flat^2) itself."""
    x, _, step = inputs((1, 3, 2, 5, 6))
    x.requires_grad_()
    dx, dy = torch.zeros_like(x), torch.zeros_like(x)
    dx[..., :-1], dy[..., :-1, :] = x.diff(dim=4), x.diff(dim=3)
    variation = ((dx**2 + dy**2).sum(dim=1) + FLAT**2).sqrt().sum()
    (slope,) = torch.autograd.grad(variation, x)
    torch.testing.assert_close(flatten(x, step, flat=FLAT), x - step * slope)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_reference(level, shape, dtype):
    x, grad, step = inputs(shape, dtype)
    results = []
    for run in (
        lambda x, step: torch.ops.davsr.flatten(x, step, FLAT, level),
        lambda x, s: flatten_reference(x, s, flat=FLAT),
    ):
        given = x.clone().requires_grad_(), step.clone().requires_grad_()
        out = run(*given) if min(shape[1:]) else torch.ops.davsr.flatten(*given, FLAT, level)
        results.append([out, *torch.autograd.grad(out, given, grad)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
def test_gradcheck(level):
    x, _, step = inputs((1, 2, 2, 3, 5))
    given = x.requires_grad_(), step.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: torch.ops.davsr.flatten(x, s, FLAT, level), given)


@needs_extension
@pytest.mark.parametrize("strided", [False, True])
def test_opcheck(strided):
    x, _, step = inputs((1, 3, 2, 4, 5), torch.float32)
    if strided:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    torch.library.opcheck(torch.ops.davsr.flatten.default, (x.requires_grad_(), step.requires_grad_(), FLAT))


@needs_extension
def test_threads_change_nothing():
    x, grad, step = inputs((1, 3, 3, 20, 30), torch.float32)
    ops = torch.ops.davsr
    assert_threads_change_nothing(lambda: [ops.flatten(x, step, FLAT), *ops.flatten_backward(grad, x, step, FLAT)])


@pytest.mark.parametrize("front", [flatten, flatten_reference])
@pytest.mark.parametrize(
    "x, flat, message",
    [
        (torch.zeros(3, 4, 5), FLAT, r"flatten: x must be \[b, c, T, H, W\], got \[3, 4, 5\]"),
        (torch.zeros(1, 3, 1, 4, 5).half(), FLAT, "flatten: x must be float32 or float64, got torch.float16"),
        (torch.zeros(1, 3, 1, 4, 5), 0.0, "flatten: flat must be above 0, got 0.0"),
    ],
)
def test_errors(front, x, flat, message):
    with pytest.raises(ValueError, match=message):
        front(x, 0.1, flat=flat)
