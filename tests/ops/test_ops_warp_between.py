"""Frames between two others: a loop over pixels, PyTorch's own operations, every compiled level, the derivative."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from davsr.ops import backend, warp_between, warp_between_reference
from tests.ops.by_threads import assert_threads_change_nothing

COMPILED = backend().name != "reference"
LEVELS = [level for level in torch.ops.davsr.cpu_levels() if level != "serial"] if COMPILED else []
needs_extension = pytest.mark.skipif(not COMPILED, reason=f"no extension: {backend().reason}")
# Of the video and of the flows: finer, equal, no whole multiple; wide enough for vectors, or not; nothing at all.
SHAPES = [
    ((1, 3, 6, 16, 44), (4, 11)),
    ((2, 2, 3, 9, 70), (9, 70)),
    ((1, 2, 1, 7, 5), (3, 2)),
    ((1, 1, 7, 1, 40), (1, 1)),
    ((1, 2, 2, 5, 1), (2, 1)),
    ((0, 2, 3, 4, 4), (2, 2)),
]
LOW, SHARE = [0, 0, 1, 0], [0.2, 0.0, 0.7, 1.0]


def inputs(shape: tuple[int, ...], grid: tuple[int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """A video and flows that leave the frame here and there."""
    generator = torch.Generator().manual_seed(0)
    b = shape[0]
    video = torch.rand(shape, generator=generator, dtype=dtype)
    flows = (4 * torch.randn(b, len(LOW), 2, *grid, generator=generator, dtype=dtype) for _ in range(2))
    return video, *flows


def frames_before(t: int) -> list[int]:
    return [min(j, t - 1) for j in LOW]


def test_every_pixel_by_its_definition():
    video, before, after = inputs((1, 2, 2, 5, 7), (5, 7), torch.float64)
    made = warp_between(video, before, after, low=[0, 1, 0, 0], share=SHARE)

    def at(frame: int, c: int, y: float, x: float) -> float:
        y, x = min(max(y, 0.0), 4.0), min(max(x, 0.0), 6.0)
        y0, x0 = min(math.floor(y), 3), min(math.floor(x), 5)
        v, u = y - y0, x - x0
        image = video[0, frame, c]
        top = (1 - u) * image[y0, x0] + u * image[y0, x0 + 1]
        return float((1 - v) * top + v * ((1 - u) * image[y0 + 1, x0] + u * image[y0 + 1, x0 + 1]))

    for i, (low, f) in enumerate(zip([0, 1, 0, 0], SHARE, strict=True)):
        for c, y, x in ((0, 0, 0), (1, 2, 3), (0, 4, 6), (1, 1, 5)):
            near, far = (
                at(frame, c, y + float(flow[0, i, 1, y, x]), x + float(flow[0, i, 0, y, x]))
                for frame, flow in ((low, before), (min(low + 1, 1), after))
            )
            assert float(made[0, i, c, y, x]) == pytest.approx((1 - f) * near + f * far, abs=1e-12)


def test_a_coarse_flow_moves_all_pixels_of_a_finer_video():
    video = torch.arange(12.0).expand(1, 2, 1, 8, 12).contiguous()
    one = torch.zeros(1, 1, 2, 2, 3)
    one[:, :, 0] = 0.5  # of its own pixels: two of the video's
    made = warp_between(video, one, -one, low=[0], share=[0.25])
    expected = 0.75 * (torch.arange(12.0) + 2).clamp(max=11) + 0.25 * (torch.arange(12.0) - 2).clamp(min=0)
    torch.testing.assert_close(made, expected.expand(made.shape))


@needs_extension
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape, grid", SHAPES, ids=str)
@pytest.mark.parametrize("layout", ["dense", "frames after channels", "part"])
def test_levels_equal_the_reference(level, shape, grid, layout):
    video, before, after = inputs(shape, grid)
    low = frames_before(shape[1])
    b, _, c, H, W = shape
    n = len(low)
    out = {
        "dense": torch.full((b, n, c, H, W), -1.0),
        "frames after channels": torch.full((b, c, n, H, W), -1.0).transpose(1, 2),
        "part": torch.full((b, n + 2, c, H, W), -1.0)[:, 1:-1],
    }[layout]
    torch.ops.davsr.warp_between_(out, video, before, after, low, SHARE, level)
    torch.testing.assert_close(out, warp_between_reference(video, before, after, low=low, share=SHARE))


@pytest.mark.parametrize("graph", [False, True])
def test_out_takes_the_frames(graph):
    video, before, after = inputs((1, 3, 3, 8, 20), (2, 5))
    whole = torch.full((1, 3, 6, 8, 20), -1.0)
    with torch.set_grad_enabled(graph):
        video.requires_grad_(graph)
        made = warp_between(video, before, after, low=LOW, share=SHARE, out=whole.transpose(1, 2)[:, 1:5])
        expected = warp_between_reference(video, before, after, low=LOW, share=SHARE)
    torch.testing.assert_close(whole[:, :, 1:5].transpose(1, 2), expected)
    assert made.shape == expected.shape and bool((whole[:, :, [0, 5]] == -1).all())


@needs_extension
def test_threads_change_nothing():
    video, before, after = inputs((2, 3, 3, 20, 50), (5, 10))
    assert_threads_change_nothing(lambda: [warp_between(video, before, after, low=LOW, share=SHARE)])


def test_it_has_a_derivative():
    given = [v.requires_grad_() for v in inputs((1, 2, 2, 4, 6), (2, 3), torch.float64)]
    assert torch.autograd.gradcheck(lambda v, p, q: warp_between(v, p, q, low=[0, 1, 0, 0], share=SHARE), given)


@needs_extension
def test_what_is_no_number_moves_no_further_than_the_border():
    video, before, after = inputs((1, 2, 3, 8, 40), (4, 10))
    before[0, 0, 0, 1] = math.nan
    after[0, 0, 1, 2] = math.inf
    assert bool(warp_between(video, before, after, low=[0] * 4, share=SHARE).isfinite().all())


@pytest.mark.parametrize("front", [warp_between, warp_between_reference])
@pytest.mark.parametrize(
    "video, grid, low, share, message",
    [
        ((2, 3, 4, 4), (2, 2), [0], [0.5], r"video must be \[b, t, c, H, W\], got \[2, 3, 4, 4\]"),
        ((1, 2, 3, 4, 4), (0, 2), [0], [0.5], r"before must be \[b, n, 2, h, w\] with b = 1 and n = 1"),
        ((1, 2, 3, 4, 4), (2, 2), [0], [], "share must have a number for each of low, got 0 for 1"),
        ((1, 2, 3, 4, 4), (2, 2), [2], [0.5], r"low must be frames of the 2 of video, got \[2\]"),
    ],
)
def test_errors(front, video, grid, low, share, message):
    flow = torch.zeros(1, 1, 2, *grid)
    with pytest.raises(ValueError, match=message):
        front(torch.zeros(video), flow, flow, low=low, share=share)
