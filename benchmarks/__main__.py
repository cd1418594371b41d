"""Every figure of docs/performance.md in one run.

python -m benchmarks [--only SUITE] [--device cpu|cuda] [--threads N] [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import cases
from benchmarks.bench_loading import loading, loading_table
from benchmarks.growth import growth, growth_cases, growth_table
from benchmarks.measure import OURS, PEER, measure, resident_peak, shares, table
from benchmarks.rounds import floor
from davsr.ops import backend

SUITES = (
    "data_step",
    "deform_align",
    "fourier_division",
    "conv3x3",
    "rounds",
    "network",
    "training",
    "growth",
    "loading",
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time and peak memory as ratios to a named peer, in one run."
    )
    parser.add_argument("--only", choices=SUITES, action="append", help="this suite alone; may be given more than once")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--repeats", type=int, help="turns of each contestant, instead of each case's own number")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that everything runs, not what is reached"
    )
    parser.add_argument("--json", type=Path, help="write all figures here as well")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "CONTESTANT"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    chosen = args.only or list(SUITES)
    if args.peak:
        key, contestant = args.peak
        known = [case for quick in (False, True) for case in (*cases.all_cases(quick), *growth_cases(quick))]
        case = next(case for case in known if case.key == key)
        print(json.dumps({"peak_bytes": resident_peak(case, contestant)}))
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks: --device cuda needs a GPU that torch sees, here is none", file=sys.stderr)
        return 2

    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    torch.backends.cudnn.allow_tf32 = False  # results must agree to float32
    facts = machine(device)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    report: dict[str, Any] = {
        "facts": facts,
        "quick": args.quick,
        "rows": [],
        "shares": [],
        "growth": [],
        "loading": [],
    }
    for case in cases.all_cases(args.quick):
        if case.suite not in chosen:
            continue
        print(f"measuring {case.key}", file=sys.stderr, flush=True)
        report["rows"].append(measure(case, device, args.repeats))
        if case.suite in ("network", "training"):
            for contestant in (OURS, PEER):
                spent = shares(case.build(contestant, device, False), device)
                report["shares"].append({"case": case.key, "contestant": contestant, **spent})
    if report["rows"]:
        print("\n" + table(report["rows"]))
    if "rounds" in chosen and device.type == "cpu":
        report["rounds floor"] = floor(45, 256, 256)
        memory, arithmetic = (1e3 * report["rounds floor"][name] / 45 for name in ("memory", "arithmetic"))
        print(
            f"\none learned round of a 256x256 frame, at least: {memory:.2f} ms of memory and {arithmetic:.2f} ms of arithmetic"
        )
    for spent in report["shares"]:
        share = f"{spent['convolutions']:.0%} of {spent['seconds']:.2f} s in convolutions"
        print(f"\n{spent['case']}, {spent['contestant']}: {share}; then")
        print("  " + ", ".join(f"{name} {share:.1%}" for name, share in spent["others"].items()))
    if "growth" in chosen:
        report["growth"] = growth(device, args.quick)
        print("\n" + growth_table(report["growth"]))
    if "loading" in chosen:
        report["loading"] = loading(quick=args.quick)
        print("\n" + loading_table(report["loading"]))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return {"torch": torch.__version__, "device": name, "ops": str(backend(device)), "alignment peer": cases.ALIGN_NAME}


if __name__ == "__main__":
    sys.exit(main())
