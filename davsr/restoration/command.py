"""`davsr restore`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from davsr import config
from davsr.checkpoints.resolve import resolve
from davsr.errors import InputError
from davsr.log import logging_to
from davsr.log import progress as progress_bar
from davsr.options import Options
from davsr.restoration.batch import is_folder_of_videos, restore_each
from davsr.restoration.flags import add_flags, log_file, progress_on, stated_options
from davsr.restoration.pipes import is_pipe, unpiped
from davsr.restoration.preview import preview
from davsr.restoration.restore import restore_resolved
from davsr.runtime import setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `davsr restore`."""
    parser.add_argument("input", type=Path, help="a video file, a folder of frames or of videos, or - for YUV4MPEG2")
    parser.add_argument("output", type=Path, help="a video file, a folder, or - for YUV4MPEG2")
    parser.add_argument("--preview", action="store_true", help="a few frames, a picture, and how long the whole takes")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """`davsr restore`."""
    options = stated_options(args)
    if args.dry_run:
        print(config.to_yaml(options), end="")
        return 0
    return restore_stated(args.input, args.output, options, preview_only=args.preview)


def restore_stated(source: Path, target: Path, options: Options, *, preview_only: bool = False) -> int:
    """Restore as options state it: the work of `davsr restore`, and of `davsr test --output`."""
    if preview_only and (is_folder_of_videos(source) or is_pipe(source) or is_pipe(target)):
        raise InputError("--preview: must have a video or a folder of frames to look at, and a place to write to")
    if is_folder_of_videos(source):
        return restore_each(source, target, options)
    if is_pipe(target):  # what is poured out is what was made: without loss, and without a log beside it
        options = replace(options, restore=replace(options.restore, codec="ffv1", log=False))
    with unpiped(source, target) as (low, high), logging_to(log_file(high, options.restore), waits=True):
        device = setup(options)
        resolved = resolve(options, device=device)
        with progress_bar(None, "restore", "LR frame") as bar:
            work = preview if preview_only else restore_resolved
            work(low, high, resolved, device, progress_on(bar))
    return 0
