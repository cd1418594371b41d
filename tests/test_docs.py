"""What README, docs and option files tell people to type works: commands are parsed by themselves, examples are run."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
import typing
from pathlib import Path

import pytest

import davsr
from davsr.cli import COMMANDS
from davsr.options import Options, load_options
from tests import snippets

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTION_FILES = sorted((ROOT / "options").glob("*/*.yml"))
STARTS = (
    "davsr ",
    "python train.py",
    "python test.py",
    "torchrun ",
    "make ",
    "python -m benchmarks",
    "python benchmarks/",
    "python -m tests",
    "pytest ",
)
PARTS = re.compile(r"`((?:davsr|tests|benchmarks|options|examples|integrations|docs|csrc|\.ci)/[\w./-]+)`")


def commands(text: str) -> list[str]:
    """The command lines of a page, or of the comments of an option file, and those in backticks."""
    joined = re.sub(r"\\\n\s*#?", "", text)
    lines = [line.strip("# \t") for line in joined.splitlines() if re.match(r"(    |#|[dpmtf])", line)]
    lines = [part.strip() for line in lines for part in (line.split(" | ") if " | davsr" in line else [line])]
    inline = [
        code for code in re.findall(r"`([^`\n]+)`", text) if " -" in code or code.startswith(("make ", "pytest "))
    ]
    return [re.split(r"\s{3,}|\s+\(", line)[0] for line in [*lines, *inline] if line.startswith(STARTS)]


ALL = sorted({(file.name, line) for file in [*PAGES, *OPTION_FILES] for line in commands(file.read_text())})


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page}: {line}" for page, line in ALL])
def test_a_command_is_taken_by_what_it_calls(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in [*targets, ".venv/.ready"]
        return
    if words[0] == "pytest":
        assert all((ROOT / word.partition("::")[0]).exists() for word in words[1:] if not word.startswith("-"))
        return
    if "benchmarks" in words[1] or words[1] == "-m":
        module = words[2].replace(".", "/") if words[1] == "-m" else words[1].removesuffix(".py")
        file = next(f for f in (ROOT / f"{module}.py", ROOT / module / "__main__.py") if f.is_file())
        told = "".join(other.read_text() for other in [file, *file.parent.glob(f"{file.stem}*.py")])
        assert all(word in told for word in words if word.startswith("--"))
        return
    script = next((n for n, word in enumerate(words) if word in ("train.py", "test.py")), None)
    name, rest = (words[1], words[2:]) if script is None else (words[script].removesuffix(".py"), words[script + 1 :])
    if name == "COMMAND":  # stands for each of them
        return
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(prog=line, exit_on_error=False)
    module.add_arguments(parser)
    if "--help" in rest:
        return
    args = parser.parse_args(rest)
    if getattr(args, "opt", None) == "FILE.yml":
        return
    load_options(getattr(args, "opt", None), getattr(args, "set", None) or [])


@pytest.mark.parametrize(
    "page",
    [
        "install",
        "restoration",
        "api.md#davsr.Degradation",
        "training",
        "results",
        "promises",
        "gallery/index",
        "releases",
    ],
)
def test_a_newcomer_is_one_click_away_from(page):
    table = [line for line in (ROOT / "docs/index.md").read_text().splitlines() if line.startswith("| [")]
    assert sum(f"]({page}" in line for line in table) == 1


def test_there_are_commands_of_every_kind_on_the_pages():
    assert len(ALL) > 60 and {line.split()[0] for _, line in ALL} == {"davsr", "python", "torchrun", "make", "pytest"}


@pytest.mark.parametrize("page", [*PAGES, *OPTION_FILES], ids=lambda page: page.name)
def test_paths_and_extras_that_a_page_names_exist(page):
    text = page.read_text()
    named = PARTS.findall(text) + re.findall(r"\btests/[\w./*]+\.py", text)
    assert [path for path in named if not list(ROOT.glob(path))] == []
    metadata = (ROOT / "pyproject.toml").read_text()
    assert [
        extra for extra in re.findall(r"davsr\[(\w+)\]", text) if not re.search(rf"^{extra} = \[", metadata, re.M)
    ] == []
    asked = {name for line in re.findall(r"pip install ([\w ]+)`", text) for name in line.split()}
    assert asked <= set(re.findall(r'^    "([\w-]+)>=', metadata, re.M))


def option_exists(path: str) -> bool:
    kind: typing.Any = Options
    for name in path.split("."):
        kinds = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k)]
        hints = [typing.get_type_hints(k) for k in kinds]
        kind = next((h[name] for h in hints if name in h), None)
        if kind is None:
            return False
    return True


@pytest.mark.parametrize("page", [*PAGES, *OPTION_FILES], ids=lambda page: page.name)
def test_options_that_a_page_names_exist(page):
    sections = "|".join(field.name for field in dataclasses.fields(Options))
    named = re.findall(rf"`((?:{sections})\.[a-z_][a-z_.]*[a-z_])(?::[^`]*)?`", page.read_text())
    assert [
        name for name in named if not option_exists(name) and not name.endswith((".md", ".py", ".pt", ".yml"))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_links_to_exist(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    made = "gallery/"  # by `make docs`
    assert [link for link in links if not link.startswith(("http", made)) and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.name
)
def test_examples_run_as_they_stand(page, tmp_path, monkeypatch):
    if "save_pretrained" in page.read_text():
        pytest.importorskip("safetensors", reason="what this page shows needs safetensors, of the test requirements")
    monkeypatch.chdir(tmp_path)
    snippets.write_clip(tmp_path / "in.mp4")
    assert snippets.run(page, snippets.namespace()) > 0


def test_examples_are_typed(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    given = "from torch import Tensor\n\nx: Tensor\nx0: Tensor\nlq: Tensor\ntruth: Tensor\n\n"
    code = "\n".join(snippets.blocks((ROOT / "README.md").read_text(), "python"))
    (tmp_path / "readme.py").write_text(given + code)
    told, problems, status = api.run([str(tmp_path / "readme.py"), "--config-file", str(ROOT / "pyproject.toml")])
    assert status == 0, told + problems


def test_package_command_line_and_docs_say_the_same():
    api, page = (ROOT / "docs/api.md").read_text(), (ROOT / "docs/commands.md").read_text()
    assert re.findall(r"^::: davsr\.(\w+)", api, re.M) != []
    assert set(re.findall(r"^::: davsr\.(\w+)", api, re.M)) == set(davsr.__all__)
    assert re.findall(r"^\| `davsr (\w+)`", page, re.M) == list(COMMANDS)
    nav = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert {name for name in nav if "/" not in name} == {path.name for path in (ROOT / "docs").glob("*.md")}
