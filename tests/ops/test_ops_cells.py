"""Cells of 4x4 pixels and back: what torch's own shuffles make, cut cells included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from davsr.ops import add_cells, to_cells

SHAPES = [(1, 3, 4, 8, 12), (2, 3, 3, 9, 14), (1, 1, 2, 3, 5), (2, 2, 1, 4, 4), (0, 3, 2, 8, 8), (1, 3, 2, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("frames", [slice(0, None), slice(1, 2), slice(0, 99)], ids=str)
def test_cells_are_pixels_side_by_side(shape, frames):
    generator = torch.Generator().manual_seed(0)
    b, _, T, H, W = shape
    x, support = torch.rand(shape, generator=generator), 1 + torch.rand(b, T, H, W, generator=generator)
    kept = x.clone()
    cells = to_cells(x, support, frames=frames, level=3.0)
    if H % 4 == W % 4 == 0 and cells.numel():
        images = x[:, :, frames].transpose(1, 2).flatten(0, 1)
        assert torch.equal(cells[..., :-1], F.pixel_unshuffle(images, 4).permute(0, 2, 3, 1))
    expected = kept.clone()
    expected[:, :, frames] *= 2
    torch.testing.assert_close(add_cells(x, cells[..., :-1], frames=frames), expected)
    assert torch.equal(x, kept)


def test_both_have_a_derivative():
    x = torch.rand(1, 2, 2, 6, 9, dtype=torch.float64, requires_grad=True)
    support = torch.rand(1, 2, 6, 9, dtype=torch.float64, requires_grad=True)
    part = slice(1, 2)
    assert torch.autograd.gradcheck(lambda x, s: to_cells(x, s, frames=part, level=3.0), (x, support))
    cells = torch.rand(1, 2, 3, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, cells: add_cells(x, cells, frames=part), (x, cells))


def test_errors():
    x, support = torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    with pytest.raises(ValueError, match=r"to_cells: x must be \[b, c, T, H, W\], got \[3, 2, 8, 8\]"):
        to_cells(x[0], support, frames=slice(None), level=0)
    with pytest.raises(ValueError, match=r"support must be \[b, T, H, W\] = \[1, 2, 8, 8\], got \[1, 2, 8, 7\]"):
        to_cells(x, support[..., :7], frames=slice(None), level=0)
