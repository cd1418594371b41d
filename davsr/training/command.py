"""`davsr train`."""

from __future__ import annotations

import argparse
import sys

import torch

from davsr import config
from davsr.cli import add_option_arguments
from davsr.options import load_options
from davsr.ranks import Ranks
from davsr.runtime import setup
from davsr.training.tasks import open_task
from davsr.training.trainer import TrainingError, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `davsr train`."""
    add_option_arguments(parser)
    parser.add_argument(
        "--auto-resume", action="store_true", help="go on from the newest checkpoint of experiments/<name>"
    )


def run(args: argparse.Namespace) -> int:
    """`davsr train`; the exit status is 0, 128 + the signal that ended the run, or 1 where it could not go on."""
    options = load_options(args.opt, args.set)
    if args.dry_run:  # data and weights are opened too: they are what is wrong most often
        setup(options)
        open_task(options, torch.device("cpu"), Ranks(), fresh=True)
        print(config.to_yaml(options), end="")
        return 0
    try:
        outcome = train(options, auto_resume=args.auto_resume)
    except TrainingError as error:
        print(f"davsr: {error}", file=sys.stderr, flush=True)
        return 1
    return 128 + outcome.signal if outcome.signal else 0
