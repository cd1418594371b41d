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


def test_everything_public_says_what_it_is() -> None:
    """In a docstring; what a class of the standard library asks for is said there."""
    silent = []

    def visit(node: ast.AST, path: Path) -> None:
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, (ast.ClassDef, ast.FunctionDef)) and not inner.name.startswith("_"):
                if not ast.get_docstring(inner):
                    silent.append(f"{path.relative_to(PACKAGE)}: {inner.name}")
                if isinstance(inner, ast.ClassDef) and not any(
                    isinstance(base, ast.Attribute) and base.attr == "RawIOBase" for base in inner.bases
                ):
                    visit(inner, path)

    for path in sorted(PACKAGE.rglob("*.py")):
        visit(ast.parse(path.read_text(encoding="utf-8")), path)
    assert not silent
