"""Every flag of every subcommand of `prepare`, and every choice of the degradation it takes: right, or one sentence."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from davsr.cli import main
from davsr.data.clips import open_clip, open_clips
from davsr.data.frames import write_image
from davsr.data.video import VideoWriter
from davsr.options import Options
from tests.seams.matrix import choices_of, flags_of, parser_of, run, subparsers_of

pytest.importorskip("lmdb")
T, H, W = 10, 64, 96  # sharp frames of a clip; LR clips are smaller by the scale (5, 4, 4) of the defaults
SOURCES = {"degrade": "sharp", "lmdb": "sharp", "extract": "sharp.mkv", "verify": "lq", "reds": "reds"}
SMALL = {"reds": ["--frames", str(T), "--size", f"{W}x{H}", "--allow-missing"], "verify": ["--truth", "sharp"]}


def frames_of(number: int) -> np.ndarray:
    """A moving texture [T, H, W, 3]."""
    y, x = np.mgrid[0:H, 0:W].astype(float)
    moved = [np.stack([127 + 90 * np.sin((x - t) / 5 + y / (7 + number))] * 3, -1) for t in range(T)]
    return np.stack(moved).clip(0, 255).astype(np.uint8)


def write_clip(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        write_image(folder / f"{i:08d}.png", frame)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sharp/{a,b}, lq/{a,b} of the defaults, sharp.mkv, and reds/ as a download that lacks most clips."""
    root = tmp_path_factory.mktemp("prepare")
    for number, name in enumerate("ab"):
        write_clip(root / "sharp" / name, frames_of(number))
    assert main(["prepare", "degrade", "--input", str(root / "sharp"), "--output", str(root / "lq")]) == 0
    with VideoWriter(root / "sharp.mkv", 24) as video:
        for frame in frames_of(0):
            video.write(frame)
    for name, clip in (("000", "a"), ("001", "b")):
        write_clip(root / "reds/train/train_orig" / name, open_clip(root / "sharp" / clip).frames(0, T))
        write_clip(root / "reds/train/train_blur_bicubic/X4" / name, open_clip(root / "lq" / clip).frames(0, T // 5))
    return root


def right(command: str, out: Path, args: argparse.Namespace) -> None:
    """What a subcommand wrote is whole and as large as it must be."""
    if command == "reds":
        found = {clip.name: len(clip) for clip in open_clips(out / "train" / "GT")}
        assert set(found) <= {"001"} and set(found.values()) <= {T}
        assert {clip.name for clip in open_clips(out / "test" / "GT")} == {"000"}
    elif command in ("degrade", "lmdb"):
        clips = open_clips(out)
        assert [clip.name for clip in clips] == ["a", "b"]
        assert all(clip.frames(0, len(clip)).std() > 5 and len(clip) in (T, T // 5, T // 2) for clip in clips)
    elif command == "extract":
        start, stop = args.frames
        np.testing.assert_array_equal(
            open_clip(out).frames(0, len(open_clip(out))), open_clip("sharp.mkv").frames(start, stop or T)
        )


@pytest.mark.parametrize("command", sorted(subparsers_of(parser_of("prepare"))))
def test_every_flag_of_prepare(command: str, place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    refused = {}
    cases = [[], *flags_of(f"prepare {command}")]
    if command in ("degrade", "verify"):
        cases += [["--set", choice] for choice in choices_of(Options, sections=("degradation",))]
    for n, flags in enumerate(cases):
        out = tmp_path / str(n)
        places = ["--input", SOURCES[command], *([] if command == "verify" else ["--output", str(out)])]
        arguments = [command, *places, *SMALL.get(command, []), *flags]
        sentence = run(["prepare", *arguments], capsys, lists=True)
        if sentence:
            refused[" ".join(flags)] = sentence
            assert not out.exists(), arguments
        else:
            right(command, out, parser_of("prepare").parse_args(arguments))
    wrong = (
        "nothing",
        "text",
        "--workers -1",
        "--workers 1000",
        "--samples 0",
        "2:1",
        "1:99",
        "--size 64x96",
        "--size 96",
    )
    wrong += ("--frames 0", "--size 0x0", "restore.crf", "solver=separable", "solver=fourier", "boundary=circular")
    assert not {flags: said for flags, said in refused.items() if not any(w in flags for w in wrong)}
