"""Names: no two public things share one, so that one found by search is the one meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "davsr"
EVERY_COMMAND_HAS = {"add_arguments", "run"}
RIDDLES = {
    "asked",
    "dear",
    "Deep",
    "shown_on",
    "restore_as_asked",
    "to_last",
    "say",
    "Look",
}  # what a reader had to look up


def test_no_two_public_things_share_a_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(PACKAGE)))
    twice = {name: paths for name, paths in found.items() if len(paths) > 1 and name not in EVERY_COMMAND_HAS}
    assert not twice


def test_names_are_those_of_the_field() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        names = {
            node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Name, ast.arg, ast.FunctionDef, ast.ClassDef))
        }
        assert not names & RIDDLES, path
