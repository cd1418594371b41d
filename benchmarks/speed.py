"""How many output frames a second a model makes.

python -m benchmarks.speed [--model FILE|training-free] [--frames 5] [--size 64 64] [--device cpu|cuda] [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch

from benchmarks.measure import seconds
from benchmarks.network_cases import clip, inference
from davsr.checkpoints.resolve import resolve
from davsr.options import Options, RestoreOptions


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="a checkpoint, or training-free; default: the shipped model")
    parser.add_argument("--frames", type=int, default=5, help="LR frames")
    parser.add_argument("--size", type=int, nargs=2, default=[64, 64], metavar=("H", "W"), help="of an LR frame")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    model = resolve(Options(restore=RestoreOptions(model=args.model)), device=args.device).model
    run = inference(model, clip(args.frames, *args.size, device))
    run()
    times = [seconds(run, device) for _ in range(args.repeats)]
    scale = model.degradation.scale
    made, height, width = (s * n for s, n in zip(scale, (args.frames, *args.size), strict=True))
    rates = [made / time for time in times]
    print(
        f"{args.model or 'shipped model'}: {args.size[0]}x{args.size[1]} -> {height}x{width}, "
        f"{statistics.median(rates):.1f} output frames a second ({min(rates):.1f} to {max(rates):.1f}), "
        f"{torch.get_num_threads()} threads, {device.type}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
