"""Memory of large results: large pages where no derivative or transformation looks on, the same numbers everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from davsr.physics.degradation import Degradation
from davsr.physics.fresh import fresh_like

large_pages = pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no large pages in this kernel"
)


def clips(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """x of 4.4 MB in float32, and y."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 10, 192, 192, generator=generator, dtype=dtype)
    return x, torch.rand(1, 3, 2, 48, 48, generator=generator, dtype=dtype)


@pytest.mark.parametrize("exposure", [None, 7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_data_step_is_the_same_with_and_without_gradients(exposure, dtype):
    A = Degradation((5, 4, 4), exposure=exposure)
    x, y = clips(dtype)
    kept = x.clone()
    expected = A.data_step(x.requires_grad_(), y, 0.01).detach()
    x.requires_grad_(False)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            first, second = A.data_step(x, y, 0.01), A.data_step(x, y, 0.01)
        torch.testing.assert_close(first, expected)
        assert torch.equal(first, second) and first.data_ptr() != second.data_ptr()
    assert torch.equal(x, kept)
    with torch.no_grad():
        torch.testing.assert_close(A.data_step(x.transpose(3, 4).contiguous().transpose(3, 4), y, 0.01), expected)


@large_pages
def test_large_results_ask_for_large_pages():
    with torch.no_grad():
        out = fresh_like(clips()[0])
    assert out is not None
    middle, inside = out.data_ptr() + out.nbytes // 2, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= middle < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            assert " hg" in line
            return
    raise AssertionError("the memory is not among the mapped")


def test_transformations_find_their_own_memory():
    A = Degradation((5, 4, 4))
    x, y = clips()
    assert fresh_like(x) is None  # a gradient may be wanted
    with torch.no_grad():
        expected = A.data_step(x, y, 0.01)
        assert fresh_like(x[..., :48]) is None and fresh_like(x.to("meta")) is None
        with forward_ad.dual_level():
            moved = A.data_step(forward_ad.make_dual(x, x), forward_ad.make_dual(y, y), 0.01)
            torch.testing.assert_close(forward_ad.unpack_dual(moved).tangent, expected)  # it is linear
