"""Restore clips and measure: options -> clips -> model -> scores beside the baseline -> pictures, frames, tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from davsr import config, runtime
from davsr.checkpoints.resolve import Resolved, resolve
from davsr.data.clips import Clip
from davsr.data.frames import write_image
from davsr.errors import InputError
from davsr.evaluation.clip_folder import ClipFolder, comparison_picture, picture_frames
from davsr.evaluation.metrics import PROTOCOL
from davsr.evaluation.pairs import Pair, open_scored_pairs
from davsr.evaluation.report import INPUT, Gallery, busiest_row, input_frame, write_report
from davsr.evaluation.scoring import Scorer
from davsr.evaluation.tables import (
    BASELINE,
    TABLES,
    ClipResult,
    aligned,
    clip_rows,
    published_rows,
    remove_tables,
    require_tables,
    scored_border,
    stage_rows,
    write_tables,
)
from davsr.evaluation.temporal import TEMPORAL_PROTOCOL
from davsr.files import partial_name, require_ours, write_text
from davsr.guards.locks import locked
from davsr.guards.names import require_apart
from davsr.log import logger, logging_to, progress
from davsr.models.davsr import DAVSR
from davsr.options import Options, RestoreOptions, TestOptions, load_options
from davsr.pixels import as_image, as_tensor, to_float, to_unit
from davsr.ranks import Ranks
from davsr.restoration.cutting import Plan
from davsr.restoration.pieces import Step
from davsr.restoration.windows import LowFrame, model_restorer, restore_stream

_STRETCH = 4  # LR frames whose HR frames are scored at once


def evaluate(options: Options, results: Path | None = None) -> list[ClipResult]:
    """Restore and measure the clips that `options.test` names; writes everything under results/<name>/.

    Under torchrun the processes share the clips; the first one writes the tables and the report.

    Raises:
        InputError: something that the user gave is wrong; clips that were finished before stay, nothing half-written
        does.
    """
    folder = (results or Path("results")) / options.name
    ranks = Ranks.from_environment()
    with locked(folder) if ranks.first else nullcontext():
        device = runtime.setup(options, rank=ranks.local)
        ranks.join(device, timeout=timedelta(days=7))  # until the slowest process has finished its clips
        resolved = resolve(_for_test(options), device=device)
        pairs = open_scored_pairs(resolved.options.test, resolved.model.degradation, options.seed)
        _require_place(folder, pairs, resolved.options)
        done, facts = _evaluate(resolved, folder, ranks, device, pairs)
        if ranks.first:
            _conclude(done, resolved.options, folder, facts, output_name(resolved.model))
    ranks.leave()
    return [result for result, _ in done]


def _evaluate(
    resolved: Resolved, folder: Path, ranks: Ranks, device: torch.device, pairs: list[Pair]
) -> tuple[list[tuple[ClipResult, Gallery]], dict[str, Any]]:
    """All clips, those of the other processes included, and the facts that stand beside their scores."""
    model, options = resolved.model, resolved.options
    folder.mkdir(parents=True, exist_ok=True)
    if ranks.first:
        remove_tables(folder)  # they would be of other clips than those beside them
    facts = {
        "name": options.name,
        "protocol": describe_protocol(options, model),
        "model": describe_model(model),
        "device": runtime.describe(device) + (f", {ranks.world} processes" if ranks.world > 1 else ""),
        "options": config.to_tree(options),
    }
    logger.info(f"{facts['protocol']}\nmodel: {facts['model']}")
    if model.trained is not None:
        model.trained.warn(
            model.degradation_options, options.test.sigma, model.beyond_training(resolved.operator, options.test.sigma)
        )

    mine = [evaluate_clip(pair, resolved, folder, facts["protocol"]) for pair in pairs[ranks.rank :: ranks.world]]

    everyone = ranks.gather((mine, runtime.peak_memory(device)))
    done = [everyone[i % ranks.world][0][i // ranks.world] for i in range(len(pairs))]
    facts["peak_memory_gib"] = round(max(peak for _, peak in everyone), 3)
    return done, facts


def _require_place(folder: Path, pairs: list[Pair], options: Options) -> None:
    """Raise InputError where results would replace an input, or something that is no result."""
    clips = [folder / pair.name for pair in pairs]
    named = [options.model.weights, options.degradation.psf if options.degradation.psf.endswith(".npy") else None]
    inputs = [clip.path for pair in pairs for clip in (pair.lq, pair.truth) if clip is not None]
    require_apart([*clips, *map(partial_name, clips)], [*inputs, *(Path(name) for name in named if name)])
    for clip in clips:
        if clip.name in TABLES:
            raise InputError(f"clip {clip.name} must not be named like a table of the results")
        require_ours(clip)
    require_tables(folder)


def _conclude(
    done: list[tuple[ClipResult, Gallery]], options: Options, folder: Path, facts: dict[str, Any], label: str
) -> None:
    """Tables and the report, to files and to the log."""
    scores = [result for result, _ in done]
    write_tables(folder, scores, facts)
    write_text(folder / "options.yml", config.to_yaml(options))
    write_report(folder / "index.html", scores, [gallery for _, gallery in done], facts, label, options.test.reference)
    tables = [clip_rows(scores, label)] if any(result.measured for result in scores) else []
    tables.append(stage_rows(scores))
    if options.test.reference == "reds4":
        tables.append(published_rows())
    for rows in tables:
        logger.info(f"\n{aligned(rows)}")
    logger.info(f"\n{facts['protocol']}\n")
    seconds, frames = sum(r.seconds for r in scores), sum(r.hr[0] for r in scores)
    speed = f"{frames} HR frames in {seconds:.1f} s of the model ({frames / max(seconds, 1e-9):.2f} frames/s)"
    logger.info(f"{speed}, peak memory {facts['peak_memory_gib']:.2f} GiB; open {folder / 'index.html'}")


def evaluate_clip(pair: Pair, resolved: Resolved, folder: Path, protocol: str) -> tuple[ClipResult, Gallery]:
    """Restore one clip window by window, score each window, write its frames; pictures at the end."""
    model, options = resolved.model, resolved.options
    lq, A, wanted = pair.lq, model.degradation, options.test
    T = len(lq) * A.scale[0]
    device = next((p.device for p in model.parameters()), runtime.choose_device(options.device))
    seconds: list[float] = []
    scorer = Scorer(pair, A, device, temporal=wanted.temporal, lpips=wanted.lpips)
    gallery = Gallery(pair.name, picture_frames(T, wanted.pictures, A), busiest_row(lq, A.scale[1]))
    pictures: dict[int, dict[str, np.ndarray]] = {}

    with ClipFolder(folder / pair.name, lq, A.scale[0], options) as output, progress(T, pair.name) as bar:
        for start, stages in _restored(lq, resolved, device, seconds):
            *_, last = stages
            videos = scorer.score(start, stages)
            for n in range(len(videos[BASELINE])):
                p = start + n
                frames = {name: as_image(video[n]) for name, video in videos.items()}
                frames = {INPUT: input_frame(lq, p, A.scale, A.centre), **frames}
                output.write(p, frames[last])
                gallery.push(p, frames)
                if p in gallery.shots:
                    pictures[p] = frames
                bar.update()
        scorer.finish()
        size = (A.scale[1] * lq.size[0], A.scale[2] * lq.size[1])
        border = scored_border(T, wanted.border)
        result = ClipResult(pair.name, (len(lq), *lq.size), (T, *size), sum(seconds), border, scorer.stages)
        for p, frames in pictures.items():
            picture = comparison_picture(p, frames, result, output_name(model), protocol)
            write_image(output.folder / f"comparison_{p:05d}.png", picture)
    logger.info(describe_result(result))
    return result, gallery


def _for_test(options: Options) -> Options:
    """Refuse what `davsr test` has no use for: nothing that is stated goes unnoticed."""
    if options.restore.response != "srgb":
        raise InputError(
            "options: restore.response linear is for davsr restore and polish; a test compares sRGB values"
        )
    return options


def _for_restoration(options: Options) -> Options:
    """What `--output` restores with: settings that `test` and `restore` share go from the one to the other.

    Raises:
        InputError: without an input, or where something is stated that only a test has a use for.
    """
    if not options.test.input:
        raise InputError("test.input: --output needs --input, the video or folder to restore")
    stated = config.stated_tree(options)
    tests, own = stated.get("test", {}), stated.get("restore", {})
    useless = [name for name in ("truth", "clips", "frames", "crop") if tests.get(name)]
    if useless:
        raise InputError(f"options: test.{useless[0]} has no meaning with --output, which restores all of one input")
    shared = {f.name for f in dataclasses.fields(TestOptions)} & {f.name for f in dataclasses.fields(RestoreOptions)}
    moved = {name: value for name, value in tests.items() if name in shared and name not in own}
    return dataclasses.replace(options, restore=config.overlaid(options.restore, moved, "restore."))


def describe_result(result: ClipResult) -> str:
    """One line on a finished clip."""
    (t, h, w), (T, H, W) = result.lr, result.hr
    line = f"{result.name}: {t} x {w}x{h} -> {T} x {W}x{H} in {result.seconds:.1f} s"
    if not result.measured:
        return line
    scores = (f"{s} {result.mean(s, 'psnr'):.2f} dB / {result.mean(s, 'ssim'):.4f}" for s in (BASELINE, result.output))
    return f"{line}; {', '.join(scores)}"


def _restored(
    lq: Clip, resolved: Resolved, device: torch.device, seconds: list[float]
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(first HR frame, stages [n, c, H, W] in [0, 1]) of consecutive stretches of a clip.

    Args:
        seconds: takes the time of the model for each piece.
    """
    model, options = resolved.model, resolved.options
    test = options.test
    margin = min(test.size_patch_margin, max((test.size_patch_testing - 1) // 2, 0))
    if test.size_patch_testing and margin < test.size_patch_margin:
        logger.info(f"a tile of {test.size_patch_testing} LR pixels has room for a margin of {margin}")
    plan = Plan(test.num_frame_testing, test.num_frame_overlap, test.size_patch_testing, margin)
    network = model_restorer(
        model, test.sigma, resolved.operator, device=device, precision=options.precision, stages=test.stages
    )

    def timed(piece: Tensor, estimate: Tensor | None) -> Step:
        begin = time.perf_counter()
        step = network(piece, estimate)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
        return step

    low = (LowFrame(to_unit(as_tensor(lq.frames(j, j + 1))[0])) for j in range(len(lq)))
    s_t = resolved.operator.scale[0]
    for run in restore_stream(timed, low, resolved.operator.scale, plan):
        for n in range(0, run.count, _STRETCH * s_t):  # in float32 a window of all stages takes gigabytes
            stretch = run.videos(n, n + _STRETCH * s_t)
            yield run.start + n, {name: to_float(video).to(device) for name, video in stretch.items()}


def output_name(model: DAVSR) -> str:
    """What the model's result is called in tables and pictures."""
    if model.learned:
        return "DAVSR"
    return "along the motion" if model.options.rounds.count else "training-free"


def describe_model(model: DAVSR) -> str:
    """One line on the model."""
    along = model.options.rounds
    start = f"{model.options.interpolation.method} interpolation"
    if along.count:
        start += f" and {along.count} {'learned ' if along.channels else ''}rounds along the motion"
    rounds = [f"{model.options.iterations} x {'data step' if model.options.data_step else 'no data step'}"]
    if model.enhance is not None:
        each = {
            "rve": "each with an enhancement",
            "frames": "an enhancement of every frame",
            "pictures": "an enhancement of every frame",
            "recurrent": "a recurrent enhancement",
        }[model.options.enhancement.kind]
        rounds.append(f"{each} of {model.options.enhancement.channels} channels")
    size = sum(p.numel() for p in model.parameters())
    return ", ".join([start, *rounds, f"{size / 1e6:.3g} M parameters" if size else "nothing learned"])


def describe_protocol(options: Options, model: DAVSR) -> str:
    """The protocol line that stands beside every number."""
    test = options.test
    window = f"windows of {test.num_frame_testing} LR frames" if test.num_frame_testing else "the whole clip at once"
    tile = f", tiles of {test.size_patch_testing}" if test.size_patch_testing else ""
    source = (
        "LQ as given" if test.input else f"LQ = A GT rounded to 8 bits{f', sigma {test.sigma:g}' if test.sigma else ''}"
    )
    unscored = f"first and last {test.border} HR frames not scored"
    more = [TEMPORAL_PROTOCOL] if test.temporal else []
    more += [f"LPIPS: {test.lpips}"] if test.lpips != "none" else []
    return "; ".join([PROTOCOL, *more, unscored, source, window + tile, f"A: {model.degradation.describe()}"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`davsr test`."""
    from davsr.cli import add_option_arguments

    add_option_arguments(parser)
    parser.add_argument("--input", help="LR frames: a folder of frames, a video, or a folder of clips (test.input)")
    parser.add_argument("--truth", help="GT, laid out likewise; without --input it is degraded on the fly (test.truth)")
    parser.add_argument(
        "--frames", metavar="START:STOP", help="only these LR frames of each clip, such as 0:20 (test.frames)"
    )
    parser.add_argument("--crop", action="store_true", help="crop GT whose sizes the scale does not divide (test.crop)")
    parser.add_argument("--name", help="folder under results/ (name)")
    parser.add_argument(
        "--output", type=Path, help="only restore --input to this video or folder, as `davsr restore` does"
    )


def run(args: argparse.Namespace) -> int:
    """`davsr test` from parsed arguments."""
    given = {"test.input": args.input, "test.truth": args.truth, "test.frames": args.frames, "name": args.name}
    shortcuts = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    overrides = [*args.set, *shortcuts, *(["test.crop=true"] if args.crop else [])]
    options = load_options(args.opt, overrides)
    if args.dry_run:
        print(config.to_yaml(options), end="")
        return 0
    if args.output is not None:
        from davsr.restoration.command import restore_stated

        return restore_stated(Path(options.test.input), args.output, _for_restoration(options))
    with logging_to(console=int(os.environ.get("RANK", "0")) == 0):
        evaluate(options)
    return 0
