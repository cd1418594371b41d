"""A store with a flipped bit anywhere is read, or refused with a sentence; never does it end the process."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from davsr.data.clips import open_clips
from davsr.data.lmdb_pages import DamagedPagesError, check_pages
from davsr.data.store import Entry, StoreWriter, decode_crop, encode_frame
from davsr.errors import InputError

pytest.importorskip("lmdb")


def write_store(path: Path, frames: int = 40) -> Path:
    rng = np.random.default_rng(0)
    with StoreWriter(path) as writer:
        for i in range(frames):
            writer.put("a", i, encode_frame(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)))
        for i in range(3):
            writer.put("b", i, encode_frame(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)))
        writer.finish([Entry("a", frames, 8, 8), Entry("b", 3, 50, 60)])
    return path


READ = """
import sys
from pathlib import Path
from davsr.data.clips import open_clips
from davsr.errors import InputError
folder, content = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
import numpy as np
rng = np.random.default_rng(0)
read = refused = 0
page = int(sys.argv[3])
for n in range(int(sys.argv[4])):
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        # heads of pages and nodes lie at the pages' beginnings and ends
        start = int(rng.integers(0, len(content) // page)) * page
        at = start + int(rng.choice([rng.integers(0, 160), page - 1 - rng.integers(0, 400), rng.integers(0, page)]))
        damaged[at] ^= 1 << int(rng.integers(0, 8))
    (folder / "data.mdb").unlink(missing_ok=True)
    (folder / "data.mdb").write_bytes(damaged)
    try:
        for clip in open_clips(folder):
            clip.check()
            clip.frames(0, len(clip))
        read += 1
    except InputError as error:
        refused += 1
print(read, refused)
"""


def test_flipped_bits_never_end_the_process(tmp_path: Path) -> None:
    file = write_store(tmp_path / "s.lmdb", 300) / "data.mdb"
    (tmp_path / "damaged.lmdb").mkdir()
    arguments = [str(tmp_path / "damaged.lmdb"), str(file), "4096", "400"]
    done = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-500:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == 400 and read > 20 and refused > 100


def test_a_whole_store_of_any_size_passes(tmp_path: Path) -> None:
    for count in (1, 60, 2000):
        check_pages(write_store(tmp_path / f"{count}.lmdb", count) / "data.mdb")
    for content in (b"", b"x" * 100, b"\0" * 20000):
        (tmp_path / "x.mdb").write_bytes(content)
        with pytest.raises(DamagedPagesError):
            check_pages(tmp_path / "x.mdb")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"frames": 10**9}, "DAVSR_CLIP_FRAMES raises that"),
        ({"height": 2**20, "width": 2**20}, "DAVSR_FRAME_PIXELS raises that"),
        ({"height": 0}, "is damaged: its list claims"),
        ({"frames": "0"}, "is damaged: its list claims"),
        ({"frames": True}, "is damaged: its list claims"),
        ({"rate": "1/0"}, "its list of clips cannot be read"),
        ({"rate": "x"}, "its list of clips cannot be read"),
        ({"colour": 1}, "its list of clips cannot be read"),
        ({"name": 5}, "is damaged: its list claims"),
    ],
)
def test_a_list_that_claims_too_much_is_refused(tmp_path: Path, monkeypatch, entry: dict, sentence: str) -> None:
    real = json.dumps
    whole = {"name": "a", "frames": 1, "height": 8, "width": 8, "rate": None, **entry}
    monkeypatch.setattr("davsr.data.store.json.dumps", lambda tree: real({**tree, "clips": [whole]}))
    path = write_store(tmp_path / "s.lmdb", 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match=sentence):
        open_clips(path)


def test_a_tile_that_inflates_without_end_is_not_followed() -> None:
    value = bytearray(encode_frame(np.zeros((8, 8, 3), np.uint8)))
    bomb = zlib.compress(bytes(50_000_000))
    head = np.array([8, 8, 16, 16 + len(bomb)], "<u4").tobytes()
    with pytest.raises(ValueError, match="a tile must hold 192 bytes"):
        decode_crop(head + bomb, 0, 0, 8, 8, np.empty((8, 8, 3), np.uint8))
    decode_crop(bytes(value), 0, 0, 8, 8, np.empty((8, 8, 3), np.uint8))
