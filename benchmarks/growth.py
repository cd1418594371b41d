"""How time and memory of whole models grow with frames, height, width, iterations, and rounds along the motion."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.measure import MIB, Case, Run, peak_memory, seconds
from benchmarks.network_cases import clip, inference, network
from davsr.checkpoints.loading import load_model
from davsr.models.rounds import MotionPrior

NETWORK = "the paper's network"
BASES = {
    NETWORK: {"t": 2, "h": 32, "w": 32, "K": 1},
    "the shipped model": {"t": 4, "h": 64, "w": 64, "rounds": 6},
}


def growth_cases(quick: bool) -> list[Case]:
    """Either model at a base size, then with each of its numbers doubled."""

    def build(what: str, size: dict[str, int], device: torch.device, small: bool) -> Run:
        if what == NETWORK:
            model = network(size["K"], device, quick).to(memory_format=torch.channels_last)
        else:
            model = load_model(device=device)
            model.rounds = MotionPrior(size["rounds"]).to(device)
        frames = (2, 16, 16) if small else (size["t"], size["h"], size["w"])
        return inference(model, clip(*frames, device=device))

    cases = []
    for what, numbers in BASES.items():
        base = {**numbers, "h": 16, "w": 16} if quick else numbers
        for size in [base, *({**base, name: 2 * value} for name, value in base.items())]:
            cases.append(
                Case(
                    "growth",
                    f"{what}, quick" if quick else what,
                    ", ".join(f"{name} = {value}" for name, value in size.items()),
                    lambda contestant, device, small, what=what, size=size: build(what, size, device, small),
                    "the base size",
                )
            )
    return cases


def growth(device: torch.device, quick: bool = False, repeats: int = 3) -> list[dict[str, Any]]:
    """Rows: model, size, seconds, peak bytes, and both as multiples of the model's first row's."""
    cases = growth_cases(quick)
    runs = [case.build("ours", device, False) for case in cases]
    times = [[seconds(run, device) for run in runs] for _ in range(repeats + 1)][1:]
    rows: list[dict[str, Any]] = []
    for case, taken in zip(cases, zip(*times, strict=True), strict=True):
        row: dict[str, Any] = {
            "model": case.name,
            "size": case.size,
            "seconds": statistics.median(taken),
            "peak_bytes": peak_memory(case, "ours", device),
        }
        first = next((other for other in rows if other["model"] == case.name), row)
        row["time_growth"] = row["seconds"] / first["seconds"]
        row["memory_growth"] = row["peak_bytes"] / max(first["peak_bytes"], 1)
        rows.append(row)
    return rows


def growth_table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'growth':60s}{'s':>8s}{'MiB':>8s}{'time':>8s}{'memory':>8s}"]
    for r in rows:
        figures = f"{r['seconds']:8.2f}{r['peak_bytes'] / MIB:8.0f}{r['time_growth']:7.2f}x{r['memory_growth']:7.2f}x"
        lines.append(f"{r['model'] + ', ' + r['size']:60s}{figures}")
    return "\n".join(lines)
