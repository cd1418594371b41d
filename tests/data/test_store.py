"""Frames in LMDB: exactly what went in, crop by crop, in any process.

What is unfinished or damaged is refused by name.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from davsr.data import store as store_module
from davsr.data.clips import open_clip, open_clips
from davsr.data.store import TILE, Entry, Store, StoreWriter, decode_crop, encode_frame, frame_size
from davsr.errors import InputError

lmdb = pytest.importorskip("lmdb")


def footage(n: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    """Frames [n, h, w, 3]: a smooth half, a noisy half."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(h), np.arange(w)) // 3
    frames = np.stack([np.stack([ramp + i, ramp * 2 - i, 255 - ramp], -1) for i in range(n)]).astype(np.uint8)
    frames[:, :, w // 2 :] = rng.integers(0, 256, (n, h, w - w // 2, 3), dtype=np.uint8)
    return frames


def write_store(path: Path, clips: dict[str, np.ndarray], rate: str | None = None) -> Path:
    with StoreWriter(path) as writer:
        for name, frames in clips.items():
            for i, frame in enumerate(frames):
                writer.put(name, i, encode_frame(frame))
        writer.finish([Entry(name, *frames.shape[:3], rate) for name, frames in clips.items()])
    return path


@pytest.fixture(scope="module")
def clips() -> dict[str, np.ndarray]:
    return {"000": footage(6, 300, 410), "b é": footage(3, 40, 24, seed=1)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, np.ndarray]) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "clips.lmdb", clips, "24000/1001")


@pytest.mark.parametrize("h,w", [(1, 1), (5, 300), (TILE, TILE), (TILE + 1, 2 * TILE - 1), (2 * TILE, 3)])
def test_every_pixel_comes_back(h: int, w: int) -> None:
    rng = np.random.default_rng(h * w)
    for frame in (rng.integers(0, 256, (h, w, 3), dtype=np.uint8), footage(1, h, w)[0], np.zeros((h, w, 3), np.uint8)):
        value = encode_frame(frame)
        assert frame_size(value) == (h, w)
        whole = np.empty_like(frame)
        decode_crop(value, 0, 0, h, w, whole)
        np.testing.assert_array_equal(whole, frame)


def test_crops_are_slices_of_frames(path: Path, clips: dict[str, np.ndarray]) -> None:
    clip = open_clips(path)[0]
    rng = np.random.default_rng(0)
    for _ in range(60):
        top, left = int(rng.integers(0, 300)), int(rng.integers(0, 410))
        height, width = int(rng.integers(1, 301 - top)), int(rng.integers(1, 411 - left))
        indices = rng.integers(-6, 6, size=2).tolist()
        expected = clips["000"][indices, top : top + height, left : left + width]
        np.testing.assert_array_equal(clip.crop(indices, top, left, height, width), expected)
    with pytest.raises(ValueError, match="must lie within 410x300"):
        clip.crop([0], 200, 0, 101, 5)
    with pytest.raises(IndexError):
        clip.crop([6], 0, 0, 5, 5)


def test_a_crop_inflates_only_the_tiles_it_touches(clips: dict[str, np.ndarray]) -> None:
    frame = clips["000"][0]
    value = bytearray(encode_frame(frame))
    last = np.frombuffer(bytes(value), "<u4", count=2 + 3 * 4 + 1)[-2]  # the tile in the lower right corner
    value[int(last) + 2 :] = bytes(len(value) - int(last) - 2)
    out = np.empty((256, 300, 3), np.uint8)
    decode_crop(bytes(value), 0, 0, 256, 300, out)
    np.testing.assert_array_equal(out, frame[:256, :300])
    with pytest.raises(Exception, match="decompress"):
        decode_crop(bytes(value), 0, 110, 300, 300, np.empty((300, 300, 3), np.uint8))


