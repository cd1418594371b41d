"""How good a model is on real clips.

Every cut of 45 frames at strides 1 and 3, whole frames, beside what needs no learning.

python -m benchmarks.validation clip.mp4 ... [--model FILE | -opt options/test/motion.yml] [--json FILE]

The protocol is that of test.py: LR frames are made by the operator and rounded to 8 bits; PSNR on RGB rounded to 8
bits, without the first and last two frames, mean over frames, then cuts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.data.clips import Clip, open_clip
from davsr.evaluation.metrics import psnr
from davsr.evaluation.tables import BASELINE
from davsr.models.davsr import DAVSR
from davsr.models.interpolation import Interpolation
from davsr.options import InterpolationOptions, load_options
from davsr.pixels import to_uint8

FREE = "training-free"
BORDER = 2  # frames at each end that are not scored


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", help="sharp videos or folders of frames")
    parser.add_argument("--model", help="a checkpoint; default: the shipped model")
    parser.add_argument("-opt", help="options of a model without weights, such as options/test/motion.yml")
    parser.add_argument("--strides", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--frames", type=int, default=45, help="of a cut")
    parser.add_argument("--json", type=Path, help="write all figures here as well")
    args = parser.parse_args(argv)

    model = load_model(args.model, model=load_options(args.opt).model if args.opt else None)
    free = load_model(model=TRAINING_FREE)
    rows: dict[str, dict[str, float]] = {}
    for path in args.clips:
        clip = open_clip(path)
        for stride in args.strides:
            for start, gt in cuts(clip, stride, args.frames):
                scores = score(model, free, gt)
                rows[f"{path.stem}, stride {stride}, frame {start}"] = scores
                if len(rows) == 1:
                    print(line(["cut", *scores]) + "\n" + line(["--", *("--:" for _ in scores)]))
                print(line([list(rows)[-1], *(f"{v:.2f}" for v in scores.values())]), flush=True)
    if not rows:
        parser.error(f"no clip has {args.frames} frames at a stride of {args.strides}")
    means = {name: float(np.mean([scores[name] for scores in rows.values()])) for name in next(iter(rows.values()))}
    print(line(["**mean**", *(f"**{value:.2f}**" for value in means.values())]))
    if args.json:
        args.json.write_text(json.dumps({"cuts": rows, "mean": means}, indent=1) + "\n")
    return 0


def cuts(clip: Clip, stride: int, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, uint8 frames [length, H, W, 3]) of consecutive cuts of every `stride`-th frame."""
    for start in range(0, len(clip) - (length - 1) * stride, length * stride):
        yield start, clip.frames(start, start + (length - 1) * stride + 1, stride)


@torch.inference_mode()
def score(model: DAVSR, free: DAVSR, gt: np.ndarray) -> dict[str, float]:
    """PSNR, dB, of the baseline, of one data step after interpolation, and of every stage of the model.

    And seconds of it.
    """
    A = model.degradation
    truth = torch.from_numpy(np.ascontiguousarray(gt.transpose(0, 3, 1, 2)))
    truth = truth[: len(truth) - len(truth) % A.scale[0]]
    truth = truth[:, :, : truth.shape[2] - truth.shape[2] % A.scale[1], : truth.shape[3] - truth.shape[3] % A.scale[2]]
    x = truth.float().div(255).transpose(0, 1)[None]
    lq = to_uint8(A.apply(x)).float().div(255).transpose(1, 2)
    linear = Interpolation(InterpolationOptions(method="linear"))
    videos: dict[str, Tensor] = {BASELINE: linear(lq, A), FREE: free(lq).transpose(1, 2)}
    began = time.perf_counter()
    _, stages = model(lq, return_stages=True)
    seconds = time.perf_counter() - began
    videos.update(stages.named())
    scores = {}
    for name, video in videos.items():
        frames = to_uint8(video[0].transpose(0, 1))
        scores[name] = float(psnr(frames, truth)[BORDER : len(truth) - BORDER].mean())
    return {**scores, "frames/s": len(truth) / seconds}


def line(cells: list[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
