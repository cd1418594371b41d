"""How the benchmarks measure: turns for time, a process of its own for peak memory, the profiler for shares."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Run = Callable[[], Any]  # one repetition; returns a tensor or tensors, which the contestants must agree on
OURS, PEER = "ours", "peer"
_TURN = 0.5  # seconds of one contestant's turn, where its run is shorter
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One row of the table: ours against a peer at the same work.

    Args:
        suite, name, size: what is measured; `suite` is what `--only` selects.
        build: (contestant, device, small) -> its run. `small` is the same code at a small size, to warm up a process.
        peer: what the peer is, in words.
        target: times faster than the peer that ours must be on two cores.
        memory_limit: bytes that ours may take beyond its inputs; None: what the peer takes.
        tolerance: largest difference of the results, root mean square over the peer's standard deviation.
        repeats: turns of each.
    """

    suite: str
    name: str
    size: str
    build: Callable[[str, torch.device, bool], Run]
    peer: str
    target: float | None = None
    memory_limit: int | None = None
    tolerance: float = 3e-5
    repeats: int = 7

    @property
    def key(self) -> str:
        return f"{self.suite}: {self.name}, {self.size}"


def measure(case: Case, device: torch.device, repeats: int | None = None) -> dict[str, Any]:
    """The row of a case: seconds, peak bytes beyond the inputs, and the ratios peer / ours of both."""
    runs = {name: case.build(name, device, False) for name in (OURS, PEER)}
    difference = disagreement(*(run() for run in runs.values()))
    if not difference <= case.tolerance:
        raise RuntimeError(
            f"{case.key}: ours differs from {case.peer} by {difference:.1e} rms, more than {case.tolerance:.0e}"
        )
    times = take_turns(runs, repeats or case.repeats, device)
    ours, peer = (statistics.median(values) for values in times.values())
    del runs
    memory = {name: peak_memory(case, name, device) for name in (OURS, PEER)}
    return {
        "suite": case.suite,
        "name": case.name,
        "size": case.size,
        "peer": case.peer,
        "seconds": ours,
        "peer_seconds": peer,
        "ratio": peer / ours,
        "target": case.target,
        "all_seconds": times,
        "peak_bytes": memory[OURS],
        "peer_peak_bytes": memory[PEER],
        "memory_ratio": memory[OURS] / max(memory[PEER], 1),
        "memory_limit_bytes": memory[PEER] if case.memory_limit is None else case.memory_limit,
        "difference": difference,
    }


def disagreement(ours: Any, peer: Any) -> float:
    """The largest rms difference over the standard deviation, of a tensor or of each of a sequence."""
    if isinstance(ours, Tensor):
        a, b = ours.detach().double(), peer.detach().double()
        scale = b.std() if b.numel() > 1 else b.abs()
        return float((a - b).square().mean().sqrt() / scale)
    return max(disagreement(a, b) for a, b in zip(ours, peer, strict=True))


def take_turns(runs: dict[str, Run], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run; the contestants take turns, so that a busy machine slows all of them.

    A short run is called over and over in its turn, first once untimed: it is then measured as it repeats, not as the
    other contestant left caches and allocator. A long one is called once.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            once = seconds(run, device)
            calls = int(_TURN / once)
            times[name].append(statistics.fmean(seconds(run, device) for _ in range(calls)) if calls else once)
    return times


def seconds(run: Run, device: torch.device) -> float:
    """Time of one call, waiting for the device."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1e3
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def peak_memory(case: Case, contestant: str, device: torch.device) -> int:
    """Bytes above what inputs and weights take, at the highest point of one call.

    On the CPU that is resident memory, in a process of its own: it counts what libraries allocate past torch.
    """
    if device.type == "cuda":
        return cuda_peak(case.build(contestant, device, False), device)
    command = [sys.executable, "-m", "benchmarks", "--peak", case.key, contestant]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case.key}: the memory measurement failed:\n{done.stderr}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def cuda_peak(run: Run, device: torch.device) -> int:
    run()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def resident_peak(case: Case, contestant: str) -> int:
    """What `peak_memory` asks a fresh process for: resident bytes at the peak of one run, above those before it."""
    cpu = torch.device("cpu")
    case.build(contestant, cpu, True)()  # libraries load, kernels are generated
    run = case.build(contestant, cpu, False)
    gc.collect()
    _return_free_memory()
    high_water = Path("/proc/self/clear_refs")
    if high_water.exists():
        before = _status("VmRSS")
        high_water.write_text("5")  # the high-water mark starts again from here
        result = run()
        peak = _status("VmHWM")
    else:
        before = _high_water_mark()
        result = run()
        peak = _high_water_mark()
    del result
    return max(peak - before, 0)


def _status(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def _high_water_mark() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _return_free_memory() -> None:
    """Let the allocator hand free pages back, so that a run cannot hide in those of the warm-up."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def shares(run: Run, device: torch.device, named: int = 8) -> dict[str, Any]:
    """Where the time of one run goes: seconds in all, the share of convolutions, and the largest other operations."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        run()
    spent: dict[str, float] = {}
    for event in profile.key_averages():
        micros = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        if micros > 0:
            spent[event.key] = spent.get(event.key, 0.0) + micros * 1e-6
    total = sum(spent.values())
    convolutions = sum(value for name, value in spent.items() if is_convolution(name))
    others = sorted(((v, n) for n, v in spent.items() if not is_convolution(n)), reverse=True)[:named]
    return {
        "seconds": total,
        "convolutions": convolutions / total,
        "others": {name: value / total for value, name in others},
    }


def is_convolution(name: str) -> bool:
    """Whether a profiler entry is a dense convolution: ours and aten's on the CPU, cuDNN's kernels on a GPU."""
    lowered = name.lower()
    markers = ("conv3x3", "convolution", "conv2d", "cudnn", "fprop", "dgrad", "wgrad", "implicit_gemm", "winograd")
    return any(m in lowered for m in markers) and "deform" not in lowered and "autograd" not in lowered


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, the peers below; `must` is what is required: times faster, and MiB."""
    header = [
        "suite",
        "case",
        "size",
        "ours ms",
        "peer ms",
        "faster",
        "must",
        "MiB",
        "peer MiB",
        "must",
        "differs",
        "peer",
    ]
    peers = list(dict.fromkeys(r["peer"] for r in rows))
    lines = [header]
    for r in rows:
        lines.append(
            [
                r["suite"],
                r["name"],
                r["size"],
                f"{1e3 * r['seconds']:.2f}",
                f"{1e3 * r['peer_seconds']:.2f}",
                f"{r['ratio']:.2f}x",
                f">= {r['target']:g}x" if r["target"] else "",
                f"{r['peak_bytes'] / MIB:.0f}",
                f"{r['peer_peak_bytes'] / MIB:.0f}",
                f"<= {r['memory_limit_bytes'] / MIB:.0f}",
                f"{r['difference']:.0e}",
                f"[{peers.index(r['peer']) + 1}]",
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(text + [f"[{number}] {peer}" for number, peer in enumerate(peers, 1)])


def noise(*shape: int, device: torch.device, scale: float = 1.0, seed: int = 0) -> Tensor:
    """Normal numbers that are the same on every device."""
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(device)
