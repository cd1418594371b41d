"""`davsr prepare` ended by signals, kills and full disks: it goes on, and nothing half done looks done."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from davsr.cli import main
from davsr.data import store
from davsr.data.clips import open_clip, open_clips
from davsr.data.frames import read_image
from davsr.prepare import output as output_module
from davsr.prepare import pack
from tests.prepare.folders import prepare, tree, write_clip
from tests.processes import start_and_hold

lmdb = pytest.importorskip("lmdb")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_goes_on(tmp_path: Path, real: np.ndarray, end: signal.Signals) -> None:
    for name in "abcdefghijkl":
        write_clip(tmp_path / "hr" / name, real[:20])
    command = ("degrade", "--input", tmp_path / "hr", "--output", tmp_path / "lq", "--workers", "1")
    ended = start_and_hold("davsr.prepare.degrade", "write_png", 2, "prepare", *command)
    ended.send_signal(end)
    _, error = ended.communicate()
    assert ended.returncode == (-9 if end == signal.SIGKILL else 130), error
    held = tree(tmp_path / ".lq.partial")
    assert not (tmp_path / "lq").exists() and 2 <= len(held) < 48
    whole = [name for name in held if not Path(name).name.startswith(".")]
    for name in whole:
        read_image(tmp_path / ".lq.partial" / name)
    stamps = {name: (tmp_path / ".lq.partial" / name).stat().st_mtime_ns for name in whole}
    assert prepare(*command) == 0
    assert not (tmp_path / ".lq.partial").exists()
    done = tree(tmp_path / "lq")
    assert sorted(n for n in done if n.startswith("a/")) == [f"a/0000000{i}.png" for i in range(4)]
    assert all(done[f"{name}/{file[2:]}"] == done[file] for name in "bcdefghijkl" for file in done if file[0] == "a")
    first = {n for n in whole if n[0] == "a"}  # not written again
    assert all((tmp_path / "lq" / name).stat().st_mtime_ns == stamps[name] for name in first)
    assert prepare(*command) == 0  # and a third run finds it complete


def test_packing_that_is_killed_goes_on(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("lmdb", "--input", clips, "--output", tmp_path / "hr.lmdb", "--workers", "1")
    monkeypatch.setattr(store, "_BATCH", 1)  # every frame by itself
    encoded = []

    def encode(frame: np.ndarray) -> bytes:
        encoded.append(frame)
        if len(encoded) == 9:
            raise KeyboardInterrupt
        return store.encode_frame(frame)

    monkeypatch.setattr(pack, "encode_frame", encode)
    assert prepare(*command) == 130
    assert not (tmp_path / "hr.lmdb").exists()
    with pytest.raises(ValueError, match="is unfinished"):
        open_clips(tmp_path / ".hr.lmdb.partial")
    assert prepare(*command) == 0
    assert len(encoded) < 9 + 32  # what was committed was not done again
    for clip in open_clips(tmp_path / "hr.lmdb"):
        np.testing.assert_array_equal(clip.frames(0, 99), open_clip(clips / clip.name).frames(0, 99))
    assert prepare(*command) == 0


def test_a_full_disk_is_named(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    written: list[Path] = []
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) > 3:
            write_bytes(path, bytes(content)[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write_bytes(path, content)

    command = ("degrade", "--input", clips, "--output", tmp_path / "lq")
    monkeypatch.setattr(output_module.Path, "write_bytes", full)
    assert prepare(*command) == 2
    assert "png cannot be written: No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "lq").exists()
    assert not list((tmp_path / ".lq.partial").rglob(".*.tmp"))
    monkeypatch.undo()
    assert prepare(*command) == 0
    assert [len(clip) for clip in open_clips(tmp_path / "lq")] == [4, 2]


def test_a_folder_that_cannot_be_made_is_named(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert prepare("degrade", "--input", clips, "--output", tmp_path / "file" / "lq") == 2
    assert f"davsr: {tmp_path / 'file'}" in capsys.readouterr().err


def test_an_lmdb_that_cannot_grow_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 96, 96, 3), dtype=np.uint8)
    write_clip(tmp_path / "hr", noise)
    code = "import sys; from davsr.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        code,
        "prepare",
        "lmdb",
        "--input",
        tmp_path / "hr",
        "--output",
        tmp_path / "x.lmdb",
    ]
    limit = 200_000  # bytes of a file: a quota, which ends writing like a full disk does
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.returncode == 2, process.stderr
    assert "cannot be written" in process.stderr and "Traceback" not in process.stderr
    assert not (tmp_path / "x.lmdb").exists()
    assert main([str(a) for a in command[3:]]) == 0
    np.testing.assert_array_equal(open_clip(tmp_path / "x.lmdb").frames(0, 20), noise)
