"""`dir(davsr)`, `help`, `davsr --help` and the docs say the same.

python -m tests.test_same_everywhere      writes the tables of flags in docs/commands.md again
"""

from __future__ import annotations

import argparse
import html
import importlib
import inspect
import pydoc
import re
import typing
from pathlib import Path

import pytest

import davsr
from davsr.cli import COMMANDS, _top_parser
from davsr.options import DegradationOptions, Options, RestoreOptions
from davsr.restoration.flags import _FLAGS, _SWITCHES, add_flags
from davsr.runtime import Precision
from tests import snippets

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/commands.md"
FUNCTIONS = [
    "load_model",
    "restore",
    "polish",
    "degrade",
    "Degradation",
    "Degradation.data_step",
    "DAVSR",
    "DAVSR.forward",
]


def documented(what: typing.Any) -> dict[str, str]:
    """{argument: what the docstring says of it}, in its order."""
    text = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(what) or "", re.M | re.S)
    assert text is not None, f"{what} describes no arguments"
    found = re.findall(r"^    (\w[\w, ]*): (.*?)(?=^    \w|\Z)", text[1], re.M | re.S)
    return {name: " ".join(words.split()) for names, words in found for name in names.split(", ")}


def public(name: str) -> typing.Any:
    what: typing.Any = davsr
    for part in name.split("."):
        what = getattr(what, part)
    return what


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_describes_every_argument_in_its_order(name):
    what = public(name)
    assert list(documented(what)) == [p for p in inspect.signature(what).parameters if p != "self"]
    told = pydoc.plain(pydoc.render_doc(what))
    assert all(f"{argument}: " in told for argument in documented(what))


def test_what_pages_write_of_davsr_is_in_its_list():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "integrations").glob("*.py")]:
        text = page.read_text()
        code = "\n".join(snippets.blocks(text, "python")) if page.suffix == ".md" else text
        named = set(re.findall(r"\bdavsr\.([A-Za-z]\w*)\b", code))
        named |= set(re.findall(r"`davsr\.([A-Za-z]\w*)\(", text))
        assert named - {*davsr.__all__, "errors", "data", "ops", "pixels", "models", "restoration"} == set(), page.name
    assert set(davsr.__all__) <= set(dir(davsr)) and set(davsr.__all__) <= set(
        pydoc.render_doc(davsr).split() + davsr.__all__
    )


def test_the_command_line_lists_commands_in_the_words_of_the_page():
    rows = re.findall(r"^\| `davsr (\w+)` \| (.*) \|$", PAGE.read_text(), re.M)
    page = {name: re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", words) for name, words in rows}
    assert page == {name: words for name, (_, words) in COMMANDS.items()}
    told = " ".join(_top_parser().format_help().split())
    assert all(f"{name} {words}" in told for name, words in page.items())


def test_python_and_the_command_line_restore_with_the_same_choices():
    told, flags = documented(davsr.restore), {flag: how for flag, (_, how) in _FLAGS.items()}
    assert flags["--device"]["help"] in told["device"]
    assert set(flags["--precision"]["choices"]) == set(typing.get_args(Precision))
    assert flags["--precision"]["help"] in told["precision"]
    assert all(choice in told["precision"] for choice in typing.get_args(Precision))
    for word in ("a checkpoint", "training-free", "the shipped model"):
        assert word in flags["--model"]["help"] and word in told["model"].replace("`", "")
        assert word in documented(davsr.load_model)["path"].replace("`", "")


def test_every_option_of_restoring_and_of_the_camera_has_its_flag_and_no_flag_another():
    stated = [option for option, _ in _FLAGS.values()] + [text.partition("=")[0] for text, _ in _SWITCHES.values()]
    names = {f"restore.{name}" for name in typing.get_type_hints(RestoreOptions)}
    camera = {f"degradation.{name}" for name in typing.get_type_hints(DegradationOptions)}
    parser = argparse.ArgumentParser()
    add_flags(parser)
    by_themselves = {f"restore.{action.dest}" for action in parser._actions}  # what a short way states beside the scale
    assert names <= {*stated, *by_themselves} and len(stated) == len(set(stated))
    others = set(stated) - names - camera
    assert others == {"device", "precision"} and others <= set(typing.get_type_hints(Options))


def tables() -> str:
    """All flags of all commands as Markdown."""
    parts = []
    for name, (module, _) in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"davsr {name}", add_help=False)
        importlib.import_module(module).add_arguments(parser)
        parts += _tables_of(parser)
    return "\n".join(parts)


def _tables_of(parser: argparse.ArgumentParser) -> list[str]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    rows = [_row(action) for action in parser._actions if action not in inner and "--help" not in action.option_strings]
    head = f"### `{parser.prog}`\n\n| | |\n|---|---|\n"
    return [head + "\n".join(rows) + "\n"] * bool(rows) + [
        table for action in inner for one in action.choices.values() for table in _tables_of(one)
    ]


def _row(action: argparse.Action) -> str:
    choices = None if action.choices is None else ", ".join(map(str, action.choices))
    shown = action.metavar or choices or (action.dest.upper() if action.option_strings else action.dest)
    values = "" if action.nargs == 0 else " ".join(shown) if isinstance(shown, tuple) else str(shown)
    words = (action.help or "") % {"default": action.default} if "%(" in (action.help or "") else action.help or ""
    call = " ".join([", ".join(action.option_strings), values]).strip()
    return f"| `{call}` | {html.escape(words, quote=False).replace('|', ' or ')} |"


def test_the_version_is_a_release_that_changelog_notes_and_citation_name():
    assert re.fullmatch(r"\d+\.\d+\.\d+", davsr.__version__)
    for file, line in {
        "CHANGELOG.md": rf"^## {davsr.__version__} \(\d{{4}}-\d\d-\d\d\)$",
        "docs/releases.md": rf"^## {davsr.__version__}$",
        "CITATION.cff": rf"^version: {davsr.__version__}$",
    }.items():
        assert re.search(line, (ROOT / file).read_text(), re.M), file


def test_nothing_on_a_page_is_taken_for_a_tag():
    """Pages and docstrings become HTML: `<` before a letter opens a tag there, unless it stands in code."""
    pages = {page.name: page.read_text() for page in (ROOT / "docs").glob("*.md")}
    kinds = [getattr(davsr, name) for name in davsr.__all__ if name != "metrics"]
    parts = [(kind, *vars(kind).values()) if inspect.isclass(kind) else (kind,) for kind in kinds]
    spoken = [part for group in parts for part in group if inspect.isclass(part) or inspect.isfunction(part)]
    texts = pages | {
        part.__qualname__: inspect.getdoc(part) or "" for part in spoken if part.__module__.startswith("davsr")
    }
    for name, text in texts.items():
        prose = re.sub(r"^```.*?^```|^    .*?$|`[^`]*`", "", text, flags=re.M | re.S if name in pages else re.S)
        assert re.findall(r"<[A-Za-z][^>\n]*>", prose) == [], name


MARK = "## Every flag\n\n"


def test_the_page_has_every_flag_in_the_words_of_help():
    assert PAGE.read_text().partition(MARK)[2] == tables(), "python -m tests.test_same_everywhere writes them again"
    assert "|  |" not in tables(), "a flag without a word of help"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(MARK)[0].rstrip() + "\n\n" + MARK + tables())
