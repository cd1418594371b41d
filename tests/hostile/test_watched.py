"""Every command in a folder that is watched: beside the named output, and its log, nothing appears, changes or goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from davsr.cli import main
from tests.kill.commands import COMMANDS, Command, make_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


def everything(folder: Path, without: set[Path]) -> dict[str, object]:
    """What lies below a folder, links as links; but for some paths and what lies below them."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not any(path == other or other in path.parents for other in without):
            link, file = path.is_symlink(), path.is_file()
            found[str(path.relative_to(folder))] = str(path.readlink()) if link else path.read_bytes() if file else None
    return found


def redirected(command: Command, target: str) -> Command:
    """The command with its output by another name."""
    old = command.results[0]
    return replace(command, arguments=[target if a == old else a for a in command.arguments], results=[target])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name.replace(" ", "-"))
def test_nothing_but_the_named_output_is_touched(tmp_path: Path, inputs: Path, monkeypatch, command: Command) -> None:
    work, victim = tmp_path / "work", tmp_path / "victim"
    for folder in (work, victim, tmp_path / "out.part", work / "other.part", work / ".other.partial"):
        folder.mkdir()
        (folder / "letter.txt").write_text("precious")
    for path in inputs.iterdir():
        (work / path.name).symlink_to(path)
    (work / "link").symlink_to(victim)
    monkeypatch.chdir(work)
    places = [command]
    if command.results[0].startswith("out"):
        suffix = Path(command.results[0]).suffix
        places += [redirected(command, f"../work/x/../new{suffix}"), redirected(command, f"{tmp_path}/deep/er{suffix}")]
        (work / "x").mkdir()
    elif command.name == "restore over frames":
        (work / "old").mkdir()
    for place in places:
        result = (work / place.results[0]).resolve()
        top = {result, result.parent / f"{result.name}.log"}
        top |= {result.parent} if result.parent not in (work, tmp_path) else set()
        top |= {work / "results", work / "experiments"} & {result, *result.parents}
        before = everything(tmp_path, top)
        original = everything(inputs, set())
        assert main(place.arguments) == 0, place
        assert everything(tmp_path, top) == before
        assert everything(inputs, set()) == original
        if result.parent not in (work, tmp_path):
            assert not [p.name for p in result.parent.iterdir() if p.name.endswith((".part", ".partial", ".lock"))]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name.replace(" ", "-"))
def test_an_output_that_is_somebody_elses_is_refused(
    tmp_path: Path, inputs: Path, monkeypatch, command: Command
) -> None:
    """What lies in the place of the output, or of its work folder, and is not ours, stays."""
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    if command.name == "train":  # it adds to a folder, and replaces none
        return
    result = tmp_path / command.results[0]
    inside = {"test": [result / "a"]}.get(command.name, [result])
    hidden = [path.with_name(f".{path.name}.partial") for path in inside]
    part = result.with_name(f"{result.name}.part")
    for place in [*inside, *(hidden if command.name.startswith(("prepare", "test")) else [part])]:
        (place / "sub").mkdir(parents=True)
        (place / "sub" / "letter.txt").write_text("precious")
        before = everything(tmp_path, set())
        assert main(command.arguments) == 2, place
        assert everything(tmp_path, set()) == before
        for path in (place / "sub" / "letter.txt", place / "sub", place):
            path.unlink() if path.is_file() else path.rmdir()
