"""A clip in pieces: what the windows and tiles cover, how they join, and that the join is not seen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from davsr.errors import InputError
from davsr.pixels import mixed, to_float
from davsr.restoration.cutting import Plan, blend_weights, cover, fade
from davsr.restoration.pieces import FrameMemory
from davsr.restoration.windows import (
    LowFrame,
    restore_clip,
    restore_stream,
    restore_tiles,
)

SCALE = (5, 4, 4)


def enlarge(lq, estimate=None):
    """A model without context: every frame s_t times, every pixel 4 x 4 times."""
    x = lq.repeat_interleave(SCALE[0], dim=1)
    return F.interpolate(x[0], scale_factor=4, mode="nearest")[None]


def clip(t=7, h=20, w=30, seed=0):
    return torch.rand(1, t, 3, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 40, 57, 100, 333])
@pytest.mark.parametrize(("tile", "margin"), [(32, 4), (32, 12), (16, 7), (0, 3)])
def test_tiles_cover_a_side_and_their_weights_sum_to_one(size, tile, margin):
    intervals = cover(size, tile, margin)
    lengths = {stop - start for start, stop in intervals}
    assert lengths == {min(size, tile or size)}
    assert intervals[0][0] == 0 and intervals[-1][1] == size
    total = np.zeros(size)
    for (start, stop), weight in zip(intervals, blend_weights(intervals), strict=True):
        assert (weight >= 0).all()
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    for (_, stop), (start, _) in pairwise(intervals):
        assert stop - start >= 2 * margin


def test_a_tile_has_no_weight_where_it_lacks_context():
    first, second = blend_weights([(0, 32), (16, 48)])
    assert (first[-4:] == 0).all() and (second[:4] == 0).all()
    assert (first[:20] == 1).all() and (second[-20:] == 1).all()
    assert (np.diff(fade(16)) >= 0).all()


def only(function):
    """A restorer of one video that takes no estimate."""
    return lambda lq, _: {"result": function(lq)}


@pytest.mark.parametrize(
    "plan",
    [
        *(Plan(3, 0), Plan(3, 2), Plan(4, 1), Plan(0), Plan(100), Plan(3, 2, 12, 3), Plan(0, 0, 16, 7)),
        *(Plan(3, 2, 0, 3, 9), Plan(3, 1, 12, 2, 30), Plan(4, 2, on_disk=True), Plan(3, 2, 12, 3, 10, on_disk=True)),
    ],
)
@pytest.mark.parametrize("t", [1, 2, 3, 4, 7, 11])
def test_pieces_of_a_model_without_context_make_the_whole(plan, t):
    lq = clip(t)
    result = restore_clip(only(enlarge), lq, SCALE, plan)
    torch.testing.assert_close(result, enlarge(lq), atol=1.6e-5, rtol=0)  # 1/65535, twice rounded


@pytest.mark.parametrize("plan", [Plan(), Plan(3, 2), Plan(3, 2, 12, 3)])
def test_named_videos_travel_side_by_side(plan):
    lq = clip(5)
    frames = [LowFrame(image) for image in lq[0]]
    runs = [
        {name: video.copy() for name, video in run.videos().items()}
        for run in restore_stream(lambda y, _: {"x_0": enlarge(1 - y), "x_1": enlarge(y)}, frames, SCALE, plan)
    ]
    for name, expected in (("x_0", enlarge(1 - lq)), ("x_1", enlarge(lq))):
        video = to_float(np.concatenate([run[name] for run in runs]))[None]
        torch.testing.assert_close(video, expected, atol=1.6e-5, rtol=0)  # 1/65535, twice rounded


def test_every_window_but_a_scenes_only_one_is_full():
    seen = []

    def step(lq):
        seen.append(lq.shape[1])
        return enlarge(lq)

    restore_clip(only(step), clip(11), SCALE, Plan(4, 2))
    assert seen == [4] * 5  # starts 0, 2, 4, 6 and 7: the last begins earlier instead of being 3 long
    seen.clear()
    restore_clip(only(step), clip(3), SCALE, Plan(4, 2))
    assert seen == [3]


def test_no_window_crosses_a_scene():
    lq = clip(9)
    windows = []

    def step(part):
        windows.append([int(torch.nonzero((lq[0] == image).flatten(1).all(1))) for image in part[0]])
        return enlarge(part)

    frames = [LowFrame(image, first=j in (0, 5)) for j, image in enumerate(lq[0])]
    runs = [
        (run.start, run.count, run.scene, run.last) for run in restore_stream(only(step), frames, SCALE, Plan(4, 2))
    ]
    assert windows == [[0, 1, 2, 3], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert runs == [(0, 10, 0, False), (10, 15, 0, True), (25, 20, 5, True)]


def smear(lq):
    """A model whose every frame depends on all others of its window: what a restart must reproduce."""
    return enlarge(lq) * 0.5 + lq.mean(dim=(1, 3, 4), keepdim=True) * 0.5


@pytest.mark.parametrize("plan", [Plan(3, 2), Plan(5, 2), Plan(5, 4), Plan(4, 0), Plan(5, 4, on_disk=True)])
def test_a_restart_after_any_run_continues_bit_for_bit(plan):
    lq = clip(14)
    frames = [LowFrame(image, first=j in (0, 9)) for j, image in enumerate(lq[0])]
    runs = [
        (run.start, run.frames.copy(), run.resume, run.scene, run.last)
        for run in restore_stream(only(smear), frames, SCALE, plan)
    ]
    whole = np.concatenate([run[1] for run in runs])
    assert len(whole) == 5 * 14
    for start, part, resume, scene, last in runs[:-1]:
        done = start + len(part)
        rest = restore_stream(only(smear), frames[resume:], SCALE, plan, resume, resume if last else scene)
        for run in rest:
            keep = run.frames[max(done - run.start, 0) :]
            np.testing.assert_array_equal(keep, whole[max(run.start, done) : run.start + run.count])


def test_windows_of_unequal_level_fade_smoothly():
    lq = torch.zeros(1, 8, 3, 4, 4)
    levels = iter([0.2, 0.8, 0.8, 0.8])
    result = restore_clip(only(lambda y: enlarge(y) + next(levels)), lq, SCALE, Plan(4, 2))[0, :, 0, 0, 0]
    steps = result.diff()
    assert (steps >= 0).all() and steps.max() < 0.6 / 2.5  # a cut would be one step of 0.6
    assert result[12] == pytest.approx(0.2, abs=1e-5) and result[17] == pytest.approx(0.8, abs=1e-5)


def test_an_estimate_travels_with_its_tile():
    lq = clip(5)
    estimate = np.random.default_rng(1).integers(0, 65536, (25, 3, 80, 120), dtype=np.uint16)
    result = restore_clip(lambda _, x: {"result": x}, lq, SCALE, Plan(3, 2, 12, 3), estimate)
    torch.testing.assert_close(result[0], to_float(estimate), atol=1.6e-5, rtol=0)  # 1/65535, twice rounded


@pytest.mark.parametrize("on_disk", [False, True])
def test_only_frames_that_count_are_kept(on_disk, tmp_path):
    """Of a window those that are handed out and those that fade, once, whatever is written of them."""
    made = []

    def step(y):
        made.append(5 * y.shape[1])
        return enlarge(y)

    frames = [LowFrame(image) for image in clip(20)[0]]
    plan = Plan(8, 4, on_disk=on_disk)
    before = None
    for run in restore_stream(only(step), frames, SCALE, plan, folder=tmp_path):
        assert run.count == len(run.frames)
        assert not list(tmp_path.iterdir())  # the file has no name, or is gone with its frames
        before = run
    assert made == [40] * 4 and before is not None and before.count == 0  # taken back
    pieces = restore_tiles(only(enlarge), clip(4)[0], SCALE, plan, kept=range(5, 15), folder=tmp_path)
    np.testing.assert_array_equal(pieces.frame(5), restore_tiles(only(enlarge), clip(4)[0], SCALE, Plan()).frame(5))
    pieces.forget(6)
    if not on_disk:
        with pytest.raises(KeyError):
            pieces.frame(5)


def test_values_leave_clamped_and_finite():
    lq = clip(2)[0]
    assert to_float(restore_tiles(only(lambda y: enlarge(y) * 4 - 2), lq, SCALE, Plan()).frame(0)).max() == 1
    with pytest.raises(FloatingPointError, match="not finite"):
        restore_tiles(only(lambda y: enlarge(y) * float("nan")), lq, SCALE, Plan())


@pytest.mark.parametrize("sizes", [{"window": 3, "overlap": 3}, {"tile": 16, "margin": 8}, {"window": -1}])
def test_plans_without_progress_are_refused(sizes):
    with pytest.raises(InputError, match="windows: "):
        Plan(**sizes)


def test_memory_of_frames_is_lent_again_only_when_nobody_holds_it():
    memory, shape = FrameMemory(), (3, 1024, 1024)
    first = memory.frame(shape)
    first[:] = 7
    held = first[1:, 5]  # whoever holds a part holds the frame
    del first
    others = [memory.frame(shape) for _ in range(3)]
    for other in others:
        other[:] = 1
    assert int(held.min()) == 7
    places = {frame.ctypes.data for frame in others}
    del other, others
    assert memory.frame(shape).ctypes.data in places


def test_frames_are_mixed_as_numbers_are():
    a, b = (np.random.default_rng(k).integers(0, 65536, (6, 5, 7), dtype=np.uint16) for k in (0, 1))
    exact = 0.7 * a + 0.3 * b.astype(np.float64)
    assert np.abs(mixed(a, b, 0.3) - exact).max() < 0.51
