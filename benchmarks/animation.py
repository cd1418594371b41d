"""A small animation of a clip: input, bicubic, ours and truth side by side, as an animated WebP.

python -m benchmarks.animation clip.mp4 out.webp [--model FILE] [--frames 40:85] [--crop TOP LEFT HEIGHT WIDTH]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from davsr.checkpoints.loading import load_model
from davsr.data.clips import open_clip
from davsr.evaluation.comparison import ACCENT, FAINT, GAP, INK, PAPER, enlarge_pixels, write
from davsr.evaluation.metrics import psnr
from davsr.evaluation.tables import BASELINE
from davsr.evaluation.tester import output_name
from davsr.models.davsr import DAVSR
from davsr.models.interpolation import Interpolation
from davsr.options import InterpolationOptions
from davsr.pixels import to_uint8


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.animation", description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, help="a sharp video or folder of frames")
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="a checkpoint; default: the shipped model")
    parser.add_argument("--frames", default="0:45", help="first:last+1")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--crop", type=int, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"))
    parser.add_argument("--rate", type=float, default=15, help="frames a second")
    args = parser.parse_args(argv)

    first, last = map(int, args.frames.split(":"))
    model = load_model(args.model)
    truth = open_clip(args.clip).frames(first, last, args.stride)
    truth = truth[: len(truth) - len(truth) % model.degradation.scale[0]]
    panels = versions(model, truth)
    if args.crop:
        top, left, height, width = args.crop
        panels = {name: video[:, top : top + height, left : left + width] for name, video in panels.items()}
    frames = [canvas({name: video[p] for name, video in panels.items()}) for p in range(len(truth))]
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames]
    animation.durations = np.full(len(frames), round(1000 / args.rate), np.int32)
    if not cv2.imwriteanimation(str(args.output), animation, [cv2.IMWRITE_WEBP_QUALITY, 80]):
        parser.error(f"{args.output} cannot be written")
    print(f"{args.output}: {len(frames)} frames, {args.output.stat().st_size / 1e6:.2f} MB")
    return 0


@torch.inference_mode()
def versions(model: DAVSR, truth: np.ndarray) -> dict[str, np.ndarray]:
    """The truth [T, H, W, 3], what was observed, and what is made of it, all uint8 [T, H, W, 3]."""
    A = model.degradation
    gt = torch.from_numpy(np.ascontiguousarray(truth.transpose(3, 0, 1, 2)))[None]
    y = to_uint8(A.apply(gt.float() / 255))
    lq = y.float().div(255).transpose(1, 2)
    linear = Interpolation(InterpolationOptions(method="linear"))(lq, A)
    ours = model(lq).transpose(1, 2)
    seen = [enlarge_pixels(image, A.scale[1:]) for image in y[0].permute(1, 2, 3, 0).numpy()]

    def shown(video: Tensor) -> np.ndarray:
        return to_uint8(video)[0].permute(1, 2, 3, 0).numpy()

    def quality(video: Tensor) -> str:
        return f"{float(psnr(to_uint8(video)[0].transpose(0, 1), gt[0].transpose(0, 1))[2:-2].mean()):.2f} dB"

    return {
        "input": np.stack(seen).repeat(A.scale[0], axis=0),
        f"{BASELINE}, {quality(linear)}": shown(linear),
        f"{output_name(model)}, {quality(ours)}": shown(ours),
        "truth": truth,
    }


def canvas(images: dict[str, np.ndarray]) -> np.ndarray:
    """The versions of a frame in two rows, each with its name below."""
    height, width = next(iter(images.values())).shape[:2]
    cell = height + 30
    page = np.empty((2 * cell + GAP, 2 * width + 3 * GAP, 3), np.uint8)
    page[:] = PAPER
    for n, (name, image) in enumerate(images.items()):
        top, left = GAP + n // 2 * cell, GAP + n % 2 * (width + GAP)
        page[top : top + height, left : left + width] = image
        write(page, name, (left, top + height + 20), 16, {1: FAINT, 2: ACCENT}.get(n, INK), 600 if n == 2 else 500)
    return page


if __name__ == "__main__":
    sys.exit(main())
