"""Prose is at most 120 characters wide: documents, docstrings, comments. Tables, code and commands may be wider."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WIDEST = 120
FOLDERS = ("davsr", "tests", "benchmarks", "examples", "integrations", "docs", "options", "csrc", ".ci")
MARKS = {".h": "//", ".cpp": "//", ".cu": "//", ".yml": "#", ".sh": "#"}
A_COMMAND = re.compile(r"(python|davsr|torchrun|make|sanitize\.sh|\.ci/\S+) ")
FOR_A_TOOL = re.compile(r"#\s*(type:|noqa|fmt:|pragma)")


def files(*suffixes: str) -> list[Path]:
    made = {"_build", "gallery"}  # by commands, not by hand
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if not made & set(path.parts)]
    return sorted(path for path in [*ROOT.glob("*"), *inside] if path.suffix in suffixes and path.is_file())


def prose_of_document(lines: list[str]) -> Iterator[int]:
    """Numbers of the lines, from 0, that are neither code, table nor heading."""
    fenced = False
    for number, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        code = fenced or (line.startswith("    ") and not lines[number - 1].lstrip().startswith(("*", "-", "1")))
        if not code and not line.lstrip().startswith(("|", "#", "<", "```")):
            yield number


def prose_of_python(text: str) -> Iterator[int]:
    """Lines of docstrings and comments, but for those that speak to a tool."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from range(node.lineno - 1, (node.end_lineno or node.lineno))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not FOR_A_TOOL.match(token.string):
            yield token.start[0] - 1


def prose_of_comments(lines: list[str], mark: str) -> Iterator[int]:
    for number, line in enumerate(lines):
        if (line.lstrip().startswith(mark) or f"  {mark} " in line) and not A_COMMAND.search(line):
            yield number


@pytest.mark.parametrize("suffix", [".md", ".py", *MARKS])
def test_prose_is_narrow(suffix: str) -> None:
    wide = []
    found = files(suffix)
    assert found
    for path in found:
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        if suffix == ".md":
            prose = prose_of_document(lines)
        elif suffix == ".py":
            prose = prose_of_python(text)
        else:
            prose = prose_of_comments(lines, MARKS[suffix])
        wide += [f"{path.relative_to(ROOT)}:{n + 1}" for n in sorted(set(prose)) if len(lines[n].rstrip()) > WIDEST]
    assert not wide
