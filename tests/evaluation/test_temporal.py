"""Consistency over time: zero where a video moves as the truth does, larger for judder and flicker."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from davsr.evaluation.temporal import TemporalScorer, consistent, warp_image, warping_error


def texture(shift: float, h: int = 96, w: int = 128) -> np.ndarray:
    """A smooth random texture moved by `shift` pixels to the right, uint8 [h, w, 3]."""
    field = np.random.default_rng(5).standard_normal((h, w + 60, 3))
    field = ndimage.gaussian_filter(field, (3, 3, 0))
    field = 128 + 40 * field / field.std()
    columns = np.arange(w) + 30 - shift
    moved = np.stack(
        [ndimage.map_coordinates(field[..., c], np.meshgrid(np.arange(h), columns, indexing="ij")) for c in range(3)],
        -1,
    )
    return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def means(truth: list[np.ndarray], video: list[np.ndarray]) -> tuple[float, float]:
    scorer = TemporalScorer()
    scores = [scorer.push(t, {"video": v}).get("video") for t, v in zip(truth, video, strict=True)]
    assert scores[0] is None
    tof, warping = np.mean([s for s in scores if s is not None], axis=0)
    return float(tof), float(warping)


def test_the_same_motion_scores_zero_and_other_motion_its_difference() -> None:
    truth = [texture(2.0 * i) for i in range(5)]
    assert means(truth, truth) == pytest.approx((0.0, 0.0), abs=1.5)
    assert means(truth, [frame.copy() for frame in truth])[0] == 0
    slower = [texture(0.5 * i) for i in range(5)]
    tof, warping = means(truth, slower)
    assert tof == pytest.approx(1.5, abs=0.25)  # pixels a frame; the flow is an estimate (seen: 1.45)
    assert warping > 5 * means(truth, truth)[1]


def test_judder_and_flicker_are_seen() -> None:
    truth = [texture(1.0 * i) for i in range(7)]
    judder = [truth[i // 3 * 3] for i in range(7)]
    flicker = [np.clip(frame.astype(int) + 10 * (i % 2), 0, 255).astype(np.uint8) for i, frame in enumerate(truth)]
    clean = means(truth, truth)
    assert means(truth, judder)[0] == pytest.approx(4 / 3, abs=0.2)  # 1 while it stands, 2 where it jumps
    assert means(truth, flicker)[1] == pytest.approx(10, abs=1)  # levels
    assert clean[1] < 1


def test_warping_follows_the_flow_and_leaves_out_what_is_hidden() -> None:
    last, frame = texture(0), texture(3)
    flow = np.zeros((96, 128, 2), np.float32)
    flow[..., 0] = -3
    np.testing.assert_allclose(warp_image(last, flow)[:, 8:], frame[:, 8:], atol=1)  # both were rounded
    visible = consistent(flow, -flow)
    assert not visible[:, :3].any() and visible[:, 3:].all()
    assert warping_error(frame, last, flow, visible) < 1
    assert np.isnan(warping_error(frame, last, flow, np.zeros_like(visible)))


def test_frames_of_any_size_are_taken() -> None:
    for h, w in ((1, 1), (5, 70), (16, 16), (33, 12)):
        frames = [np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8) for i in range(2)]
        assert TemporalScorer().flow(*frames).shape == (h, w, 2)
