"""How time and memory of the whole network grow with frames, height, width and rounds."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.measure import MIB, Case, Run, peak_memory, seconds
from benchmarks.network_cases import clip, inference, network

BASE = {"t": 2, "h": 32, "w": 32, "K": 1}


def growth_cases(quick: bool) -> list[Case]:
    """The network at a base size, then with each of t, h, w, K doubled."""
    base = {"t": 2, "h": 16, "w": 16, "K": 1} if quick else BASE
    sizes = [base, *({**base, name: 2 * value} for name, value in base.items())]

    def build(size: dict[str, int], device: torch.device, small: bool) -> Run:
        model = network(size["K"], device, quick).to(memory_format=torch.channels_last)
        frames = (2, 16, 16) if small else (size["t"], size["h"], size["w"])
        return inference(model, clip(*frames, device=device))

    return [
        Case(
            "growth",
            "quick" if quick else "forward",
            ", ".join(f"{name} = {value}" for name, value in size.items()),
            lambda contestant, device, small, size=size: build(size, device, small),
            "the base size",
        )
        for size in sizes
    ]


def growth(device: torch.device, quick: bool = False, repeats: int = 3) -> list[dict[str, Any]]:
    """Rows: size, seconds, peak bytes, and both as multiples of the first row's."""
    cases = growth_cases(quick)
    runs = [case.build("ours", device, False) for case in cases]
    times = [[seconds(run, device) for run in runs] for _ in range(repeats + 1)][1:]
    rows: list[dict[str, Any]] = []
    for case, taken in zip(cases, zip(*times, strict=True), strict=True):
        row = {"size": case.size, "seconds": statistics.median(taken), "peak_bytes": peak_memory(case, "ours", device)}
        first = rows[0] if rows else row
        row["time_growth"] = row["seconds"] / first["seconds"]
        row["memory_growth"] = row["peak_bytes"] / max(first["peak_bytes"], 1)
        rows.append(row)
    return rows


def growth_table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'growth of the network':32s}{'s':>8s}{'MiB':>8s}{'time':>8s}{'memory':>8s}"]
    for r in rows:
        figures = f"{r['seconds']:8.2f}{r['peak_bytes'] / MIB:8.0f}{r['time_growth']:7.2f}x{r['memory_growth']:7.2f}x"
        lines.append(f"{r['size']:32s}{figures}")
    return "\n".join(lines)
