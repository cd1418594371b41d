"""Restore clips and measure: options -> clips -> model -> scores beside the baseline -> pictures, frames, tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from davsr import config, runtime
from davsr.data.clips import Clip
from davsr.data.frames import write_image
from davsr.data.pairs import Pair, open_pairs
from davsr.data.video import VideoWriter
from davsr.degradation import Degradation
from davsr.errors import InputError
from davsr.loading import load_model
from davsr.log import logger, logging_to, progress
from davsr.metrics import PROTOCOL
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, ModelOptions, Options, load_options
from davsr.results import BASELINE, ClipResult, clip_table, published_table, scored_border, stage_table, write_tables
from davsr.scoring import Scorer, as_tensor
from davsr.visual import Version, comparison, enlarge_pixels
from davsr.windows import WHITE, LowFrame, Plan, restore_stream

DEFAULT_RATE = Fraction(24)  # LR frames per second of clips that carry no time


def evaluate(options: Options, results: Path | None = None) -> list[ClipResult]:
    """Restore and measure the clips that `options.test` names; writes everything under results/<name>/.

    Raises:
        InputError: something that the user gave is wrong; clips that were finished before stay, nothing half-written does.
    """
    folder = (results or Path("results")) / options.name
    device = runtime.setup(options)
    model = model_of(options, device)
    pairs = open_pairs(options.test, model.degradation, options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.yml").write_text(config.to_yaml(options), encoding="utf-8")
    protocol = describe_protocol(options, model)
    logger.info(protocol)
    logger.info(f"model: {describe_model(model)}")

    done = [evaluate_clip(pair, model, options, folder, protocol) for pair in pairs]

    facts = {
        "name": options.name,
        "protocol": protocol,
        "model": describe_model(model),
        "device": runtime.describe(device),
        "peak_memory_gib": round(runtime.peak_memory(device), 3),
        "options": config.to_tree(options),
    }
    write_tables(folder, done, facts)
    if any(result.measured for result in done):
        logger.info(f"\n{clip_table(done, output_name(model))}\n")
    logger.info(f"{stage_table(done)}\n\n{protocol}")
    if options.test.reference == "reds4":
        logger.info(f"\n{published_table()}")
    seconds, frames = sum(r.seconds for r in done), sum(r.hr[0] for r in done)
    logger.info(f"\n{frames} HR frames in {seconds:.1f} s of the model ({frames / max(seconds, 1e-9):.2f} frames/s), "
                f"peak memory {facts['peak_memory_gib']:.2f} GiB; results in {folder}")  # fmt: skip
    return done


def evaluate_clip(pair: Pair, model: DAVSR, options: Options, folder: Path, protocol: str) -> ClipResult:
    """Restore one clip window by window, score each window, write its frames; pictures at the end."""
    lq, truth, wanted = pair.lq, pair.truth, options.test
    A = model.degradation
    t, T = len(lq), len(lq) * A.scale[0]
    device = next((p.device for p in model.parameters()), runtime.choose_device(options.device))
    restored = _Restored(model, options, device)
    scorer = Scorer(pair, A, device)
    shown = picture_frames(T, wanted.pictures, A)
    pictures: dict[int, dict[str, np.ndarray]] = {}

    with _ClipFolder(folder / pair.name, lq, A.scale[0], options) as output, progress(T, pair.name) as bar:
        for start, stages in restored.stream(lq):
            frames = scorer.score(start, stages)
            for p in range(start, start + len(frames[BASELINE])):
                image = frames[restored.output][p - start].permute(1, 2, 0).cpu().numpy()
                output.write(p, image)
                if p in shown:
                    pictures[p] = {
                        name: video[p - start].permute(1, 2, 0).cpu().numpy() for name, video in frames.items()
                    }
                bar.update()
        scorer.finish()
        size = (A.scale[1] * lq.size[0], A.scale[2] * lq.size[1])
        border = scored_border(T, wanted.border)
        result = ClipResult(pair.name, (t, *lq.size), (T, *size), restored.seconds, border, scorer.stages)
        for p, versions in pictures.items():
            picture = _comparison(p, versions, pair, result, A, output_name(model), protocol)
            write_image(output.folder / f"comparison_{p:05d}.png", picture)
    line = f"{pair.name}: {t} x {lq.size[1]}x{lq.size[0]} -> {T} x {size[1]}x{size[0]} in {restored.seconds:.1f} s"
    if truth is not None:
        scores = [
            f"{s} {result.mean(s, 'psnr'):.2f} dB / {result.mean(s, 'ssim'):.4f}" for s in (BASELINE, restored.output)
        ]
        line += "; " + ", ".join(scores)
    logger.info(line)
    return result


def model_of(options: Options, device: torch.device) -> DAVSR:
    """The model that the options describe: the shipped one unless they say otherwise.

    Raises:
        InputError: the network has a learned part but no weights.
    """
    described = options.model if dataclasses.replace(options.model, weights=None) != ModelOptions() else None
    physics = options.degradation if options.degradation != DegradationOptions() else None
    if described is not None and described.enhancement.kind != "none" and described.weights is None:
        raise InputError(
            "options: model.weights must name a checkpoint, because model.enhancement.kind rve is learned; "
            "the training-free restoration is model.enhancement.kind: none"
        )
    try:
        return load_model(options.model.weights, model=described, degradation=physics, device=device)
    except InputError:
        raise
    except ValueError as error:  # a PSF, exposure or solver that the operator refuses
        raise InputError(f"options: {error}") from None


class _Restored:
    """Runs the model over a clip and hands out every stage of every window."""

    def __init__(self, model: DAVSR, options: Options, device: torch.device) -> None:
        self.model, self.options, self.device = model, options, device
        self.seconds = 0.0
        self.names = stage_names(model) if options.test.stages else stage_names(model)[-1:]
        test = options.test
        margin = min(test.size_patch_margin, max((test.size_patch_testing - 1) // 2, 0))
        overlap = min(test.num_frame_overlap, max(test.num_frame_testing - 1, 0))
        self.plan = Plan(test.num_frame_testing, overlap, test.size_patch_testing, margin)

    @property
    def output(self) -> str:
        """Name of the last stage."""
        return self.names[-1]

    def stream(self, lq: Clip) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """(first HR frame, stages [n, c, H, W] in [0, 1]) of consecutive stretches."""
        # Stages travel through windows and tiles side by side, as channels; so does the input, once for each.
        low = (as_tensor(lq.frames(j, j + 1))[0].float().div_(255) for j in range(len(lq)))
        wide = (LowFrame(image.repeat(len(self.names), 1, 1)) for image in low)
        for run in restore_stream(self._step, wide, self.model.degradation.scale, self.plan):
            parts = np.split(run.frames, len(self.names), axis=1)
            yield (
                run.start,
                {
                    name: torch.from_numpy(part.astype(np.float32)).to(self.device).div_(WHITE)
                    for name, part in zip(self.names, parts, strict=True)
                },
            )

    def _step(self, wide: Tensor, estimate: Tensor | None) -> Tensor:
        lq = wide[:, :, : wide.shape[2] // len(self.names)].to(self.device)
        begin = time.perf_counter()
        with torch.inference_mode(), runtime.autocast(self.options.precision, self.device):
            _, stages = self.model(lq, self.options.test.sigma, return_stages=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - begin
        named = stages.named()
        return torch.cat([named[name].float() for name in self.names], dim=1).transpose(1, 2)


def stage_names(model: DAVSR) -> list[str]:
    """x_0, z_1, x_1, ..., z_K, x_K; without enhancement x_k is z_k, and left out."""
    rounds = range(1, model.options.iterations + 1)
    kinds = "zx" if model.enhance is not None else "z"
    return ["x_0", *(f"{kind}_{k}" for k in rounds for kind in kinds)]


class _ClipFolder:
    """The files of one clip: in a hidden folder until all are whole, then moved to their place."""

    def __init__(self, target: Path, lq: Clip, s_t: int, options: Options) -> None:
        self.target = target
        self.folder = target.with_name(f".{target.name}.partial")
        self.save = options.test.save
        rate = Fraction(options.test.rate).limit_denominator(1001) if options.test.rate else lq.rate or DEFAULT_RATE
        self._video = VideoWriter(self.folder / "restored.mp4", rate * s_t) if self.save in ("video", "both") else None

    def __enter__(self) -> _ClipFolder:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.save in ("frames", "both"):
            (self.folder / "frames").mkdir()
        return self

    def write(self, p: int, image: np.ndarray) -> None:
        if self.save in ("frames", "both"):
            write_image(self.folder / "frames" / f"{p:08d}.png", image)
        if self._video is not None:
            self._video.write(image)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            if self._video is not None:
                self._video.abort()
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        if self._video is not None:
            self._video.close()
        shutil.rmtree(self.target, ignore_errors=True)
        self.folder.replace(self.target)


def picture_frames(frames: int, count: int, A: Degradation) -> set[int]:
    """`count` HR frames, evenly spread, for pictures; each as far from an exposure's centre as its neighbours allow."""

    def distance(p: int) -> float:
        return abs((p - A.centre + A.scale[0] / 2) % A.scale[0] - A.scale[0] / 2)

    targets = [int((i + 0.5) * frames / count) for i in range(min(count, frames))]
    return {max(range(p, min(p + A.scale[0], frames)), key=distance) for p in targets}


