"""The data step as a plain script calls it: results dropped at once, or kept, so that each takes fresh memory.

python -m benchmarks.plain [--calls 8] [--quick]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cases import ALPHA, FORM_A, SCALE
from benchmarks.measure import noise
from benchmarks.peer import full_transfer
from davsr.physics.degradation import Degradation
from davsr.physics.solvers import spectral_data_step_reference

WARM_UP = 2  # calls


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=8, help="of each kind, the middle one of which counts")
    parser.add_argument("--quick", action="store_true", help="a small size: shows that it runs")
    args = parser.parse_args(argv)
    t, h, w = (2, 16, 16) if args.quick else (5, 64, 64)
    cpu = torch.device("cpu")
    A = Degradation(SCALE, boundary="circular")
    x, y = noise(1, 3, 5 * t, 4 * h, 4 * w, device=cpu), noise(1, 3, t, h, w, device=cpu, seed=1)
    alpha, otf = torch.full((1,), ALPHA), full_transfer(A, tuple(x.shape[2:]))
    steps = {
        "ours": lambda: A.data_step(x, y, alpha),
        FORM_A: lambda: spectral_data_step_reference(x, y, alpha, otf, SCALE),
    }
    for kept in (False, True):
        print(f"{5 * t}x{4 * h}x{4 * w}, results {'kept' if kept else 'dropped'}")
        times = []
        for name, step in steps.items():
            taken, faults = measured(step, args.calls, kept)
            times.append(taken)
            print(f"  {name:36s}{1e3 * taken:8.2f} ms{faults:10.0f} page faults a call")
        print(f"  {times[1] / times[0]:.1f}x")
    return 0


def measured(step: Callable[[], Tensor], calls: int, keep: bool) -> tuple[float, float]:
    """Median seconds, and page faults of a call on average."""
    kept: list[Tensor] = []
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP):
            step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(calls):
            begin = time.perf_counter()
            result = step()
            times.append(time.perf_counter() - begin)
            if keep:
                kept.append(result)
            del result
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return statistics.median(times), faults / calls


if __name__ == "__main__":
    sys.exit(main())
