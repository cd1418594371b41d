"""What a test measured: scores of every frame and stage, their means, and how they are printed and kept."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from davsr.errors import InputError
from davsr.files import read_json, write_text

BASELINE = "bicubic + linear"
TRUTH = "truth"
# What a test leaves beside its clips; by the first one, which is written first and removed last, the others are known
# as ours.
TABLES = ("metrics.json", "metrics.csv", "frames.csv", "options.yml", "index.html")
METRICS = ("psnr", "ssim", "residual", "tof", "warping", "lpips")
# PSNR / SSIM as published for REDS4, from the paper's table.
PUBLISHED_REDS4 = (
    ("bicubic + linear", (22.78, 0.624)),
    ("EDVR + Zooming Slow-Mo", (26.12, 0.764)),
    ("SuperSloMo + BasicVSR++, fine-tuned", (26.93, 0.785)),
    ("DAVSR", (29.12, 0.859)),
)
PUBLISHED_REDS4_CLIPS = {"000": (27.23, 0.820), "011": (30.15, 0.865), "015": (31.05, 0.894), "020": (28.06, 0.858)}


@dataclass
class StageScores:
    """Scores of one stage of a clip, frame by frame."""

    psnr: list[float] = field(default_factory=list)  # dB, per HR frame
    ssim: list[float] = field(default_factory=list)  # per HR frame
    residual: list[float] = field(default_factory=list)  # root mean square of y - A x per LR frame, full scale is 1
    tof: list[float] = field(default_factory=list)  # pixels, per transition from HR frame p to p + 1
    warping: list[float] = field(default_factory=list)  # 8-bit levels, per transition
    lpips: list[float] = field(default_factory=list)  # per HR frame


@dataclass
class ClipResult:
    """One restored clip."""

    name: str
    lr: tuple[int, int, int]  # frames, height, width
    hr: tuple[int, int, int]
    seconds: float  # in the model
    border: int  # HR frames at each end that are not scored
    stages: dict[str, StageScores]  # in the order in which they are made; the baseline first, the output last

    def mean(self, stage: str, metric: str) -> float:
        """Mean over the scored frames and the transitions between them, residuals over all LR frames.

        Not a number without any.
        """
        values = getattr(self.stages[stage], metric)
        if metric != "residual":
            values = values[self.border : len(values) - self.border]
        known = [v for v in values if not math.isnan(v)]
        return float(np.mean(known)) if known else math.nan

    @property
    def output(self) -> str:
        """Name of the stage that is the result."""
        return [name for name in self.stages if name != TRUTH][-1]

    @property
    def measured(self) -> bool:
        """Whether there was a truth to compare with."""
        return any(scores.psnr for scores in self.stages.values())


def mean(results: Sequence[ClipResult], stage: str, metric: str) -> float:
    """Mean over clips."""
    values = [value for r in results if stage in r.stages and not math.isnan(value := r.mean(stage, metric))]
    return float(np.mean(values)) if values else math.nan


def scored_border(frames: int, border: int) -> int:
    """The border, unless a clip has no frames besides."""
    return border if frames > 2 * border else 0


def clip_rows(results: Sequence[ClipResult], label: str) -> list[Sequence[str]]:
    """Every clip, and the average, beside bicubic + linear."""
    rows: list[Sequence[str]] = [("clip", "frames", BASELINE, label, "gain")]
    measured = [result for result in results if result.measured]
    for result in measured:
        values = [(result.mean(s, "psnr"), result.mean(s, "ssim")) for s in (BASELINE, result.output)]
        rows.append((result.name, str(result.hr[0] - 2 * result.border), *_compared(values)))
    if len(measured) > 1:
        values = [(mean(measured, s, "psnr"), mean(measured, s, "ssim")) for s in (BASELINE, measured[0].output)]
        rows.append(("average", "", *_compared(values)))
    return rows


def stage_rows(results: Sequence[ClipResult]) -> list[Sequence[str]]:
    """What every stage contributes, mean over clips."""
    columns = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 4), "residual": ("rms y - A x", 5)}
    columns |= {"tof": ("tOF", 3), "warping": ("warping error", 2), "lpips": ("LPIPS", 4)}
    stages = list(dict.fromkeys(stage for result in results for stage in result.stages))
    means = {metric: {stage: mean(results, stage, metric) for stage in stages} for metric in columns}
    shown = [m for m in columns if not all(math.isnan(v) for v in means[m].values())]
    rows: list[Sequence[str]] = [("stage", *(columns[m][0] for m in shown))]
    rows += [(stage, *(_number(means[m][stage], columns[m][1]) for m in shown)) for stage in stages]
    return rows


def published_rows() -> list[Sequence[str]]:
    """The published rows of REDS4."""
    rows: list[Sequence[str]] = [("published", "PSNR", "SSIM")]
    rows += [(name, f"{p:.2f}", f"{s:.3f}") for name, (p, s) in PUBLISHED_REDS4]
    rows += [(f"DAVSR, clip {name}", f"{p:.2f}", f"{s:.3f}") for name, (p, s) in PUBLISHED_REDS4_CLIPS.items()]
    return rows


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Rows of a table with a rule under the first; the first column to the left, the others to the right."""
    table = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _compared(values: Sequence[tuple[float, float]]) -> list[str]:
    (psnr_0, ssim_0), (psnr_1, ssim_1) = values
    cells = [f"{_number(p, 2)} / {_number(s, 4)}" for p, s in values]
    gain = 0.0 if psnr_1 == psnr_0 else psnr_1 - psnr_0  # both infinite: equal to the truth
    return [*cells, f"{gain:+.2f} dB / {ssim_1 - ssim_0:+.4f}"]


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def summary(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Everything as plain values for JSON: infinite PSNR (equal frames) as "inf", missing values as null."""
    return {
        "average": {s: {m: _plain(mean(results, s, m)) for m in METRICS} for s in results[0].stages},
        "clips": [
            {
                "name": r.name,
                "lr": list(r.lr),
                "hr": list(r.hr),
                "seconds": round(r.seconds, 3),
                "unscored_frames_at_each_end": r.border,
                "stages": {
                    s: {
                        **{m: _plain(r.mean(s, m)) for m in METRICS},
                        **{f"{m}_per_frame": [_plain(v) for v in getattr(scores, m)] for m in METRICS},
                    }
                    for s, scores in r.stages.items()
                },
            }
            for r in results
        ],
    }


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"


def require_tables(folder: Path) -> None:
    """Raise InputError where a file of another program has the name of a table."""
    there = [name for name in TABLES if (folder / name).exists()]
    if there and not _is_table(folder / TABLES[0]):
        raise InputError(f"{folder / there[0]} is in the way, and `davsr test` did not write it: choose another name")


def remove_tables(folder: Path) -> None:
    """Remove the tables of an earlier run, the one that they are known by last."""
    require_tables(folder)
    for name in reversed(TABLES):
        (folder / name).unlink(missing_ok=True)


def _is_table(path: Path) -> bool:
    tree = read_json(path)
    return isinstance(tree, dict) and {"protocol", "options", "clips"} <= tree.keys()


def write_tables(folder: Path, results: Sequence[ClipResult], facts: dict[str, Any]) -> None:
    """`metrics.json` (everything), `metrics.csv` (clips and stages), `frames.csv` (frames); each written whole."""
    write_text(folder / "metrics.json", json.dumps({**facts, **summary(results)}, indent=1, ensure_ascii=False) + "\n")
    means: list[Sequence[Any]] = [("clip", "stage", *METRICS)]
    frames: list[Sequence[Any]] = [("clip", "stage", "hr_frame", "psnr", "ssim")]
    for result in results:
        for stage, scores in result.stages.items():
            means.append((result.name, stage, *(_cell(result.mean(stage, m)) for m in METRICS)))
            pairs = zip(scores.psnr, scores.ssim, strict=True)
            frames += [(result.name, stage, p, _cell(a), _cell(b)) for p, (a, b) in enumerate(pairs)]
    for name, rows in (("metrics.csv", means), ("frames.csv", frames)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(folder / name, text.getvalue())


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