def _comparison(
    p: int, frames: dict[str, np.ndarray], pair: Pair, result: ClipResult, A: Degradation, label: str, protocol: str
) -> np.ndarray:
    s_t, s_h, s_w = A.scale
    j = min(max(round((p - A.centre) / s_t), 0), len(pair.lq) - 1)
    output = [name for name in frames if name != "truth"][-1]

    def note(stage: str) -> str:
        scores = result.stages[stage]
        return f"{scores.psnr[p]:.2f} dB / {scores.ssim[p]:.3f}" if scores.psnr else ""

    versions = [
        Version(
            f"input, frame {j}",
            enlarge_pixels(pair.lq.frames(j, j + 1)[0], (s_h, s_w)),
            f"{pair.lq.size[1]}x{pair.lq.size[0]}",
        ),
        Version(BASELINE, frames[BASELINE], note(BASELINE)),
        Version(label, frames[output], note(output), best=True),
    ]
    if "truth" in frames:
        versions.append(Version("truth", frames["truth"]))
    return comparison(f"{result.name}, frame {p} of {result.hr[0]}", versions, protocol)


def output_name(model: DAVSR) -> str:
    """What the model's result is called in tables and pictures."""
    return "DAVSR" if model.enhance is not None else "training-free"


def describe_model(model: DAVSR) -> str:
    """One line on the model."""
    start = f"{model.options.interpolation.method} interpolation"
    step = "data step" if model.options.data_step else "no data step"
    if model.enhance is None:
        return f"{start}, {model.options.iterations} x {step}, training-free"
    size = sum(p.numel() for p in model.parameters()) / 1e6
    learned = f"enhancement of {model.options.enhancement.channels} channels"
    return f"{start}, {model.options.iterations} x ({step}, {learned}), {size:.2f} M parameters"


def describe_protocol(options: Options, model: DAVSR) -> str:
    """The protocol line that stands beside every number."""
    test = options.test
    window = f"windows of {test.num_frame_testing} LR frames" if test.num_frame_testing else "the whole clip at once"
    tile = f", tiles of {test.size_patch_testing}" if test.size_patch_testing else ""
    source = (
        "LQ as given" if test.input else f"LQ = A GT rounded to 8 bits{f', sigma {test.sigma:g}' if test.sigma else ''}"
    )
    unscored = f"first and last {test.border} HR frames not scored"
    return "; ".join([PROTOCOL, unscored, source, window + tile, f"A: {model.degradation.describe()}"])


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


def run(args: argparse.Namespace) -> int:
    """`davsr test` from parsed arguments."""
    given = {"test.input": args.input, "test.truth": args.truth, "test.frames": args.frames, "name": args.name}
    shortcuts = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    options = load_options(args.opt, [*args.set, *shortcuts, *(["test.crop=true"] if args.crop else [])])
    if args.dry_run:
        print(config.to_yaml(options), end="")
        return 0
    with logging_to():
        evaluate(options)
    return 0
