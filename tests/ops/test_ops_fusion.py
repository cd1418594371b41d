"""The ends of the learned prior's fusion: compiled and in plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from davsr.ops import fusion_cells, fusion_cells_reference, fusion_pixels, fusion_pixels_reference
from tests.ops.by_threads import assert_threads_change_nothing
from tests.ops.test_ops_motion_average import LEVELS
from tests.ops.test_ops_motion_pass import needs_extension

SIZES = [(1, 1, 1), (2, 3, 5), (3, 9, 70)]
COMPILED = [level for level in LEVELS if level != "serial"]


def given(n: int, h: int, w: int, known: int = 7) -> tuple[Tensor, ...]:
    """z, picture and detail, which lie side by side in other memory, what is known, cells, trust."""
    generator = torch.Generator().manual_seed(n * h * w)
    shapes = [(n, 3, 4 * h, 4 * w), (n, 6, 4 * h, 4 * w), (n, known, h, w), (n, h, w, 64), (n, 1, h, w)]
    z, fine, about, cells, trust = (torch.randn(shape, generator=generator) for shape in shapes)
    picture, detail = fine.split(3, dim=1)
    return z, picture, detail, about, cells.permute(0, 3, 1, 2), trust


@pytest.mark.parametrize("size", SIZES)
def test_fronts_equal_the_references(size):
    z, picture, detail, known, cells, trust = given(*size)
    made = fusion_cells(z, picture, detail, known, gain=4.0)
    assert made.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(made, fusion_cells_reference(z, picture, detail, known, gain=4.0), rtol=1e-5, atol=1e-5)
    made = fusion_pixels(z, picture, detail, cells, trust, half=0.5, gain=4.0)
    expected = fusion_pixels_reference(z, picture, detail, cells, trust, half=0.5, gain=4.0)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@needs_extension
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", COMPILED)
def test_levels_equal_the_references(level, size):
    z, picture, detail, known, cells, trust = given(*size)
    made = torch.ops.davsr.fusion_cells(z, picture, detail, known, 4.0, level).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, fusion_cells_reference(z, picture, detail, known, gain=4.0), rtol=1e-5, atol=1e-5)
    made = torch.ops.davsr.fusion_pixels(z, picture, detail, cells.permute(0, 2, 3, 1), trust, 0.5, 4.0, level)
    expected = fusion_pixels_reference(z, picture, detail, cells, trust, half=0.5, gain=4.0)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_what_is_learned_is_learned_through_both():
    values = [v.requires_grad_() for v in given(1, 2, 3)]
    z, picture, detail, known, cells, trust = values
    made = fusion_cells(z, picture, detail, known, gain=4.0)
    frames = fusion_pixels(z, picture, detail, cells, trust, half=0.5, gain=4.0)
    slopes = torch.autograd.grad(made.square().sum() + frames.square().sum(), values)
    assert all(slope.abs().sum() > 0 for slope in slopes)


@needs_extension
def test_threads_change_nothing():
    z, picture, detail, known, cells, trust = given(3, 9, 70)
    assert_threads_change_nothing(
        lambda: [
            fusion_cells(z, picture, detail, known, gain=4.0),
            fusion_pixels(z, picture, detail, cells, trust, half=0.5, gain=4.0),
        ]
    )


@needs_extension
def test_opcheck():
    z, picture, detail, known, cells, trust = given(2, 3, 5)
    torch.library.opcheck(torch.ops.davsr.fusion_cells.default, (z, picture, detail, known, 4.0))
    last = cells.permute(0, 2, 3, 1)
    torch.library.opcheck(torch.ops.davsr.fusion_pixels.default, (z, picture, detail, last, trust, 0.5, 4.0))


def test_what_does_not_fit_is_said():
    z, picture, detail, known, cells, trust = given(1, 2, 3)
    with pytest.raises(ValueError, match=r"fusion_cells: z must be \[n, 3, 4 h, 4 w\], got \[1, 3, 8, 10\]"):
        fusion_cells(z[..., :10], picture, detail, known, gain=4.0)
    with pytest.raises(ValueError, match="fusion_pixels: detail must be"):
        fusion_pixels(z, picture, detail[..., :8], cells, trust, half=0.5, gain=4.0)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)known|size"):
        fusion_cells(z, picture, detail, known[..., :2], gain=4.0)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)trust|cells|size"):
        fusion_pixels(z, picture, detail, cells[:, :63], trust, half=0.5, gain=4.0)