def test_a_store_opens_like_a_folder_of_clips(path: Path, clips: dict[str, np.ndarray]) -> None:
    found = open_clips(path)
    assert [(c.name, len(c), c.size, c.rate) for c in found] == [
        ("000", 6, (300, 410), Fraction(24000, 1001)),
        ("b é", 3, (40, 24), Fraction(24000, 1001)),
    ]
    for clip in found:
        clip.check()
        np.testing.assert_array_equal(clip.frames(0, 10, 2), clips[clip.name][0:10:2])
    assert open_clips(path, ("b é",))[0].name == "b é"
    assert open_clip(path / "000").size == (300, 410)
    with pytest.raises(InputError, match="clip 001 is not in"):
        open_clip(path / "001")
    with pytest.raises(InputError, match="holds 2 clips; name one"):
        open_clip(path)


def test_copies_read_in_other_processes(path: Path, clips: dict[str, np.ndarray], tmp_path: Path) -> None:
    clip = open_clips(path)[0]
    expected = clips["000"][2:4]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip)).frames(2, 4), expected)
    child = os.fork()
    if child == 0:  # a worker of a loader that forks reads through the map that its parent opened
        os._exit(0 if np.array_equal(clip.frames(2, 4), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    (tmp_path / "clip").write_bytes(pickle.dumps(clip))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).frames(2, 4).sum())"
    printed = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "clip"], capture_output=True, text=True, check=True
    )
    assert int(printed.stdout) == int(expected.sum())


def test_an_unfinished_store_is_refused_and_written_on(tmp_path: Path) -> None:
    frames = footage(5, 30, 40)
    with StoreWriter(tmp_path / "s.lmdb") as writer:
        writer.put("clip", 0, encode_frame(frames[0]))
        writer.put("clip", 3, encode_frame(frames[3]))
        writer.commit()
        writer.put("clip", 1, encode_frame(frames[1]))  # not committed: the process ends here
    with pytest.raises(InputError, match=r"s\.lmdb is unfinished"):
        open_clips(tmp_path / "s.lmdb")
    with StoreWriter(tmp_path / "s.lmdb") as writer:
        assert writer.missing("clip", 5) == [1, 2, 4]
        for i in (1, 2, 4):
            writer.put("clip", i, encode_frame(frames[i]))
        writer.finish([Entry("clip", 5, 30, 40)])
    np.testing.assert_array_equal(open_clip(tmp_path / "s.lmdb").frames(0, 5), frames)


def test_a_store_grows_beyond_the_space_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MAP", 1 << 17)
    monkeypatch.setattr(store_module, "_BATCH", 1 << 16)
    frames = np.random.default_rng(0).integers(0, 256, (12, 120, 160, 3), dtype=np.uint8)
    write_store(tmp_path / "s.lmdb", {"clip": frames})
    np.testing.assert_array_equal(open_clip(tmp_path / "s.lmdb").frames(0, 12), frames)


@pytest.mark.parametrize("kept", [0, 100, 5000, 0.5, -1])
def test_a_truncated_store_is_named(tmp_path: Path, kept: float) -> None:
    file = write_store(tmp_path / "s.lmdb", {"clip": footage(2, 100, 100)}) / "data.mdb"
    size = file.stat().st_size
    os.truncate(file, int(kept * size) if kept == 0.5 else kept if kept >= 0 else size + kept)
    with pytest.raises(InputError, match=r"s\.lmdb (is damaged|cannot be opened)"):
        Store(tmp_path / "s.lmdb")


def test_a_flipped_bit_is_named_with_its_frame(tmp_path: Path) -> None:
    value = encode_frame(footage(1, 50, 60, seed=3)[0])
    file = write_store(tmp_path / "s.lmdb", {"clip": footage(3, 50, 60, seed=3)}) / "data.mdb"
    content = bytearray(file.read_bytes())
    content[content.index(value[:400]) + 350] ^= 4
    file.write_bytes(content)
    clip = open_clip(tmp_path / "s.lmdb")
    with pytest.raises(InputError, match=r"s\.lmdb is damaged: frame 0 of clip clip"):
        clip.frames(0, 1)
    clip.frames(1, 3)


def test_without_the_package_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"pip install 'davsr\[lmdb\]'"):
        Store(path)
