"""Every command that writes, on inputs so small that a run takes a moment; what it leaves, without what may differ."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from davsr import config
from davsr.data.clips import open_clips
from davsr.data.video import VideoReader
from tests.runs import moving_frames, options, write_clip
from tests.videos import pattern, write_video

FREE = [f"--set=model.{change}" for change in ("enhancement.kind=none", "hyper.kind=fixed", "iterations=1")]
PIECES = [*"--model training-free --window 2 --overlap 0 --tile 0 --preset ultrafast --device cpu".split()]  # noqa: SIM905


@dataclass(frozen=True)
class Command:
    """Arguments, what they leave, and how that is compared; all names are relative to the current folder."""

    name: str
    arguments: list[str]
    results: list[str]
    again: Sequence[str] = ()  # what the second start has besides
    content: Callable[[Path], object] | None = None  # None: the bytes


def make_inputs(folder: Path) -> None:
    """What all commands read, below `folder`."""
    write_video(folder / "in.mkv", pattern(8, 16, 16), 25, codec="ffv1")
    frames = pattern(8, 16, 16)
    write_clip(folder / "hr", [cv2.resize(frame, (64, 64)) for frame in frames.repeat(5, 0)])  # type: ignore[arg-type]  # a list serves
    write_clip(folder / "lq" / "a", frames[:3])
    write_clip(folder / "lq" / "b", frames[3:5])
    write_clip(folder / "gt" / "c", moving_frames(8, 48, 48))
    for split, clips in (("train", 5), ("val", 1)):
        for number in range(clips):
            write_clip(folder / "reds" / f"{split}_orig" / f"{number:03d}", moving_frames(5, 16, 16, seed=number))
            lq = folder / "reds" / f"{split}_blur_bicubic" / "X4" / f"{number:03d}"
            write_clip(lq, moving_frames(1, 4, 4, seed=number))
    source = {"kind": "frames", "path": "gt", "cuts": False}
    small = options(train__iterations=6, train__checkpoint_every=2, data__sources=[source])
    (folder / "train.yml").write_text(config.to_yaml(small), encoding="utf-8")


def _video(path: Path) -> object:
    reader = VideoReader(path)
    return reader.frames(0, len(reader)).tobytes(), reader.times


def _store(path: Path) -> object:
    return [(clip.name, clip.frames(0, len(clip)).tobytes()) for clip in open_clips(path)]


def _prepare(what: str, source: str, *more: str, content: Callable[[Path], object] | None = None) -> Command:
    arguments = ["prepare", what, "--input", source, "--output", "out", "--workers", "1", *more]
    return Command(f"prepare {what}", arguments, ["out"], content=content)


COMMANDS = (
    Command("restore to frames", ["restore", "in.mkv", "out", *PIECES], ["out"]),
    Command(
        "restore to a video", ["restore", "in.mkv", "out.mkv", "--codec", "ffv1", *PIECES], ["out.mkv"], content=_video
    ),
    Command("restore over frames", ["restore", "in.mkv", "old", "--overwrite", *PIECES], ["old"]),
    Command(
        "polish",
        ["polish", "hr", "--input", "in.mkv", "--output", "out", "--rate", "25", "--tile", "0", "--device", "cpu"],
        ["out"],
    ),
    Command("test", ["test", "--input", "lq", "--name", "run", "--set=test.save=frames", *FREE], ["results/run"]),
    _prepare("degrade", "hr"),
    _prepare("lmdb", "lq", content=_store),
    _prepare("extract", "in.mkv"),
    _prepare("reds", "reds", "--link", "copy", "--allow-missing", "--frames", "5", "--size", "16x16"),
    Command("train", ["train", "-opt", "train.yml"], ["experiments/run"], again=["--auto-resume"]),
)


def left(command: Command, folder: Path) -> dict[str, object]:
    """What a command has left, by name: content that must be the same in every run."""
    found: dict[str, object] = {}
    for result in command.results:
        place = folder / result
        if command.content is not None:
            if place.exists():
                found[result] = command.content(place)
            continue
        # A signal saves at once, so that of the checkpoints only the last one is the same in every run.
        earlier = set(sorted(place.glob("checkpoints/step_*.pt"))[:-1])
        for path in sorted(place.rglob("*")):
            if path.is_file() and path not in earlier:
                found[str(path.relative_to(folder))] = _content(path)
    return found


_MOMENTS = re.compile(r"seconds|memory|written|second")  # of a run, not of its result


def _content(path: Path) -> object:
    """A file without what says when and how fast it was made."""
    if path.name in ("log.txt", "index.html", "curves.png", "events.json"):
        return None
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in row.items() if not _MOMENTS.search(k)} for row in rows]
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".pt":
        import torch

        tree = torch.load(path, weights_only=True)
        return repr(_plain(tree))
    return path.read_bytes()


def _timeless(tree: object) -> object:
    if isinstance(tree, dict):
        return {k: _timeless(v) for k, v in tree.items() if not _MOMENTS.search(k)}
    return [_timeless(v) for v in tree] if isinstance(tree, list) else tree


def _plain(tree: object) -> object:
    if hasattr(tree, "numpy"):
        return tree.numpy().tobytes()
    if isinstance(tree, dict):
        return {k: _plain(v) for k, v in tree.items()}
    return [_plain(v) for v in tree] if isinstance(tree, list) else tree
