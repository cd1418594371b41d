"""Training samples: what they cover, that they depend on (seed, index) alone, and what is wrong with bad data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.data.frames import write_image
from davsr.data.video import VideoWriter
from davsr.errors import InputError
from davsr.models.warp import warp
from davsr.physics.degradation import Degradation
from davsr.training.samples import footage
from davsr.training.samples.dataset import FlowSamples, VideoSamples, draw_exposure, load_batches, observe
from tests.runs import moving_frames, options, write_clip, write_photos

CPU = torch.device("cpu")


def video(path: Path, **more: object) -> dict:
    return {"kind": "frames", "path": str(path), **more}


def samples(*sources: dict, **changes: object) -> VideoSamples:
    return VideoSamples(options(data__sources=list(sources), **changes))


def coded_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that tell where each pixel comes from: red its frame, green its row, blue its column."""
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    frames[..., 0] = np.arange(count)[:, None, None]
    frames[..., 1] = np.arange(height)[:, None]
    frames[..., 2] = np.arange(width)
    return frames


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip", moving_frames(16))


def test_a_sample_depends_on_seed_and_index_alone(clip, tmp_path):
    photos = {"kind": "synthetic", "path": str(write_photos(tmp_path / "photos"))}
    dataset = samples(video(clip, strides=[1, 2]), photos, data__sigma=[0, 0.1], data__compression=0.5)
    batches = [[3, 4], [0, 9], [7, 3]]
    alone = list(load_batches(dataset, batches, workers=0))
    helped = list(load_batches(dataset, batches, workers=2))
    for a, b, indices in zip(alone, helped, batches, strict=True):
        assert a["index"] == b["index"] == indices
        assert a["quality"] == b["quality"]
        torch.testing.assert_close(a["gt"], b["gt"], rtol=0, atol=0)
        torch.testing.assert_close(a["sigma"], b["sigma"], rtol=0, atol=0)
        first = [observe(batch, Degradation((2, 4, 4)), 0, CPU)[0] for batch in (a, b)]
        torch.testing.assert_close(*first, rtol=0, atol=0)
    torch.testing.assert_close(alone[0]["gt"][0], alone[2]["gt"][1], rtol=0, atol=0)
    assert len({int(dataset[i]["gt"].sum()) for i in range(8)}) == 8
    other = VideoSamples(options(seed=1, data__sources=[video(clip)]))
    assert (other[3]["gt"] != samples(video(clip))[3]["gt"]).any()


def test_both_kinds_of_source_are_drawn_by_weight(clip, tmp_path):
    dark = write_clip(tmp_path / "dark", np.zeros((8, 40, 40, 3), np.uint8))
    dataset = samples(video(clip, weight=3), video(dark, weight=1))
    share = np.mean([int(dataset[i]["gt"].max()) > 0 for i in range(200)])
    assert 0.65 < share < 0.85


@pytest.mark.parametrize("stride", [1, 3])
def test_a_sample_is_a_stretch_of_the_clip(tmp_path, stride):
    clip = write_clip(tmp_path / "clip", coded_frames(14))
    dataset = samples(video(clip, strides=[stride]), data__flips=False)
    starts = set()
    for index in range(40):
        gt = dataset[index]["gt"][0]
        assert gt.shape == (4, 3, 32, 32)
        times, rows, columns = gt[:, 0, 0, 0].int(), gt[0, 1, :, 0].int(), gt[0, 2, 0].int()
        assert (times.diff() == stride).all() and (rows.diff() == 1).all() and (columns.diff() == 1).all()
        starts.add(int(times[0]))
    assert starts == set(range(14 - 3 * stride))


def test_flips_change_time_and_space_in_every_way(tmp_path):
    clip = write_clip(tmp_path / "clip", coded_frames(4, 32, 32))
    dataset = samples(video(clip))
    seen = set()
    for index in range(80):
        gt = dataset[index]["gt"][0].int()
        transposed = bool(gt[0, 1, 0].diff().any())
        rows, columns = (gt[0, 1], gt[0, 2]) if not transposed else (gt[0, 1].T, gt[0, 2].T)
        seen.add((transposed, *(int(v[1] - v[0]) for v in (gt[:, 0, 0, 0], rows[:, 0], columns[0]))))
    assert len(seen) == 16


