"""The derivative of a step ahead in the direction of the last change, in one pass: that of autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from davsr.ops import momentum_gradient
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import LEVELS, needs_extension

PASSES = [level for level in LEVELS if level != "serial"]


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", PASSES)
@pytest.mark.parametrize("size", [(1, 1, 1, 1, 1), (2, 3, 2, 37, 29), (0, 3, 2, 4, 4)], ids=str)  # one part, and more
def test_it_is_the_derivative_of_autograd(size, level, dtype):
    generator = torch.Generator().manual_seed(0)
    z, before, d_ahead, d_z = (torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(4))
    momentum = torch.tensor(0.9, dtype=torch.float64)
    wanted = [v.requires_grad_() for v in (momentum, z, before)]
    expected = torch.autograd.grad(z + momentum * (z - before), wanted, d_ahead)
    z, before, of_z, of_ahead = (v.detach().to(dtype, copy=True) for v in (z, before, d_z, d_ahead))
    of_momentum = torch.ops.davsr.momentum_backward_(of_z, of_ahead, z, before, 0.9, level)
    results = (of_momentum, of_z - d_z.to(dtype), of_ahead)
    for made, wanted_of_it in zip(results, expected, strict=True):
        torch.testing.assert_close(made, wanted_of_it.to(dtype), rtol=1e-5, atol=1e-5)


@needs_extension
def test_memory_that_is_not_its_own_is_refused():
    z, before, d_z, d_ahead = (torch.rand(1, 3, 2, 4, 4) for _ in range(4))
    with pytest.raises(ValueError, match="momentum: before must be"):
        momentum_gradient(d_z, d_ahead, z, before[..., :2], 0.9)
    with pytest.raises(ValueError, match="momentum: d_ahead must be"):
        momentum_gradient(d_z, d_ahead.double(), z, before, 0.9)
    with pytest.raises(ValueError, match="momentum: d_z and d_ahead must be contiguous"):
        momentum_gradient(d_z.mT, d_ahead, z, before, 0.9)
    for same in ((d_z, d_z, z, before), (d_z, d_ahead, d_z, before), (d_z, d_ahead, z, d_ahead)):
        with pytest.raises(RuntimeError, match="memory"):
            momentum_gradient(*same, 0.9)


@needs_extension
def test_threads_change_nothing():
    z, before, d_z, d_ahead = (torch.rand(1, 3, 2, 64, 64) for _ in range(4))

    def run() -> list[Tensor]:
        of_z, of_ahead = d_z.clone(), d_ahead.clone()
        return [momentum_gradient(of_z, of_ahead, z, before, 0.9), of_z, of_ahead]

    assert_threads_change_nothing(run)


@needs_extension
def test_opcheck():
    tensors = [torch.rand(1, 3, 2, 4, 4) for _ in range(4)]
    torch.library.opcheck(torch.ops.davsr.momentum_backward_.default, (*tensors, 0.9))
