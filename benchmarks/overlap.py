"""How much windows and tiles must share: their output against the whole clip's, and what is seen at the seams.

python -m benchmarks.overlap --input clip.mp4 [--model FILE|training-free] [--frames 16] [--crop 128]
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from davsr.checkpoints.resolve import resolve
from davsr.data.clips import open_clip
from davsr.options import Options, RestoreOptions
from davsr.restoration.cutting import Plan, cover
from davsr.restoration.windows import model_restorer, restore_clip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="an LR video or folder of frames")
    parser.add_argument("--model", default="", help="a checkpoint, or training-free; default: the shipped model")
    parser.add_argument("--frames", type=int, default=16, help="LR frames, from the first on")
    parser.add_argument("--crop", type=int, default=128, help="LR side of the central crop")
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--overlaps", type=int, nargs="*", default=[0, 1, 2, 3, 4, 6])
    parser.add_argument("--margins", type=int, nargs="*", default=[0, 4, 8, 12, 16, 20, 24, 28])
    args = parser.parse_args(argv)

    model = resolve(Options(restore=RestoreOptions(model=args.model)), device="cpu").model
    step, scale = model_restorer(model), model.degradation.scale
    clip = open_clip(args.input).frames(0, args.frames)
    lq = central(clip, args.crop)
    whole = restore_clip(step, lq, scale, Plan())

    print(f"{args.input.name}, {args.model or 'shipped model'}, {lq.shape[1]} LR frames\n")
    print(
        f"| frames shared by windows of {args.window} | PSNR against the whole clip, dB | worst frame, dB |\n|--:|--:|--:|"
    )
    for overlap in args.overlaps:
        if overlap < args.window:
            mean, worst = compare(restore_clip(step, lq, scale, Plan(args.window, overlap)), whole)
            print(f"| {overlap} | {mean:.1f} | {worst:.1f} |", flush=True)

    print(f"\n| margin of tiles of {args.tile} | PSNR against the whole frame, dB | worst frame, dB | seam gradient |")
    print("|--:|--:|--:|--:|")
    for margin in args.margins:
        if 2 * margin < args.tile:
            lq = central(clip, 2 * args.tile - 2 * margin)  # two tiles a side that share no more than this
            tiled = restore_clip(step, lq, scale, Plan(0, 0, args.tile, margin))
            whole = restore_clip(step, lq, scale, Plan())
            mean, worst = compare(tiled, whole)
            seam, usual = (seam_gradient(x, lq.shape[4], args.tile, margin, scale[2]) for x in (tiled, whole))
            print(f"| {margin} | {mean:.1f} | {worst:.1f} | {seam / usual:.3f} |", flush=True)
    return 0


def central(clip: np.ndarray, side: int) -> Tensor:
    """The central square of uint8 frames [t, h, w, 3], [1, t, 3, side, side] in [0, 1]."""
    top, left = ((n - min(n, side)) // 2 for n in clip.shape[1:3])
    crop = clip[:, top : top + side, left : left + side].transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(crop)).float().div(255)[None]


def compare(a: Tensor, b: Tensor) -> tuple[float, float]:
    """PSNR over all frames and of the worst frame, dB."""
    errors = (a - b).square().mean(dim=(0, 2, 3, 4)).clamp_min(1e-12)
    return float(-10 * errors.mean().log10()), float(-10 * errors.max().log10())


def seam_gradient(video: Tensor, w: int, tile: int, margin: int, scale: int) -> float:
    """Mean |difference of neighbouring columns| where two tiles meet, over that of the columns beside.

    video [1, T, c, H, W]. A seam is the span over which the weight passes from one tile to the next, or where they
    share nothing, the one step between them; its surroundings are as wide on each side, and at least 8 columns.
    """
    gradient = video.diff(dim=4).abs().mean(dim=(0, 1, 2, 3))
    intervals = cover(w, tile, margin)
    inside, outside = [], []
    for (_, stop), (start, _) in pairwise(intervals):
        middle, span = scale * (start + stop) / 2, scale * (stop - start) / 2
        first, last = (round(middle + side * span / 2) for side in (-1, 1))
        first = min(first, last) - 1  # gradient[i] lies between columns i and i + 1
        last = max(last, first + 1)
        beside = max(last - first, 8)
        inside.append(gradient[first:last].mean())
        outside += [gradient[max(first - beside, 0) : first].mean(), gradient[last : last + beside].mean()]
    return float(torch.stack(inside).mean() / torch.stack(outside).mean()) if inside else 1.0


if __name__ == "__main__":
    sys.exit(main())
