"""`davsr polish`."""

from __future__ import annotations

import argparse
from pathlib import Path

from davsr import config
from davsr.guards.names import beside
from davsr.log import logging_to
from davsr.log import progress as progress_bar
from davsr.options import ALPHA
from davsr.restoration.flags import add_flags, log_file, progress_on, stated_options
from davsr.restoration.polishing import polish
from davsr.runtime import setup

_OF_MODELS = (
    "--model",
    "--sigma",
    "--window",
    "--overlap",
    "--slow-motion",
    "--precision",
    "--frames",
    "--drop-duplicates",
    "--deblur",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `davsr polish`."""
    parser.add_argument("estimate", type=Path, help="another program's output: a video file or a folder of frames")
    parser.add_argument("--input", type=Path, required=True, help="the LR video or folder that it was made from")
    parser.add_argument("--output", type=Path, help="default: the estimate's name with -polished")
    parser.add_argument("--alpha", type=float, default=ALPHA, help=f"trust in the estimate, default {ALPHA}")
    add_flags(parser, leave_out=_OF_MODELS)


def run(args: argparse.Namespace) -> int:
    """`davsr polish`."""
    options = stated_options(args)
    if args.dry_run:
        print(config.to_yaml(options), end="")
        return 0
    estimate: Path = args.estimate
    target = args.output or beside(estimate, "", f"-polished{estimate.suffix}", name=estimate.stem)
    with logging_to(log_file(target, options.restore), waits=True), progress_bar(None, "polish", "LR frame") as bar:
        device = setup(options)
        polish(
            estimate,
            args.input,
            target,
            degradation=options.degradation,
            options=options.restore,
            alpha=args.alpha,
            device=device,
            progress=progress_on(bar),
        )
    return 0
