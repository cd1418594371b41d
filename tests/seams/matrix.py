"""What the tables of `tests/seams` are made from.

Every flag of a command's help, every choice of `davsr/options.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import typing
from collections.abc import Iterator

import pytest

from davsr.cli import COMMANDS, main

# A value for every flag that takes one; a flag that is not here and has no choices fails the test below.
VALUES: dict[str, list[list[str]]] = {
    "--scale": [["2", "4", "4"], ["5", "2", "2"], ["1", "1", "1"]],
    "--exposure": [["3"], ["5"], ["2.5"], ["7"]],
    "--phase": [["-2"], ["1"]],
    "--psf": [["gaussian"], ["box"], ["delta"], ["john's.npy"], ["nothing.npy"]],
    "--psf-sigma": [["1.2"]],
    "--sigma": [["0.02"]],
    "--window": [["2"], ["0"], ["auto"]],
    "--overlap": [["1"], ["auto"]],
    "--tile": [["12"], ["0"], ["auto"]],
    "--margin": [["2"], ["auto"]],
    "--memory": [["2"]],
    "--rate": [["24000/1001"], ["0"], ["text"]],
    "--crf": [["20"]],
    "--preset": [["fast"]],
    "--model": [["training-free"], ["nothing.pt"]],
    "--device": [["auto"], ["cpu"], ["cuda"], ["mps"]],
    "--frames": [["0:2"], ["1:9"], ["nothing"]],
    "--interpolate": [["2"], ["3"]],
    "--upscale": [["2"], ["3"]],
    "--alpha": [["0.1"], ["0"]],
    "--set": [["restore.crf=20"], ["nothing.at_all=1"]],
    "-opt": [["nothing.yml"]],
    "--workers": [["2"], ["-1"], ["1000"]],
    "--samples": [["1"], ["50"], ["0"]],
    "--size": [["96x64"], ["64x96"], ["96"], ["0x0"]],
    "prepare reds --frames": [["10"], ["0"], ["text"]],
    "prepare extract --frames": [["0:2"], [":2"], ["2:1"], ["1:99"], ["nothing"]],
}
NEEDS = {"--margin": ["--tile", "12"], "--overlap": ["--window", "2"]}  # what a value of VALUES has a meaning with
# Help, the printed options, places, and what is written beside them.
COVERED = {"-h", "--help", "--dry-run", "--output", "--input", "--truth", "--name", "--preview"}


def parser_of(command: str) -> argparse.ArgumentParser:
    """Of `restore`, or of a subcommand such as `prepare degrade`."""
    name, *below = command.split()
    parser = argparse.ArgumentParser(prog=name)
    importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
    for sub in below:
        parser = subparsers_of(parser)[sub]
    return parser


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands of a parser by name."""
    return next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def flags_of(command: str) -> Iterator[list[str]]:
    """Every flag of a command with every value that is tried."""
    for action in parser_of(command)._actions:
        if not action.option_strings or action.option_strings[0] in COVERED:
            continue
        flag = action.option_strings[0]
        if action.nargs == 0:
            yield [flag]
        elif action.choices:
            yield from ([flag, str(choice)] for choice in action.choices)
        else:
            values = VALUES.get(f"{command} {flag}", VALUES.get(flag))
            assert values, f"{command} {flag}: give it values in VALUES of tests/seams/matrix.py"
            yield from ([*NEEDS.get(flag, []), flag, *value] for value in values)


def choices_of(
    cls: type, prefix: str = "", sections: tuple[str, ...] = ("degradation", "model", "restore")
) -> Iterator[str]:
    """`section.key=value` for every choice in options.py, in these sections."""
    for field, kind in ((f, typing.get_type_hints(cls)[f.name]) for f in dataclasses.fields(cls)):
        dotted = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            if prefix or field.name in sections:
                yield from choices_of(typing.cast(type, kind), f"{dotted}.")
        elif typing.get_origin(kind) is typing.Literal:
            yield from (f"{dotted}={choice}" for choice in typing.get_args(kind))
        elif kind is bool:
            yield from (f"{dotted}=true", f"{dotted}=false")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str], *, lists: bool = False) -> str:
    """Run a command; the sentence with which it was refused, or nothing where it went right.

    lists: before the sentence there may be a list of what was found, and a bar of progress.
    """
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as error:  # argparse: a usage line, then the sentence
        code = int(error.code or 0)
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert code == 2 and "error:" in last, arguments
        return last
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out, arguments
    if code == 0:
        return ""
    sentences = [line for line in captured.err.splitlines() if not line.endswith("; expect less")]
    if lists:
        sentences = sentences[-1:]
    assert code == 2 and len(sentences) == 1 and sentences[0].startswith("davsr: "), (arguments, captured.err)
    return sentences[0]
