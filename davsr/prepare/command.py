"""`davsr prepare`: data sets from downloads, videos and folders of frames to what training and test read.

Every output comes into being under a hidden name and gets its own when it is whole; after Ctrl-C, kill or a full disk
the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from davsr.config import to_tree
from davsr.data.clips import Clip, open_clip, open_clips
from davsr.errors import InputError
from davsr.options import load_options
from davsr.physics.degradation import Degradation
from davsr.prepare import reds
from davsr.prepare.degrade import degrade_clips
from davsr.prepare.extract import extract_frames
from davsr.prepare.output import Workers
from davsr.prepare.pack import pack_clips
from davsr.prepare.verify import match_clips, measure, verdict

_MOST_WORKERS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `davsr prepare`."""
    commands = parser.add_subparsers(dest="preparation", required=True, metavar="reds|degrade|lmdb|extract|verify")

    check = commands.add_parser("reds", help="check a REDS download, merge its splits, part training from REDS4")
    _paths(check, "folder with train_orig, train_blur_bicubic, val_orig, val_blur_bicubic", "folder to lay it out in")
    check.add_argument("--link", choices=["symlink", "hardlink", "copy"], default="symlink", help="default: symlink")
    check.add_argument("--allow-missing", action="store_true", help="go on with the clips that are there")
    check.add_argument("--frames", type=int, default=reds.FRAMES, help=f"of a sharp clip (default: {reds.FRAMES})")
    check.add_argument("--size", type=_size, default=reds.SIZE, help="of a sharp frame (default: 1280x720)")
    check.set_defaults(prepare=_reds)

    degrade = commands.add_parser("degrade", help="sharp clips to LR clips, by options' degradation section")
    _paths(degrade, "folder of clips, folder of frames, LMDB or video", "folder for the LR frames")
    _options(degrade)
    degrade.add_argument("--crop", action="store_true", help="cut sizes that the scale does not divide")
    degrade.set_defaults(prepare=_degrade)

    pack = commands.add_parser("lmdb", help="clips to an LMDB whose crops decode only what they touch")
    _paths(pack, "folder of clips, folder of frames or video", "the LMDB, such as train_GT.lmdb")
    pack.set_defaults(prepare=_lmdb)

    extract = commands.add_parser("extract", help="a video to a folder of frames, its cuts listed")
    _paths(extract, "video", "folder for the frames")
    extract.add_argument("--frames", type=_range, default=(0, None), help="start:stop (default: all)")
    extract.set_defaults(prepare=_extract)

    verify = commands.add_parser("verify", help="LR clips against sharp ones: what degradation is between them?")
    verify.add_argument("--input", required=True, type=Path, help="the LR clips")
    verify.add_argument("--truth", required=True, type=Path, help="the sharp clips")
    verify.add_argument("--samples", type=int, default=3, help="LR frames of each clip to measure on (default: 3)")
    verify.add_argument("--workers", type=int, default=0, help="threads (default: one per CPU)")
    _options(verify)
    verify.set_defaults(prepare=_verify)


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand.

    Raises:
        InputError: naming what is wrong with the input or the output.
    """
    if not 0 <= getattr(args, "workers", 0) <= _MOST_WORKERS:
        raise InputError(f"--workers: must be at least 0 and at most {_MOST_WORKERS}, got {args.workers}")
    try:
        result: int = args.prepare(args)
    except OSError as error:  # a folder that cannot be made or read; files name themselves where they are written
        raise InputError(f"{error.filename or args.input}: {error.strerror or error}") from None
    return result


def _paths(parser: argparse.ArgumentParser, source: str, target: str) -> None:
    parser.add_argument("--input", required=True, type=Path, help=source)
    parser.add_argument("--output", required=True, type=Path, help=target)
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one per CPU)")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-opt", "--opt", metavar="FILE", help="options whose degradation section counts")
    parser.add_argument("--set", action="append", default=[], metavar="degradation.KEY=VALUE", help="change an option")


def _reds(args: argparse.Namespace) -> int:
    if args.frames < reds.SCALE[0] or any(n < s for n, s in zip(args.size, reds.SCALE[1:], strict=True)):
        h, w = args.size
        raise InputError(
            f"--frames, --size: must be at least {reds.SCALE[0]} frames of {reds.SCALE[2]}x{reds.SCALE[1]}, of which an LR "
            f"clip is made, got {args.frames} of {w}x{h}"
        )
    download = reds.check_download(args.input, args.frames, args.size, args.workers)
    for line in download.missing + download.faults:
        print(line, file=sys.stderr)
    if download.faults:
        raise InputError(f"{args.input} has {len(download.faults)} faults, the first: {download.faults[0]}")
    if download.missing and not args.allow_missing:
        raise InputError(f"{args.input} is not all of REDS: {download.missing[0]}; --allow-missing goes on without")
    parts = reds.merge(download, args.output, link=args.link)
    print(f"{args.output / 'train'}: {len(parts['train'])} clips")
    print(f"{args.output / 'test'}: {len(parts['test'])} clips, never trained on: {', '.join(parts['test'])}")
    return 0


def _degrade(args: argparse.Namespace) -> int:
    options = load_options(args.opt, args.set).degradation
    degradation = Degradation.from_options(options)
    clips = open_clips(args.input)
    with _single_threaded():
        left_over = degrade_clips(
            clips,
            args.output,
            degradation,
            to_tree(options),
            nested=_nested(args.input, clips),
            crop=args.crop,
            workers=args.workers,
        )
    print(f"{args.output}: {sum(len(c) // options.scale[0] for c in clips)} frames; {degradation.describe()}")
    if left_over:
        print(f"{left_over} HR frames at the ends of clips do not fill an LR frame and have no partner")
    return 0


def _lmdb(args: argparse.Namespace) -> int:
    clips = open_clips(args.input)
    pack_clips(clips, args.output, workers=args.workers)
    size = (args.output / "data.mdb").stat().st_size
    print(f"{args.output}: {len(clips)} clips, {sum(map(len, clips))} frames, {size / 2**20:.1f} MiB")
    return 0


def _extract(args: argparse.Namespace) -> int:
    clip = open_clip(args.input)
    shots = extract_frames(clip, args.output, *args.frames, workers=args.workers)
    print(f"{args.output}: {shots[-1][1]} frames, {len(shots)} shots: {', '.join(f'{a}-{b - 1}' for a, b in shots)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    options = load_options(args.opt, args.set).degradation
    if args.samples < 1:
        raise InputError(f"--samples: must be at least 1, got {args.samples}")
    pairs = match_clips(args.input, args.truth, options.scale)
    with _single_threaded(), Workers(args.workers) as threads:
        tasks = threads.map(lambda pair: measure(*pair, options, args.samples), pairs)
        found = list(tqdm(tasks, "measuring", len(pairs), unit="clip"))
    print(verdict(found))
    faults = [m for m in found if m.fault]
    if faults:
        raise InputError(
            f"{len(faults)} of {len(found)} pairs of {args.input} and {args.truth} do not fit, "
            f"the first: clip {faults[0].name}: {faults[0].fault}"
        )
    print(f"all {len(found)} pairs fit: {found[0].expected}")
    return 0


def _nested(path: Path, clips: list[Clip]) -> bool:
    """Whether a path holds clips, rather than being one."""
    return len(clips) > 1 or clips[0].path != path


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """One torch thread for each of ours: more would only fight over the CPUs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _size(text: str) -> tuple[int, int]:
    """(h, w) of WIDTHxHEIGHT."""
    width, separator, height = text.partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, got {text!r}")
    return int(height), int(width)


def _range(text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"must be start:stop, got {text!r}")
    return int(match[1] or 0), int(match[2]) if match[2] else None
