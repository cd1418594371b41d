"""What each part of a round along the motion is worth: means over cuts of real clips, without one part at a time.

python -m benchmarks.ablation clip.mp4 ... [--frames 25] [--strides 1 3] [--crop 256] [--rounds 12]

Protocol as in `benchmarks.validation`, on central crops.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.validation import cuts, line, score
from davsr.checkpoints.loading import ALONG_MOTION, TRAINING_FREE, load_model
from davsr.data.clips import open_clip
from davsr.evaluation.tables import BASELINE
from davsr.models import rounds as motion
from davsr.models.davsr import DAVSR
from davsr.options import RoundsOptions

NEVER = -60.0  # logarithm of a step that moves nothing
ALONE = 1e-4  # a mismatch at which no neighbour has a say


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", help="sharp videos or folders of frames")
    parser.add_argument("--strides", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--frames", type=int, default=25, help="of a cut")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args(argv)

    examples = [
        central(gt, args.crop)
        for path in args.clips
        for stride in args.strides
        for _, gt in cuts(open_clip(path), stride, args.frames)
    ]
    if not examples:
        parser.error(f"no clip has {args.frames} frames at a stride of {args.strides}")
    free = load_model(model=TRAINING_FREE)
    print(line([f"mean of {len(examples)} cuts", "PSNR, dB", "output frames/s"]) + "\n" + line(["--", "--:", "--:"]))
    for name, model, context in settings(args.rounds):
        with context:
            scores = [score(model, free, gt) for gt in examples]
        means = {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
        if name == "all of it":
            print(line(["bicubic + linear", f"{means[BASELINE]:.2f}", ""]))
        print(line([name, f"{means['z_1']:.2f}", f"{means['frames/s']:.1f}"]), flush=True)
    return 0


def settings(rounds: int) -> Iterator[tuple[str, DAVSR, AbstractContextManager[object]]]:
    """(name, model, context to run it in)."""
    yield "all of it", along_motion(rounds), nullcontext()
    model = along_motion(rounds)
    steps_of(model)[1:-1, 0] = -NEVER  # z = x where alpha is large
    yield "the data step only before the first round and after the last", model, nullcontext()
    yield "without neighbours", along_motion(rounds), patch.object(motion, "MISMATCH", ALONE)
    model = along_motion(rounds)
    steps_of(model)[:, 2] = NEVER
    yield "without flattening", model, nullcontext()
    model = along_motion(rounds)
    steps_of(model)[:, 1] = NEVER
    yield "without momentum", model, nullcontext()
    for fewer in (rounds // 3, 2 * rounds // 3, 4 * rounds // 3):
        yield f"{fewer} rounds", along_motion(fewer), nullcontext()


def along_motion(rounds: int) -> DAVSR:
    """The rounds by constants."""
    return load_model(model=replace(ALONG_MOTION, rounds=RoundsOptions(count=rounds)))


def steps_of(model: DAVSR) -> np.ndarray:
    """Logarithms of (alpha, momentum, flattening) of the first data step and of every round, [rounds + 1, 3]."""
    assert model.rounds is not None
    return model.rounds.log_steps.numpy()


def central(frames: np.ndarray, side: int) -> np.ndarray:
    """At most side x side pixels in the middle of [n, h, w, 3]."""
    top, left = (max(0, (n - side) // 2) for n in frames.shape[1:3])
    return frames[:, top : top + side, left : left + side]


if __name__ == "__main__":
    sys.exit(main())
