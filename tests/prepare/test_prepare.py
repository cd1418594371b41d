"""`davsr prepare degrade|lmdb|extract`: right, resumable, and whole or absent whatever ends it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from davsr.data.clips import open_clip, open_clips
from davsr.data.frames import list_frames
from davsr.data.video import VideoWriter
from davsr.files import write_png
from davsr.physics.degradation import Degradation
from davsr.prepare import degrade as degrade_module
from davsr.prepare.integrity import folder_faults
from tests.prepare.folders import prepare, tree, write_clip

lmdb = pytest.importorskip("lmdb")


# -- degrade ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase,exposure,boundary", [(0, 5, "reflect"), (-2, 5, "reflect"), (3, 7.5, "circular")])
def test_degraded_clips_equal_the_operator_on_the_whole_clip(
    clips: Path,
    tmp_path: Path,
    real: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    phase: int,
    exposure: float,
    boundary: str,
) -> None:
    monkeypatch.setattr(degrade_module, "_CHUNK", 1)  # one LR frame at a time
    settings = {"phase": phase, "exposure": exposure, "boundary": boundary}
    sets = [a for k, v in settings.items() for a in ("--set", f"degradation.{k}={v}")]
    assert prepare("degrade", "--input", clips, "--output", tmp_path / "lq", *sets) == 0
    degradation = Degradation(phase=phase, exposure=exposure, boundary=boundary)
    for clip in open_clips(tmp_path / "lq"):
        hr = open_clip(clips / clip.name).frames(0, 20 if clip.name == "a" else 10)
        x = torch.from_numpy(hr).permute(3, 0, 1, 2)[None].float() / 255
        expected = degradation.apply(x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).numpy()
        written = clip.frames(0, len(clip))
        assert written.shape == expected.shape
        # another order of summation may round a sample the other way: none did, of 10752
        assert (written != expected).mean() <= 1e-3 and np.abs(written.astype(int) - expected).max() <= 1
    assert json.loads((tmp_path / "lq" / "prepared.json").read_text())["recipe"]["degradation"]["phase"] == phase


def test_what_cannot_be_degraded_is_named(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lq = tmp_path / "lq"
    command = ("degrade", "--input", clips, "--output", lq, "--set", "degradation.scale=[5, 5, 4]")
    assert prepare(*command) == 2
    assert "a must have sizes that the scale 4x5 divides, got 96x64; --crop cuts it to 96x60" in capsys.readouterr().err
    assert not lq.exists() and not list(tmp_path.glob(".*"))
    assert prepare(*command, "--crop") == 0
    assert open_clip(lq / "a").size == (12, 24)
    assert "2 HR frames at the ends of clips" in capsys.readouterr().out
    assert prepare(*command, "--crop", "--set", "degradation.phase=1") == 2
    assert "lq was made with another degradation" in capsys.readouterr().err
    assert prepare("degrade", "--input", clips, "--output", clips) == 2
    assert "no `davsr prepare` made it" in capsys.readouterr().err
    assert prepare("degrade", "--input", clips / "a", "--output", tmp_path / "x", "--set", "degradation.psf=boxy") == 2


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda f: (f / "00000007.png").unlink(), "00000007.png is missing"),
        (lambda f: os.truncate(f / "00000003.png", 900), "00000003.png is truncated"),
        (lambda f: (f / "00000003.png").write_bytes(b""), "00000003.png cannot be read"),
        (
            lambda f: write_png(f / "00000005.png", np.zeros((64, 92, 3), np.uint8)),
            "00000005.png must be 96x64 .* 92x64",
        ),
    ],
)
@pytest.mark.parametrize("command", ["degrade", "lmdb"])
def test_a_damaged_frame_is_named_before_work_begins(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, damage, message: str
) -> None:
    damage(clips / "b")
    assert prepare(command, "--input", clips, "--output", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1
    faults = folder_faults(clips / "b")
    assert len(faults) == 1
    assert re.search(message, faults[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hr"]


def test_damage_inside_a_frame_stops_the_work(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = clips / "b" / "00000003.png"
    content = bytearray(file.read_bytes())
    content[60:-60] = bytes(len(content) - 120)
    file.write_bytes(content)
    for command in ("degrade", "lmdb"):
        assert prepare(command, "--input", clips, "--output", tmp_path / "out") == 2
        assert "b/00000003.png cannot be read" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        for partial in tmp_path.glob(".out.partial*"):
            partial.rename(tmp_path / f"{command}.partial")


# -- videos ----------------------------------------------------------------------------------------------------


@pytest.fixture
def video(tmp_path: Path, real: np.ndarray) -> Path:
    """Two shots, 12 and 10 frames."""
    with VideoWriter(tmp_path / "film.mp4", 24, crf=4) as writer:
        for frame in [*real[:12], *(255 - real[:10, ::-1])]:
            writer.write(np.ascontiguousarray(frame))
    return tmp_path / "film.mp4"


def test_extracted_frames_are_the_videos_and_its_cut_is_listed(video: Path, tmp_path: Path, capsys) -> None:
    assert prepare("extract", "--input", video, "--output", tmp_path / "film") == 0
    assert "22 frames, 2 shots: 0-11, 12-21" in capsys.readouterr().out
    np.testing.assert_array_equal(open_clip(tmp_path / "film").frames(0, 22), open_clip(video).frames(0, 22))
    assert json.loads((tmp_path / "film" / "prepared.json").read_text())["shots"] == [[0, 12], [12, 22]]
    assert prepare("extract", "--input", video, "--output", tmp_path / "film") == 0  # complete
    assert "2 shots: 0-11, 12-21" in capsys.readouterr().out
    assert prepare("extract", "--input", video, "--output", tmp_path / "part", "--frames", "5:9") == 0
    assert [p.name for p in list_frames(tmp_path / "part")] == [f"0000000{i}.png" for i in range(4)]
    np.testing.assert_array_equal(open_clip(tmp_path / "part").frames(0, 4), open_clip(video).frames(5, 9))
    assert prepare("extract", "--input", video, "--output", tmp_path / "none", "--frames", "30:") == 2


def test_videos_are_packed_and_degraded_without_folders(video: Path, tmp_path: Path) -> None:
    frames = open_clip(video).frames(0, 22)
    assert prepare("lmdb", "--input", video, "--output", tmp_path / "film.lmdb") == 0
    stored = open_clip(tmp_path / "film.lmdb")
    assert (stored.name, stored.rate) == ("film", 24)
    np.testing.assert_array_equal(stored.frames(0, 22), frames)
    for source in (video, tmp_path / "film.lmdb"):
        assert prepare("degrade", "--input", source, "--output", tmp_path / f"{source.name}.lq", "--workers", 3) == 0
    write_clip(tmp_path / "frames", frames)
    assert prepare("degrade", "--input", tmp_path / "frames", "--output", tmp_path / "lq") == 0
    expected = tree(tmp_path / "lq")
    assert len(expected) == 4
    assert tree(tmp_path / "film.mp4.lq") == tree(tmp_path / "film.lmdb.lq") == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_video_is_named(
    video: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    rate = 4  # frames a second: a container that states seconds shows no less than one
    with VideoWriter(tmp_path / "slow.mp4", rate) as writer:
        for frame in open_clip(video).frames(0, 22):
            writer.write(frame)
    with (
        av.open(str(tmp_path / "slow.mp4")) as source,
        av.open(str(whole), "w", options={"movflags": "faststart"}) as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 7 // 10])
    for command in ("lmdb", "extract", "degrade"):
        assert prepare(command, "--input", whole, "--output", tmp_path / f"whole{command}") == 0
        capsys.readouterr()
        assert prepare(command, "--input", cut, "--output", tmp_path / f"cut{command}") == 2
        assert f"video {cut} is truncated" in capsys.readouterr().err
        assert not (tmp_path / f"cut{command}").exists()


def test_numbers_of_frames_tell_what_is_missing(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for name in ("f0001.png", "f0002.png", "f0004.png"):
        cv2.imwrite(str(tmp_path / name), image)
    assert folder_faults(tmp_path) == [f"frame {tmp_path / 'f0003.png'} is missing"]
    assert folder_faults(tmp_path, count=4) == [f"frame {tmp_path / 'f0003.png'} is missing"]
    assert folder_faults(tmp_path, count=6) == [f"frame {tmp_path / 'f0000.png'} is missing, and 2 more"]
    (tmp_path / "f0003.png").write_bytes((tmp_path / "f0004.png").read_bytes())
    assert folder_faults(tmp_path, 4, (8, 8)) == []
    assert folder_faults(tmp_path, 4, (8, 16))[0].endswith("f0001.png must be 16x8 like its clip, got 8x8")
    (tmp_path / "cover.png").write_bytes((tmp_path / "f0004.png").read_bytes())
    assert folder_faults(tmp_path, count=4) == [f"folder {tmp_path} must hold 4 frames, got 5"]
