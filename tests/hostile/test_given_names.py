"""Paths as they are given: empty ones mean nothing, and the longest that a file system takes are taken."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from davsr import config
from davsr.checkpoints.loading import SHIPPED, TRAINING_FREE, load_model
from davsr.cli import COMMANDS, main
from davsr.data.clips import open_clip, open_clips
from davsr.data.video import VideoReader, VideoWriter
from davsr.errors import InputError
from davsr.guards.console import Parser
from davsr.guards.names import beside
from davsr.options import Options, RestoreOptions, load_options
from davsr.restoration.restore import restore
from davsr.restoration.source import open_source
from tests.videos import pattern, write_video

FAST = RestoreOptions(preset="ultrafast", size_patch_testing=0, num_frame_testing=2, num_frame_overlap=0)
LONGEST = ["n" * 251, "ü" * 125 + "n", "名" * 83 + "nn"]  # bytes that leave four for a suffix


def values(parser: argparse.ArgumentParser, before: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Command lines in which one argument of a command is empty: of every flag with a value, every positional one."""
    given: tuple[str, ...] = ()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from values(inner, (*before, name))
        elif action.option_strings and action.nargs != 0:
            yield (*before, action.option_strings[-1], *[""] * (action.nargs if isinstance(action.nargs, int) else 1))
        elif not action.option_strings:
            yield (*before, *given, "")
            given = (*given, "x")


def command_lines() -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for name, (module, _) in COMMANDS.items():
        parser = Parser(prog=name)
        importlib.import_module(module).add_arguments(parser)
        lines += values(parser, (name,))
    assert len(lines) > 60
    return lines


def test_no_command_takes_an_empty_argument(capsys: pytest.CaptureFixture[str]) -> None:
    for line in command_lines():
        with pytest.raises(SystemExit) as end:
            main(line)
        assert end.value.code == 2 and "must not be empty" in capsys.readouterr().err, line


def files_of(tree: dict[str, object], options: object, prefix: str = "") -> Iterator[str]:
    """Options that name a file or, by null, none."""
    hints = {name: str(field.type) for name, field in type(options).__dataclass_fields__.items()}
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from files_of(value, getattr(options, name), f"{prefix}{name}.")
        elif hints[name] == "str | None":
            yield f"{prefix}{name}"


def test_no_option_takes_an_empty_name_of_a_file() -> None:
    options = Options()
    found = list(files_of(config.to_tree(options), options))
    assert {"model.weights", "model.enhancement.flow.weights"} <= set(found)
    for name in found:
        with pytest.raises(InputError, match=f"options: {name} must not be empty; null leaves it out"):
            load_options(None, [f"{name}="])


def test_python_takes_no_empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what could be taken for the input."""
    write_video(tmp_path / "in.mkv", pattern(1), codec="ffv1")
    monkeypatch.chdir(tmp_path)
    for call in (open_clip, open_clips, open_source, lambda path: restore(path, "out.mkv", options=FAST)):
        with pytest.raises(InputError, match="must be a path, got ''"):
            call("")
    with pytest.raises(InputError, match="output must be a path, got ''"):
        restore("in.mkv", "", options=FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize(
    "line", [["weights", "convert", str(SHIPPED), "."], ["polish", ".", "--input", "x"], ["restore", "x", ".."]]
)
def test_an_output_has_a_name(line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line) == 2
    assert "must be a file or folder with a name" in capsys.readouterr().err and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("stem", LONGEST, ids=["ascii", "umlauts", "chinese"])
def test_outputs_may_have_the_longest_names(tmp_path: Path, stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so may the files and folders that stand beside them meanwhile: locks, parts, logs, previews."""
    source = write_video(tmp_path / "in.mkv", pattern(2), codec="ffv1")
    model = load_model(model=TRAINING_FREE)
    for name in (f"{stem}.mkv", f"{stem}1234"):
        restore(source, tmp_path / name, model=model, options=FAST)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", f"{stem}.mkv", f"{stem}1234"}
    line = ["restore", str(source), str(tmp_path / f"{stem}.mp4"), "--model", "training-free", "--preset", "ultrafast"]
    assert main([*line, "--frames", "0:1"]) == 0 and main([*line, "--preview"]) == 0
    logs = [path for path in tmp_path.iterdir() if path.suffix == ".log"]
    previews = [path for path in tmp_path.iterdir() if "-preview" in path.name]
    assert len(logs) == 1 and len(previews) == 2 and all(path.name.startswith(stem[:50]) for path in logs)
    with VideoWriter(tmp_path / f"{stem}.mov", 25) as writer:
        writer.write(pattern(1)[0])
    assert len(VideoReader(tmp_path / f"{stem}.mov")) == 1
    assert main(["prepare", "extract", "--input", str(source), "--output", str(tmp_path / f"{stem}4321")]) == 0
    assert main(["weights", "convert", str(SHIPPED), str(tmp_path / f"{stem}.pt")]) == 0


def test_names_beside_an_output_differ_where_it_does() -> None:
    long = [beside(Path("n" * 250 + end), ".", ".partial").name for end in ("a", "b")]
    assert long[0] != long[1] and all(len(name) == 255 and name.endswith(".partial") for name in long)
    assert beside(Path("a/b.mp4"), "", ".log") == Path("a/b.mp4.log")
