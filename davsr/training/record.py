"""What a run writes down: `metrics.jsonl`, learning curves, TensorBoard, and the lines of its log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from davsr.errors import InputError
from davsr.files import write_text
from davsr.training.curves import draw_curves, read_figures


class Record:
    """The figures of a run, by step, in the run's folder."""

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.folder = folder
        self.file = folder / "metrics.jsonl"
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise InputError("train.tensorboard: needs the package tensorboard (pip install tensorboard)") from None
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def rewind(self, step: int) -> None:
        """Drop the figures after `step`: the run goes on from there and will write them again."""
        if not self.file.exists():
            return
        lines = [json.dumps(figures) for figures in read_figures(self.file) if figures["step"] <= step]
        write_text(self.file, "".join(line + "\n" for line in lines))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append the figures of one step."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in figures.items()}}) + "\n")
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def draw(self) -> None:
        """Draw the learning curves again."""
        if self.file.exists():
            draw_curves(self.file, self.folder / "curves.png")

    def close(self) -> None:
        """Finish the files."""
        self.draw()
        if self._writer is not None:
            self._writer.close()


class StepMeans:
    """Means over the steps since the last line of the log."""

    def __init__(self) -> None:
        self.steps = 0
        self.waited = 0.0  # seconds for the data loader
        self._began = time.monotonic()
        self._idle = 0.0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._last: dict[str, float] = {}

    def add(self, loss: float, norm: Tensor, rate: float, scalars: Mapping[str, Tensor], offsets: list[Tensor]) -> None:
        """Take in one step; tensors are read when the figures are asked for."""
        self._mean("loss", loss)
        if norm.isfinite():  # a float16 overflow has none
            self._mean("grad_norm", float(norm))
        self._last = {"rate": rate, **{name: float(value) for name, value in scalars.items()}}
        if offsets:
            self._last["offset"] = float(torch.stack(offsets).mean())

    def pause(self, seconds: float) -> None:
        """Leave out time that no step took: validation, checkpoints."""
        self._idle += seconds

    def figures(self) -> dict[str, float]:
        """Everything, for the record."""
        seconds = (time.monotonic() - self._began - self._idle) / max(self.steps, 1)
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        return {**means, **self._last, "step_seconds": seconds, "wait_seconds": self.waited / max(self.steps, 1)}

    def line(self) -> str:
        """The figures that a person reads, for the log."""
        f = self.figures()
        parts = [f"loss {f['loss']:.5f}"] if "loss" in f else ["no finite step"]
        parts += [f"rate {f['rate']:.2e}", f"grad {f.get('grad_norm', math.nan):.3g}"] if "rate" in f else []
        for name in ("alpha", "beta"):
            values = [f"{value:.3g}" for key, value in sorted(f.items()) if key.startswith(f"{name}_")]
            parts += [f"{name} {' '.join(values)}"] if values else []
        parts += [f"offset {f['offset']:.2f} px"] if "offset" in f else []
        share = f["wait_seconds"] / max(f["step_seconds"], 1e-9)
        return ", ".join([*parts, f"{f['step_seconds']:.3f} s a step", f"{share:.0%} of it waiting for data"])

    def _mean(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1


def duration(seconds: float) -> str:
    """`3 d 4 h`, `5 h 12 min`, `7 min`, `12 s`."""
    minutes = int(seconds) // 60
    if minutes >= 48 * 60:
        return f"{minutes // 1440} d {minutes // 60 % 24} h"
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
