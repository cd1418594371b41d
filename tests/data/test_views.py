"""Clips made of other clips equal what the whole clip would give."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.data.clips import open_clip
from davsr.data.frames import write_image
from davsr.data.views import Degraded, Part, temporal_reach
from davsr.physics.degradation import Degradation


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharp")
    for i, frame in enumerate(np.random.default_rng(0).integers(0, 256, (20, 32, 40, 3), dtype=np.uint8)):
        write_image(folder / f"{i:04d}.png", frame)
    return folder


def whole(folder: Path, degradation: Degradation) -> np.ndarray:
    x = torch.from_numpy(open_clip(folder).frames(0, 20)).permute(3, 0, 1, 2)[None].float() / 255
    return degradation.apply(x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).numpy()


@pytest.mark.parametrize("boundary", ["reflect", "circular"])
@pytest.mark.parametrize(("exposure", "phase"), [(None, 0), (2.5, 1), (5, -2), (7.5, 0), (13, -4), (5, 3)])
def test_a_degraded_stretch_is_that_of_the_whole_clip(sharp: Path, exposure: float, phase: int, boundary: str) -> None:
    degradation = Degradation(exposure=exposure, phase=phase, boundary=boundary)
    expected = whole(sharp, degradation)
    clip = Degraded(open_clip(sharp), degradation)
    assert (len(clip), clip.size) == (4, (8, 10))
    for start, stop, step in [(2, 3, 1), (0, 4, 1), (3, 4, 1), (0, 4, 2)]:
        # 1 level: the sums of a stretch are not those of the clip to the last bit, and some lie at .5 (seen: 1)
        assert np.abs(clip.frames(start, stop, step).astype(int) - expected[start:stop:step]).max() <= 1


def test_reach_counts_neighbours_that_a_frame_depends_on() -> None:
    cases = {(5, 0): 0, (2.5, 2): 0, (2.5, 3): 1, (5, -2): 1, (13, -4): 1, (16, 0): 3, (5, -6): 2}
    assert {case: temporal_reach(Degradation(exposure=case[0], phase=case[1])) for case in cases} == cases


def test_noise_is_a_function_of_seed_and_frame(sharp: Path) -> None:
    clips = [Degraded(open_clip(sharp), Degradation(), sigma=0.05, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(clips[0].frames(0, 4)[2:3], clips[1].frames(2, 3))
    assert (clips[0].frames(2, 3) != clips[2].frames(2, 3)).mean() > 0.9
    noise = clips[0].frames(0, 4).astype(float) - Degraded(open_clip(sharp), Degradation()).frames(0, 4)
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.1)  # 960 samples


def test_a_part_counts_from_its_own_start(sharp: Path) -> None:
    clip = open_clip(sharp)
    part = Part(clip, 5, 15, (16, 20))
    assert (len(part), part.size, part.name) == (10, (16, 20), clip.name)
    np.testing.assert_array_equal(part.frames(2, 20, 3), clip.frames(7, 15, 3)[:, :16, :20])
    assert part.frames(10, 12).shape == (0, 16, 20, 3)


def test_a_degraded_clip_is_slower(sharp: Path) -> None:
    clip = Part(open_clip(sharp))
    clip.rate = Fraction(60000, 1001)
    assert Degraded(clip, Degradation()).rate == Fraction(12000, 1001)
