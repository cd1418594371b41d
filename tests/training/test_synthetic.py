"""Synthetic scenes: exact flow, exposure, and what they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from davsr.errors import InputError
from davsr.models.warp import warp
from davsr.options import SourceOptions
from davsr.training.samples.synthetic import Layer, Pose, Scene, SmoothPath, draw_scene, load_photos
from tests.runs import write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[list[np.ndarray]]:
    folder = write_photos(tmp_path_factory.mktemp("photos") / "in", 3, 256)
    return load_photos(SourceOptions(kind="synthetic", path=str(folder)), "data.sources[0]")


def draw(photos: list[list[np.ndarray]], seed: int, speed: tuple[float, float] = (1.0, 3.0), layers: int = 3) -> Scene:
    return draw_scene(np.random.default_rng(seed), photos, (48, 64), 20, speed, layers)


def test_a_scene_is_a_function_of_its_generator(photos):
    times = np.arange(3)
    np.testing.assert_array_equal(draw(photos, 7).frames(times), draw(photos, 7).frames(times))
    assert (draw(photos, 7).frames(times) != draw(photos, 8).frames(times)).any()


@pytest.mark.parametrize("seed", range(6))
def test_flow_brings_the_second_frame_to_the_first(photos, seed):
    scene = draw(photos, seed)
    flow, visible = scene.flow(4, 5)
    first, second = (torch.from_numpy(scene.frame(t)).permute(2, 0, 1)[None].float() for t in (4, 5))
    warped = warp(second, torch.from_numpy(flow).permute(2, 0, 1)[None], padding="border")
    error = (warped - first).abs().mean(dim=1)[0][torch.from_numpy(visible)].mean()
    still = (second - first).abs().mean(dim=1)[0][torch.from_numpy(visible)].mean()
    assert visible.mean() > 0.6
    assert error < 0.3 * still


def test_of_several_places_the_one_with_most_detail_is_shown(photos):
    """One photograph without any detail beside three with some.

    Chance takes it one time in four, of eight places hardly ever.
    """
    flat = [np.full((256, 256, 3), 128, dtype=np.uint8)]
    shown = {
        candidates: [
            layer.texture is flat[0]
            for seed in range(12)
            for layer in draw_scene(
                np.random.default_rng(seed), [*photos, flat], (48, 64), 20, candidates=candidates
            ).layers
        ]
        for candidates in (1, 8)
    }
    assert 0.05 < np.mean(shown[1]) < 0.6
    assert not any(shown[8])


def test_flow_there_and_back_cancels(photos):
    scene = draw(photos, 3, layers=0)
    there, visible = scene.flow(2, 6)
    back, _ = scene.flow(6, 2)
    sampled = warp(*(torch.from_numpy(f).permute(2, 0, 1)[None] for f in (back, there)), padding="border")
    total = torch.from_numpy(there).permute(2, 0, 1)[None] + sampled
    target = np.stack(np.meshgrid(np.arange(64), np.arange(48)), axis=-1) + there
    inner = torch.from_numpy(visible & (target >= 0).all(axis=-1) & (target <= [63, 47]).all(axis=-1))
    torch.testing.assert_close(total[0][:, inner], torch.zeros(2, int(inner.sum())), atol=1e-4, rtol=0)  # float32 flow


def test_flow_of_a_pan_is_the_pan():
    still = SmoothPath(0.0, 0.0, np.zeros(2), np.ones(2), np.zeros(2))
    right, down = (SmoothPath(v, 0.0, np.zeros(2), np.ones(2), np.zeros(2)) for v in (1.25, -0.5))
    texture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    scene = Scene((20, 30), (Layer(texture, (100.0, 100.0), 2.0, Pose((14.5, 9.5), right, down, still, still)),))
    flow, visible = scene.flow(1, 3)
    np.testing.assert_allclose(flow, np.broadcast_to([2.5, -1.0], flow.shape), atol=1e-6)
    assert not visible[:, -2:].any() and visible[2:, :-3].all()  # what leaves the window on the right is gone
    # four frames later everything has moved by 5 pixels to the right and 2 up
    np.testing.assert_array_equal(scene.frame(4)[:-2, 5:], scene.frame(0)[2:, :-5])


def test_covered_pixels_are_not_visible(photos):
    hidden = []
    for seed in range(12):
        scene = draw(photos, seed)
        if len(scene.layers) > 1:
            _, visible = scene.flow(2, 8)
            labels = scene._labels(8)
            hidden.append((~visible).mean())
            assert labels.max() < len(scene.layers)
    assert max(hidden) > 0.05


def test_an_exposure_is_the_mean_of_what_passes(photos):
    scene = draw(photos, 5, speed=(2.0, 3.0))
    blurred = scene.expose(3.0, 4.0).astype(float)
    instants = np.mean([scene.frame(t).astype(float) for t in 3 + (np.arange(64) + 0.5) * 4 / 64], axis=0)
    assert (
        np.abs(blurred - instants).mean() < 1.0
    )  # 8-bit levels: as many samples as half a pixel asks for, and rounding
    assert np.abs(scene.frame(5).astype(float) - instants).mean() > 5
    np.testing.assert_array_equal(scene.expose(3.0, 1e-9), scene.frame(3.0))


def test_speed_is_kept(photos):
    for seed in range(20):
        scene = draw(photos, seed, speed=(0.5, 0.5))
        assert scene.largest_motion(3, 4) < 0.5 * 4  # a path, and turning and zooming about the window's middle


@pytest.mark.parametrize(("path", "message"), [("", "must be a folder"), ("nowhere", "must be a folder")])
def test_missing_photographs_are_named(path, message):
    with pytest.raises(InputError, match=rf"data.sources\[0\].path: {message}"):
        load_photos(SourceOptions(kind="synthetic", path=path), "data.sources[0]")


def test_useless_photographs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no photographs"):
        load_photos(SourceOptions(kind="synthetic", path=str(tmp_path)), "data.sources[0]")
    write_photos(tmp_path / "tiny", 1, 40)
    with pytest.raises(InputError, match=r"0.png must be at least 64 pixels a side, got 40x40"):
        load_photos(SourceOptions(kind="synthetic", path=str(tmp_path)), "data.sources[0]")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken.jpg"):
        load_photos(SourceOptions(kind="synthetic", path=str(tmp_path), exclude=("0",)), "data.sources[0]")


def test_links_to_one_photograph_count_once(tmp_path):
    folder = write_photos(tmp_path / "p", 1)
    (folder / "link.png").symlink_to(folder / "0.png")
    photos = load_photos(SourceOptions(kind="synthetic", path=str(folder)), "data.sources[0]")
    assert len(photos) == 1
    assert [level.shape[0] for level in photos[0]] == [160, 80]
    halved = load_photos(SourceOptions(kind="synthetic", path=str(folder), reduce=2), "data.sources[0]")
    assert halved[0][0].shape == (80, 80, 3)
