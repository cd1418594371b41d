"""A clip's name becomes a folder, a run's name a path: neither leads anywhere else, and no two clips share one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from davsr.data.clips import open_clip, open_clips
from davsr.data.frames import write_image
from davsr.data.store import Entry, StoreWriter, encode_frame
from davsr.errors import InputError
from davsr.guards.names import require_apart
from davsr.options import load_options

HOSTILE = [
    "",
    ".",
    "..",
    "../../victim",
    "/etc/victim",
    "a/b",
    "a\\b",
    "a\x00b",
    "a\x1b[2J",
    "a\nb",
    ".a.partial",
    "n" * 300,
]


def store(path: Path, *names: str) -> Path:
    frame = np.zeros((8, 8, 3), np.uint8)
    with StoreWriter(path) as writer:
        for name in names:
            writer.put(name[:20], 0, encode_frame(frame))
        writer.finish([Entry(name, 1, 8, 8) for name in names])
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_store_with_a_hostile_name_is_not_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="a name must") as error:
        open_clips(store(tmp_path / "s.lmdb", name))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [n for n in HOSTILE if n != "a/b"] + ["a/../../b", "C:/x", "a//b", "a/"])
def test_a_run_with_a_hostile_name_is_not_begun(name: str) -> None:
    quoted = '"' + name.encode("unicode_escape").decode().replace('"', '\\"') + '"'
    with pytest.raises(InputError, match="options: name must"):
        load_options(None, [f"name={quoted}"])
    assert load_options(None, ["name=study/run-1"]).name == "study/run-1"


def test_clips_of_one_name_are_refused_wherever_clips_are_opened(tmp_path: Path) -> None:
    (tmp_path / "clips" / "a").mkdir(parents=True)
    write_image(tmp_path / "clips" / "a" / "0.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "clips" / "a.mkv").write_bytes(b"another clip of that name")
    with pytest.raises(InputError, match=r"different names: a and a\.mkv are both a"):
        open_clips(tmp_path / "clips")
    with pytest.raises(InputError, match="twice"):
        open_clips(store(tmp_path / "s.lmdb", "a", "a"))


def test_names_that_are_only_unusual_serve(tmp_path: Path) -> None:
    for name in ("b é", "<!--<script>", "-x", "a.b.c", ".hidden", "a\udcffb"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "0.png", np.full((8, 8, 3), 7, np.uint8))
        clip = open_clip(tmp_path / name)
        assert clip.name == name and clip.frames(0, 1).mean() == 7


def test_an_output_may_lie_in_an_input_but_not_around_it(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    require_apart([tmp_path / "in" / "results"], [tmp_path / "in"])
    for target in (tmp_path / "in", tmp_path, tmp_path / "link", tmp_path / "x" / ".." / "in"):
        with pytest.raises(InputError, match="must not be the input"):
            require_apart([target], [tmp_path / "in" / "deep", tmp_path / "in"])
