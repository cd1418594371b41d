"""What `auto` plans for the shipped model: peak memory of the process, and work beside the whole clip in one piece.

python -m benchmarks.plans [--model FILE|training-free] [--free 23] [--memory 4 3 2]
"""

from __future__ import annotations

import argparse
import sys

import torch

from davsr.checkpoints.resolve import resolve
from davsr.errors import InputError
from davsr.options import Options, RestoreOptions
from davsr.restoration import planning

SIZES = {"1280x720": (180, 320), "1920x1080": (270, 480), "3840x2160": (540, 960)}  # LR (h, w), four times smaller
LENGTHS = 16, 240  # LR frames


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plans", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="a checkpoint, or training-free; default: the shipped model")
    parser.add_argument("--free", type=float, default=23.0, help="GB that are free, where none are stated")
    parser.add_argument("--memory", type=float, nargs="*", default=[4.0, 3.0, 2.0, 1.5, 1.0, 0.75], help="GB stated")
    args = parser.parse_args(argv)
    resolved = resolve(Options(restore=RestoreOptions(model=args.model)), device="cpu")
    print("| output | clip | by default |" + "".join(f" `--memory {memory:g}` |" for memory in args.memory))
    print("|---|---|" + "--:|" * (1 + len(args.memory)))
    model, degradation = resolved.model, resolved.options.degradation
    memory = planning.Memory.of(model, resolved.operator, torch.device("cpu"))
    overlap, margin = planning.default_overlap(degradation, model), planning.default_margin(model)

    def planned(size: tuple[int, int], frames: int, stated: float) -> str:
        economy = planning.Economy.of((degradation.scale[1] * size[0], degradation.scale[2] * size[1]), stated)
        try:
            plan = planning.choose_plan(
                size,
                degradation.scale,
                memory,
                planning.host_budget(stated) if stated else planning.SHARE * args.free * planning.GIGABYTE,
                frames=frames,
                overlap=overlap,
                margin=margin,
                modest=float("inf") if stated else planning.host_budget(planning.MODEST),
                economy=economy,
            )
        except InputError:
            return "does not fit"
        cost = planning.cost_of(plan, size, degradation.scale, memory, frames, economy)
        return f"{planning.whole_process(cost.need(device=False)):.2g} GB, {cost.work:.2f}x"

    for output, size in SIZES.items():
        for frames in LENGTHS:
            cells = [planned(size, frames, stated) for stated in (0.0, *args.memory)]
            print(f"| {output} | {frames} LR frames | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
