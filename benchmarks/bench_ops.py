"""The ops against what one would use instead, as ratios within one run.

    python -m benchmarks.bench_ops [--repeats 15] [--device cpu|cuda] [--json ops.json]

deform_align: torchvision's ``deform_conv2d`` and the elementwise steps around it, in NCHW and eager, where torchvision is
installed; otherwise our own reference in plain PyTorch, named as such. fourier_division: the published form of the data step
(the zero-stuffed spectrum, division by alpha) on full spectra in plain PyTorch, its transfer function computed beforehand.
The contestants take turns, so that a busy machine slows all of them; times are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from davsr.ops import backend, deform_align, deform_align_reference, fold_power, fourier_division

Contestant = Callable[[], object]
REACH = 10.0
AXES = (-3, -2, -1)


def median_times(contestants: dict[str, Contestant], repeats: int, device: torch.device) -> dict[str, float]:
    """Median wall-clock time of each in milliseconds, taking turns, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def torchvision_align() -> Callable[..., Tensor] | None:
    """torchvision's operation and the elementwise steps of section 3.3, or nothing where torchvision is not installed."""
    try:
        from torchvision.ops import deform_conv2d
    except ImportError:
        return None

    def align(features, raw, flow_1, flow_2, weight, bias, *, groups, max_residue):  # type: ignore[no-untyped-def]
        first, second, mask = raw.chunk(3, dim=1)
        offset = max_residue * torch.tanh(torch.cat([first, second], dim=1))
        offset_1, offset_2 = offset.chunk(2, dim=1)
        offset_1 = offset_1 + flow_1.flip(1).repeat(1, offset_1.shape[1] // 2, 1, 1)
        offset_2 = offset_2 + flow_2.flip(1).repeat(1, offset_2.shape[1] // 2, 1, 1)
        offset = torch.cat([offset_1, offset_2], dim=1)
        return deform_conv2d(features, offset, weight, bias, padding=1, mask=torch.sigmoid(mask))

    return align


def bench_deform_align(repeats: int, device: torch.device, size: int = 64, channels: int = 64) -> list[dict[str, Any]]:
    """2m -> m channels, 16 groups, one frame of size x size."""
    groups = 16
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(device)

    given = [
        normal(1, 2 * channels, size, size),
        normal(1, 27 * groups, size, size),
        normal(1, 2, size, size, scale=3),
        normal(1, 2, size, size, scale=3),
        normal(channels, 2 * channels, 3, 3, scale=0.03),
        normal(channels),
    ]
    last = [x.contiguous(memory_format=torch.channels_last) if i < 2 else x for i, x in enumerate(given)]
    half = [x.bfloat16() if i in (0, 1, 4, 5) else x for i, x in enumerate(last)]
    options = {"groups": groups, "max_residue": REACH}
    align, name = torchvision_align(), "torchvision"
    if align is None:
        align, name = deform_align_reference, "our reference (no torchvision here)"
    forms = {"channels-last": last, "NCHW": given, "channels-last bfloat16": half}

    expected = align(*given, **options)
    worst = (deform_align(*last, **options) - expected).abs().max() / expected.std()
    if worst > 1e-4:
        raise RuntimeError(f"deform_align differs from {name} by {worst:.1e} of its standard deviation")

    def forward(run: Callable[..., Tensor], inputs: list[Tensor]) -> Contestant:
        def call() -> Tensor:
            with torch.no_grad():
                return run(*inputs, **options)

        return call

    def both(run: Callable[..., Tensor], inputs: list[Tensor]) -> Contestant:
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        grad = torch.ones_like(run(*leaves, **options))
        return lambda: torch.autograd.grad(run(*leaves, **options), leaves, grad)

    rows = []
    for what, wrap, count in (("forward", forward, repeats), ("forward + backward", both, max(3, repeats // 2))):
        contestants = {
            "peer": wrap(align, given),
            **{form: wrap(deform_align, inputs) for form, inputs in forms.items()},
        }
        times = median_times(contestants, count, device)
        for form in forms:
            case = f"{2 * channels} -> {channels}, {size}x{size}, {form}"
            rows.append(row("deform_align", what, case, times[form], name, times["peer"]))
    return rows


def bench_fourier_division(repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """The data step at 25x256x256 from 5x64x64."""
    scale, hr, lr = (5, 4, 4), (25, 256, 256), (5, 64, 64)
    generator = torch.Generator().manual_seed(0)
    x, y, psf = (torch.rand(*shape, generator=generator).to(device) for shape in ((1, 3, *hr), (1, 3, *lr), hr))
    alpha = torch.full((1,), 0.1, device=device)
    psf = psf / psf.sum()
    otf, otf_full = torch.fft.rfftn(psf), torch.fft.fftn(psf)
    gram = fold_power(otf, scale=scale, width=hr[2])
    a = alpha[:, None, None, None, None]

    def fold(spectrum: Tensor) -> Tensor:
        blocks = (side for s, n in zip(scale, lr, strict=True) for side in (s, n))
        return spectrum.reshape(*spectrum.shape[:-3], *blocks).mean(dim=(-6, -4, -2))

    gram_full = fold(otf_full.abs().square())

    def published(x_hat: Tensor, stuffed_hat: Tensor, a: Tensor) -> Tensor:
        right = otf_full.conj() * stuffed_hat + a * x_hat
        quotient = fold(otf_full * right) / (gram_full + a)
        return (right - otf_full.conj() * quotient.repeat(1, 1, *scale)) / a

    def stuffed(y: Tensor) -> Tensor:
        zeros = y.new_zeros(1, 3, *hr)
        zeros[..., :: scale[0], :: scale[1], :: scale[2]] = y
        return zeros

    x_half, y_half = torch.fft.rfftn(x, dim=AXES), torch.fft.rfftn(y, dim=AXES)
    x_full, y_full = torch.fft.fftn(x, dim=AXES), torch.fft.fftn(stuffed(y), dim=AXES)

    def divide(x_hat: Tensor, y_hat: Tensor, alpha: Tensor) -> Tensor:
        return fourier_division(x_hat, y_hat, otf, alpha, scale=scale, width=hr[2], gram=gram)

    def step() -> Tensor:
        z = divide(torch.fft.rfftn(x, dim=AXES), torch.fft.rfftn(y, dim=AXES), alpha)
        return torch.fft.irfftn(z, s=hr, dim=AXES)

    def published_step() -> Tensor:
        z = published(torch.fft.fftn(x, dim=AXES), torch.fft.fftn(stuffed(y), dim=AXES), a)
        return torch.fft.ifftn(z, dim=AXES).real

    worst = (step() - published_step()).abs().max()
    if worst > 1e-3:
        raise RuntimeError(f"fourier_division differs from the published form by {worst:.1e}")

    def both(run: Callable[..., Tensor], *inputs: Tensor) -> Contestant:
        leaves = [v.detach().clone().requires_grad_() for v in inputs]
        grad = torch.ones_like(run(*leaves))
        return lambda: torch.autograd.grad(run(*leaves), leaves, grad)

    pairs: dict[str, tuple[Contestant, Contestant]] = {
        "forward": (lambda: divide(x_half, y_half, alpha), lambda: published(x_full, y_full, a)),
        "forward + backward": (both(divide, x_half, y_half, alpha), both(published, x_full, y_full, a)),
        "whole data step, forward": (step, published_step),
    }
    rows = []
    for what, (ours, peer) in pairs.items():
        times = median_times({"ours": ours, "peer": peer}, max(3, repeats // 2), device)
        rows.append(
            row("fourier_division", what, "25x256x256", times["ours"], "form (a) in plain PyTorch", times["peer"])
        )
    return rows


def row(op: str, what: str, case: str, ours: float, peer: str, theirs: float) -> dict[str, Any]:
    return {"op": op, "what": what, "case": case, "ms": ours, "peer": peer, "peer_ms": theirs, "ratio": theirs / ours}


def bench(repeats: int = 15, device: str | torch.device = "cpu") -> list[dict[str, Any]]:
    """All rows: op, what, case, ms, peer, peer_ms, ratio."""
    device = torch.device(device)
    return bench_deform_align(repeats, device) + bench_fourier_division(repeats, device)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'op':18s}{'what':26s}{'case':42s}{'ms':>9s}{'peer ms':>10s}{'ratio':>8s}  peer"]
    for r in rows:
        times = f"{r['ms']:9.2f}{r['peer_ms']:10.2f}{r['ratio']:8.1f}"
        lines.append(f"{r['op']:18s}{r['what']:26s}{r['case']:42s}{times}  {r['peer']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The ops against their peers, as ratios in one run.")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    rows = bench(arguments.repeats, arguments.device)
    facts = f"torch {torch.__version__}, {torch.get_num_threads()} threads, {backend(arguments.device)}"
    print(f"{facts}\n{table(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
