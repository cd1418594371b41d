"""The command line: one table of subcommands; a subcommand's arguments and work live with its module."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

from davsr import __version__
from davsr.errors import sentence
from davsr.guards.console import Parser, begin_process, end_process, printable_output, silence, work_begins

COMMANDS = {  # name: (module with add_arguments and run, what it does)
    "train": ("davsr.training.command", "train a network"),
    "test": ("davsr.evaluation.tester", "restore clips and measure; without arguments: the sample clip"),
    "restore": ("davsr.restoration.command", "restore a video of any length: sharper, larger, faster"),
    "polish": ("davsr.restoration.polish_command", "one data step on the output of any other program"),
    "prepare": ("davsr.prepare.command", "REDS from download to training; degrade, pack, extract and verify clips"),
    "weights": ("davsr.checkpoints.command", "inspect and convert checkpoints, also published ones and safetensors"),
    "serve": ("davsr.serving.serve", "a page in the browser to try it"),
    "doctor": ("davsr.doctor", "say what this installation consists of and can do"),
}
REQUIRED = {  # module: the package that brings it
    "torch": "torch",
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "yaml": "PyYAML",
    "tqdm": "tqdm",
    "av": "av",
}


def command(arguments: Sequence[str] | None = None) -> int:
    """`main` as the whole of a process: see `davsr.guards.console`."""
    begin_process()
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse's
        code = end.code if isinstance(end.code, int) else 0
    return end_process(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; wrong input, and what the system refuses, is one sentence on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with printable_output():
            return _run(arguments)
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError as error:
        if error.filename is None:  # nobody reads what is printed any more
            silence(sys.stdout)
            return 1
        _say(sentence(error))
    except Exception as error:
        found = sentence(error)
        if not found:
            raise
        _say(found)
    return 2


def _run(arguments: list[str]) -> int:
    parser = _top_parser()
    if not arguments or arguments[0] not in COMMANDS:
        parser.parse_args(arguments or ["--help"])  # --help, --version, or an error: each of them exits
    name, *rest = arguments
    try:
        # The module is imported only now: `davsr --help` answers without loading torch.
        module = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        package = REQUIRED.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        _say(f"this needs {package}, which is not installed: pip install {package}")
        return 2
    subparser = Parser(prog=f"davsr {name}", description=COMMANDS[name][1])
    module.add_arguments(subparser)
    args = subparser.parse_args(rest)
    work_begins()
    return int(module.run(args) or 0)


def _say(message: str) -> None:
    try:
        print(f"davsr: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # nobody listens; the exit code says it too
        silence(sys.stderr)


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name.ljust(width)}  {purpose}" for name, (_, purpose) in COMMANDS.items())
    parser = Parser(
        prog="davsr",
        description="Space-time video super-resolution.",
        epilog=f"commands:\n{listing}\n\ndavsr COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"davsr {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="one of the commands below")
    return parser


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every command with options shares: -opt, --set, --dry-run."""
    parser.add_argument(
        "-opt",
        "--opt",
        metavar="FILE.yml",
        help="options that differ from the defaults: a file, or the name of one that comes with davsr",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one option, over those of the file; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved options and stop")


if __name__ == "__main__":
    sys.exit(command())
