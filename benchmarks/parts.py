"""Where the time of a restoration goes, by part of the method.

python -m benchmarks.parts [--model FILE|training-free] [--frames 9] [--size 64 64] [--threads N] [--repeats 3]
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.network_cases import clip, inference
from davsr.checkpoints.resolve import resolve
from davsr.models import davsr as method
from davsr.models import grouped_rounds, interpolation, layers, prior_in_parts, recurrent_prior, rounds, trunk
from davsr.options import Options, RestoreOptions
from davsr.physics.degradation import Degradation

_CONVOLUTIONS = ", its convolutions"  # of the part they run in
# Part -> where its functions are looked up. A part that runs inside another counts for itself alone.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "flow between LR frames": [(interpolation, "flow_between_neighbours")],
    "interpolation": [
        (interpolation.Interpolation, "forward"),
        (interpolation, "_put_between"),
        (interpolation, "resize_bicubic"),
    ],
    "motion of HR frames": [(method.Motion, "of_hr_frames")],
    "rounds: average": [(rounds, "motion_average"), (rounds, "motion_mean")],
    "rounds: mismatch": [(rounds, "motion_mismatch")],
    "rounds: blend": [(rounds, "motion_blend")],
    "rounds: flatten": [(rounds, "flatten")],
    "rounds: average and flatten": [(grouped_rounds, "motion_round")],
    "rounds: going on": [(grouped_rounds, "go_on")],
    "rounds: the rest": [(rounds.MotionPrior, "forward")],
    "data steps": [(Degradation, "data_step")],
    "prior: LR pictures": [(prior_in_parts, "restore_pictures")],
    "prior: trunk": [(trunk.PictureTrunk, "forward"), (trunk.PictureTrunk, "detail")],
    "prior: recurrence": [(recurrent_prior.Recurrence, "carry")],
    "prior: brought to HR times": [(prior_in_parts, "shown_at")],
    "prior: fusion": [(recurrent_prior.Fusion, "forward")],
    _CONVOLUTIONS: [(layers, "conv3x3")],
    "prior: the rest": [(recurrent_prior.RecurrentPrior, "forward")],
    "the rest": [(method.DAVSR, "forward")],
}


class Clock:
    """Seconds by part; what runs inside a part is taken from it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self._since = 0.0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._inside.append(self._inside[-1] + name if name == _CONVOLUTIONS and self._inside else name)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._inside.pop()

        return run

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._inside:
            self.seconds[self._inside[-1]] += now - self._since
        self._since = now


@contextmanager
def clocked() -> Iterator[Clock]:
    """Inside, every part of the method tells its time."""
    clock, kept = Clock(), []
    for name, places in PARTS.items():
        for owner, attribute in places:
            kept.append((owner, attribute, getattr(owner, attribute)))
            setattr(owner, attribute, clock.timed(name, kept[-1][2]))
    try:
        yield clock
    finally:
        for owner, attribute, function in kept:
            setattr(owner, attribute, function)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="a checkpoint, or training-free; default: the shipped model")
    parser.add_argument("--frames", type=int, default=9, help="LR frames")
    parser.add_argument("--size", type=int, nargs=2, default=[64, 64], metavar=("H", "W"), help="of an LR frame")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = resolve(Options(restore=RestoreOptions(model=args.model)), device="cpu").model
    run = inference(model, clip(args.frames, *args.size, torch.device("cpu")))
    run()
    with clocked() as clock:
        for _ in range(args.repeats):
            run()
    print(table(clock.seconds, args.repeats, model.degradation.scale[0] * args.frames))
    return 0


def table(seconds: dict[str, float], repeats: int, frames: int) -> str:
    """Milliseconds of each output frame by part, the longest first."""
    total = sum(seconds.values())
    lines = [f"{'part':34s}{'ms a frame':>12s}{'share':>8s}"]
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        lines.append(f"{name:34s}{1e3 * spent / repeats / frames:12.2f}{spent / total:8.1%}")
    whole = total / repeats / frames
    lines.append(f"{'all':34s}{1e3 * whole:12.2f}  {1 / whole:.1f} frames a second")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