def test_samples_stay_within_shots(tmp_path):
    red, blue = np.zeros((2, 9, 40, 40, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    clip = write_clip(tmp_path / "clip", np.concatenate([red, blue]))
    dataset = samples(video(clip))
    assert dataset.sources[0].footage[0].shots == ((0, 9), (9, 18))
    for index in range(30):
        gt = dataset[index]["gt"][0]
        assert (gt == gt[0]).all()
    uncut = samples(video(clip, cuts=False))
    assert any((uncut[i]["gt"][0] != uncut[i]["gt"][0][0]).any() for i in range(30))


def test_frames_of_a_clip_can_be_chosen(tmp_path):
    clip = write_clip(tmp_path / "clip", coded_frames(20))
    dataset = samples(video(clip, frames="10:16"), data__flips=False)
    assert {int(dataset[i]["gt"][0, 0, 0, 0, 0]) for i in range(40)} == {10, 11, 12}
    for frames, message in (
        ("10-16", "must be start:stop"),
        ("30:", "leaves nothing of clip"),
        ("0:3", "need a shot of 4"),
    ):
        with pytest.raises(InputError, match=message):
            samples(video(clip, frames=frames))


def test_reduction_averages(tmp_path):
    frames = moving_frames(6, 80, 96)
    clip = write_clip(tmp_path / "clip", frames)
    dataset = samples(video(clip, reduce=2), data__flips=False)
    halved = frames.reshape(6, 40, 2, 48, 2, 3).mean(axis=(2, 4))
    gt = dataset[0]["gt"][0].permute(0, 2, 3, 1).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(halved, (4, 32, 32, 3)).reshape(-1, 4, 32, 32, 3)
    assert np.abs(windows - gt).max(axis=(1, 2, 3, 4)).min() <= 0.5  # rounding to 8 bits


def test_candidates_prefer_what_moves(tmp_path):
    frames = np.repeat(moving_frames(1, 40, 200), 8, axis=0)
    frames[:, :, 160:] = moving_frames(8, 40, 40, speed=4)
    clip = write_clip(tmp_path / "clip", frames)
    moving = [
        np.mean([bool((d[i]["gt"][0, 0] != d[i]["gt"][0, -1]).any()) for i in range(60)])
        for d in (samples(video(clip, candidates=n)) for n in (1, 16))
    ]
    assert moving[0] < 0.6 and moving[1] > 0.9


def test_what_is_observed_is_exactly_the_operator_of_the_crop(clip):
    dataset = samples(video(clip))
    degradation = Degradation((2, 4, 4), exposure=1.5)
    lq, gt, sigma = observe(dataset[5], degradation, 0, CPU)
    assert lq.shape == (1, 2, 3, 8, 8) and gt.shape == (1, 4, 3, 32, 32) and sigma.tolist() == [0]
    exact = degradation.apply(gt.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(lq, (exact.clamp(0, 1) * 255).round() / 255)
    torch.testing.assert_close(gt, dataset[5]["gt"].float() / 255)


def test_noise_has_its_sigma_and_its_own_numbers(tmp_path):
    clip = write_clip(tmp_path / "clip", np.full((4, 96, 96, 3), 128, np.uint8))
    dataset = samples(video(clip), data__sigma=[0.05, 0.05], data__patch=96)
    batch = next(iter(load_batches(dataset, [[0, 1]], 0)))
    lq, _, sigma = observe(batch, Degradation((2, 4, 4)), 0, CPU)
    torch.testing.assert_close(sigma, torch.tensor([0.05, 0.05]))
    noise = lq - 128 / 255
    assert abs(float(noise.std()) - 0.05) < 0.002 and abs(float(noise.mean())) < 0.002
    assert abs(float((noise[0] * noise[1]).mean())) < 0.05**2 / 10
    second = observe(dataset[1], Degradation((2, 4, 4)), 0, CPU)[0]
    torch.testing.assert_close(second, lq[1:], rtol=0, atol=0)


def test_compression_is_light_but_there(tmp_path):
    clip = write_clip(tmp_path / "clip", 3 * coded_frames(6))
    plain, squeezed = (samples(video(clip), data__compression=share) for share in (0.0, 1.0))
    for index in range(5):
        a, b = (observe(d[index], Degradation((2, 4, 4)), 0, CPU) for d in (plain, squeezed))
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=0)
        assert 0 < float((a[0] - b[0]).abs().mean()) < 0.05


def test_exposures_are_drawn_per_step():
    chosen = options(data__exposures=[1, 1.5, 2])
    drawn = [draw_exposure(chosen, step) for step in range(60)]
    assert set(drawn) == {1, 1.5, 2}
    assert drawn == [draw_exposure(chosen, step) for step in range(60)]
    assert draw_exposure(options(), 3) is None


def write_pairs(folder: Path, offset: int = 0, length: int = 6, lr_length: int = 3) -> dict:
    """HR frames that tell their place, and LR frames that tell the place of the HR block they stand for."""
    hr = coded_frames(length, 48, 64)
    lr = hr[::2, ::4, ::4][:lr_length] + offset
    write_clip(folder / "gt" / "a", hr)
    write_clip(folder / "lq" / "a", lr)
    return {"kind": "pairs", "path": str(folder / "gt"), "lq_path": str(folder / "lq")}


def test_pairs_are_cropped_alike(tmp_path):
    dataset = samples(write_pairs(tmp_path), degradation__psf="box", data__flips=False)
    for index in range(30):
        sample = dataset[index]
        gt, lq = sample["gt"][0], sample["lq"][0]
        torch.testing.assert_close(lq, gt[::2, :, ::4, ::4])
    lq, _, sigma = observe(dataset[0], Degradation((2, 4, 4)), 0, CPU)
    torch.testing.assert_close(lq[0], dataset[0]["lq"][0].float() / 255)
    assert sigma.tolist() == [0]


def test_pairs_are_flipped_as_far_as_the_operator_is_symmetric(tmp_path):
    source = write_pairs(tmp_path)
    seen = set()
    for index in range(60):
        sample = samples(source, degradation__psf="bicubic", degradation__phase=1)[index]
        gt = sample["gt"][0].int()
        seen.add((bool(gt[1, 0, 0, 0] > gt[0, 0, 0, 0]), bool(gt[0, 1, 0].diff().any())))
    assert {forward for forward, _ in seen} == {True}  # the exposure is not centred: no reversal
    assert {transposed for _, transposed in seen} == {True, False}


def test_mismatched_pairs_are_named(tmp_path):
    short = write_pairs(tmp_path / "short", lr_length=2)
    with pytest.raises(InputError, match=r"clip a must be \(2, 4, 4\) times as long.*\(2, 12, 16\), got \(6, 48, 64\)"):
        samples(short)
    lone = write_pairs(tmp_path / "lone")
    write_clip(tmp_path / "lone" / "gt" / "b", coded_frames(6))
    with pytest.raises(InputError, match=r"clip b is missing in .*lq"):
        samples(lone)
    with pytest.raises(InputError, match=r"strides: must be \[1\] for pairs"):
        samples({**write_pairs(tmp_path / "strided"), "strides": [2]})
    with pytest.raises(InputError, match=r"data.exposures: cannot be drawn"):
        samples(write_pairs(tmp_path / "exposed"), data__exposures=[1])


def test_bad_data_is_named_at_start(tmp_path):
    with pytest.raises(InputError, match=r"data.sources: must name at least one source"):
        samples()
    clip = write_clip(tmp_path / "clip", moving_frames(16))
    with pytest.raises(
        InputError,
        match=r"data.sources\[1\].strides\[1\]: 4 frames at stride 6 need a shot of 19 frames.*has 16 \(clip\)",
    ):
        samples(video(clip), video(clip, strides=[1, 6]))
    with pytest.raises(
        InputError, match=r"data.sources\[0\]: data.patch must fit every clip: clip is 48x64 .*, got 64"
    ):
        samples(video(clip), data__patch=64)
    with pytest.raises(InputError, match=r"data.patch: must be a multiple of s_h = 4, got 34"):
        samples(video(clip), data__patch=34)
    with pytest.raises(InputError, match=r"nowhere"):
        samples(video(tmp_path / "nowhere"))
    (clip / "0009.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"0009.png"):
        samples(video(clip))
    write_image(clip / "0009.png", np.zeros((48, 60, 3), np.uint8))
    with pytest.raises(InputError, match=r"0009.png is 60x48"):
        samples(video(clip, cuts=False))


def test_workers_read_videos_that_the_parent_has_open(tmp_path):
    with VideoWriter(tmp_path / "clips" / "film.mp4", 24) as writer:
        for frame in moving_frames(40, 64, 64):
            writer.write(frame)
    dataset = samples(video(tmp_path / "clips", cuts=False), data__patch=64)
    expected = [dataset[i]["gt"] for i in range(6)]  # opens decoders here
    batches = load_batches(dataset, [[i] for i in range(6)], workers=2)
    for gt, batch in zip(expected, batches, strict=True):
        torch.testing.assert_close(batch["gt"], gt, rtol=0, atol=0)


def test_a_film_is_decoded_once_into_the_cache(clip, tmp_path, monkeypatch):
    cached = {"data__cache": str(tmp_path / "cache")}
    fresh = samples(video(clip, reduce=1), data__flips=False)[2]["gt"]
    torch.testing.assert_close(samples(video(clip), data__flips=False, **cached)[2]["gt"], fresh, rtol=0, atol=0)
    files = sorted(p.suffix for p in (tmp_path / "cache").iterdir())
    assert files == [".json", ".npy"]

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(footage, "_decode", fail)
    torch.testing.assert_close(samples(video(clip), data__flips=False, **cached)[2]["gt"], fresh, rtol=0, atol=0)
    write_image(clip / "0003.png", np.zeros((48, 64, 3), np.uint8))  # a changed source is not the same film
    with pytest.raises(AssertionError, match=r"decoded again"):
        samples(video(clip), **cached)


def test_an_interrupted_cache_is_never_used(clip, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    whole = footage._decode

    def interrupted(source: object, reduce: int, frames: np.ndarray) -> None:
        frames[:5] = 1
        raise KeyboardInterrupt

    monkeypatch.setattr(footage, "_decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        samples(video(clip), data__cache=str(folder))
    assert not list(folder.glob("*.npy")) and not list(folder.glob("*.json"))
    monkeypatch.setattr(footage, "_decode", whole)
    samples(video(clip), data__cache=str(folder))
    description = next(folder.glob("*.json"))
    assert json.loads(description.read_text())["frames"] == 16
    description.unlink()  # killed between the two files
    samples(video(clip), data__cache=str(folder))
    assert description.exists()


def test_flow_samples_move_as_far_as_asked(tmp_path):
    source = {"kind": "synthetic", "path": str(write_photos(tmp_path / "photos")), "speed": [0.5, 4]}
    dataset = FlowSamples(options(train__task="flow", data__sources=[source], data__flow_motion=6, data__patch=48))
    largest = []
    for index in range(40):
        sample = dataset[index]
        assert sample["flow"].shape == (1, 2, 48, 48)
        largest.append(float(sample["flow"].norm(dim=1).max()))
    assert max(largest) < 6.5 and min(largest) < 1.5 and np.mean(largest) > 2
    torch.testing.assert_close(dataset[7]["reference"], dataset[7]["reference"], rtol=0, atol=0)
    better = 0
    for index in range(20):
        sample = dataset[index]
        reference, support = sample["reference"].float(), sample["support"].float()
        visible = sample["visible"]
        warped = warp(support, sample["flow"], padding="border")
        errors = [(image - reference).abs().mean(dim=1)[visible].mean() for image in (warped, support)]
        better += bool(errors[0] < errors[1])
    assert better >= 17  # where noise is stronger than motion, interpolation may lose
    with pytest.raises(InputError, match=r"data.sources\[0\].kind: must be synthetic for train.task flow"):
        FlowSamples(options(data__sources=[video(write_clip(tmp_path / "c", moving_frames(9)))]))
