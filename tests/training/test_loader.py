"""Workers of the loader, however they are started: forked, spawned (Windows, macOS), or of a server (Python 3.14)."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from davsr.data.store import Entry, StoreWriter, encode_frame
from davsr.data.video import VideoWriter
from davsr.physics.degradation import Degradation
from davsr.training.samples.dataset import VideoSamples, load_batches, observe
from davsr.training.samples.footage import DecodedFrames
from tests.runs import moving_frames, options, write_clip, write_photos

BATCHES = [[2 * i, 2 * i + 1] for i in range(8)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> VideoSamples:
    """Samples of every kind of source: folders, films in memory, pairs in stores, synthetic scenes.

    And films in the cache.
    """
    pytest.importorskip("lmdb")
    folder: Path = tmp_path_factory.mktemp("sources")
    frames = moving_frames(12)
    with VideoWriter(folder / "film.mkv", 25) as writer:
        for frame in frames:
            writer.write(frame)
    for name, stored in (("gt", frames), ("lq", np.ascontiguousarray(frames[::2, ::4, ::4]))):
        with StoreWriter(folder / name) as store:
            for i, frame in enumerate(stored):
                store.put("a", i, encode_frame(frame))
            store.finish([Entry("a", *stored.shape[:3], None)])
    sources = [
        {"kind": "frames", "path": str(write_clip(folder / "clip", frames))},
        {"kind": "video", "path": str(folder / "film.mkv")},
        {"kind": "pairs", "path": str(folder / "gt"), "lq_path": str(folder / "lq")},
        {"kind": "synthetic", "path": str(write_photos(folder / "photos"))},
    ]
    dataset = VideoSamples(options(data__sources=sources, data__cache=""))
    cached = VideoSamples(options(data__sources=sources[1:2], data__cache=str(folder / "cache")))
    dataset.sources += cached.sources
    dataset._chances = np.arange(1, 6) / 5
    return dataset


@pytest.fixture
def start(request):
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("start", multiprocessing.get_all_start_methods(), indirect=True)
def test_samples_are_the_same_however_workers_start(dataset, start):
    alone = list(load_batches(dataset, BATCHES, workers=0))
    helped = list(load_batches(dataset, BATCHES, workers=1))
    for a, b in zip(alone, helped, strict=True):
        assert a["index"] == b["index"]
        assert torch.equal(a["gt"], b["gt"])
        for x, y in zip(a["lq"], b["lq"], strict=True):
            assert (x is None and y is None) or torch.equal(x, y)


def test_a_mapped_film_is_sent_by_its_name(tmp_path):
    frames = moving_frames(12)
    np.save(tmp_path / "film.npy", frames)
    mapped = DecodedFrames(np.load(tmp_path / "film.npy", mmap_mode="r"))
    sent = pickle.dumps(mapped)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert isinstance(received.frames, np.memmap) and received.shape == mapped.shape
    assert np.array_equal(received.crop([3, 0], 4, 5, (8, 9)), frames[[3, 0], 4:12, 5:14])
    kept = pickle.loads(pickle.dumps(DecodedFrames(frames)))  # what lies in memory alone has to be sent
    assert np.array_equal(kept.frames, frames)


@pytest.mark.parametrize("workers", [0, 1])
def test_opencv_has_its_threads_back_when_the_workers_run(dataset, workers):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        batches = load_batches(dataset, BATCHES, workers=workers)
        assert cv2.getNumThreads() == 2
        next(batches)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_what_is_observed_already_is_not_observed_again(monkeypatch):
    seen: list[int] = []
    apply = Degradation.apply
    monkeypatch.setattr(Degradation, "apply", lambda self, x: seen.append(len(x)) or apply(self, x))
    lq = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    gt = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = {"index": [0, 1, 2], "gt": gt, "lq": [lq, None, lq], "sigma": torch.zeros(3), "quality": [0, 0, 0]}
    degradation = Degradation((2, 4, 4))
    mixed = observe(batch, degradation, 0, torch.device("cpu"))[0]
    assert seen == [1] and not mixed[0].any() and not mixed[2].any()
    blurred = apply(degradation, gt[1:2].float().transpose(1, 2) / 255)[0].transpose(0, 1)
    torch.testing.assert_close(mixed[1] * 255, (blurred * 255).clamp(0, 255).round())
    observe({**batch, "lq": [lq] * 3}, degradation, 0, torch.device("cpu"))
    assert seen == [1]
