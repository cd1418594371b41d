"""The report of a test: one HTML file that holds its pictures, opens from disk and needs nothing else."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from davsr import __version__
from davsr.data.clips import Clip
from davsr.evaluation.comparison import enlarge_pixels
from davsr.evaluation.tables import BASELINE, TRUTH, ClipResult, clip_rows, mean, published_rows, stage_rows
from davsr.files import write_text

TEMPLATE = Path(__file__).parent.parent / "assets" / "report.html"
INPUT = "input"
_QUALITY = 90  # of WebP: without visible loss, at a fifth of a PNG
CURVES = (  # metric, title, unit, digits
    ("psnr", "PSNR", "dB", 2),
    ("ssim", "SSIM", "", 4),
    ("residual", "rms y \N{MINUS SIGN} A x per LR frame", "", 5),
    ("tof", "tOF", "pixels", 3),
    ("warping", "warping error", "8-bit levels", 2),
)


@dataclass
class Gallery:
    """What the report shows of one clip, collected while its frames stream by.

    Args:
        shots: HR frames that are shown in full.
        row: HR row whose course in time is shown.
    """

    name: str
    shots: set[int]
    row: int
    images: dict[int, dict[str, str]] = field(default_factory=dict)  # by HR frame and version, data URLs
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)  # by version, [W, 3] per HR frame

    def push(self, p: int, versions: Mapping[str, np.ndarray]) -> None:
        """The next HR frame p in all its versions, uint8 [H, W, 3]."""
        for name, image in versions.items():
            self.rows.setdefault(name, []).append(image[self.row].copy())
        if p in self.shots:
            self.images[p] = {name: data_url(image) for name, image in versions.items()}

    def slices(self, names: Sequence[str]) -> dict[str, str]:
        """x-t pictures of these versions, data URLs."""
        return {name: data_url(np.stack(self.rows[name])) for name in names if name in self.rows}


def busiest_row(lq: Clip, s_h: int, samples: int = 12) -> int:
    """The HR row in which a clip changes most over time, judged by a few pairs of neighbouring LR frames."""
    if len(lq) < 2:
        return s_h * lq.size[0] // 2
    change = np.zeros(lq.size[0])
    for j in sorted(set(np.linspace(0, len(lq) - 2, samples).astype(int).tolist())):
        first, second = lq.frames(j, j + 2).astype(np.float32)
        change += np.abs(second - first).mean(axis=(1, 2))
    smooth = np.convolve(change, np.ones(3), mode="same")
    return s_h * int(smooth.argmax()) + s_h // 2


def input_frame(lq: Clip, p: int, scale: tuple[int, int, int], centre: float) -> np.ndarray:
    """The LR frame on show at HR frame p, its pixels enlarged."""
    j = min(max(round((p - centre) / scale[0]), 0), len(lq) - 1)
    return enlarge_pixels(lq.frames(j, j + 1)[0], scale[1:])


def data_url(image: np.ndarray) -> str:
    """A uint8 RGB image as the text of a WebP `data:` address."""
    done, encoded = cv2.imencode(".webp", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    if not done:
        raise OSError("report: the picture could not be encoded as WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()


def write_report(
    path: Path,
    results: Sequence[ClipResult],
    galleries: Sequence[Gallery],
    facts: Mapping[str, Any],
    label: str,
    reference: str,
) -> None:
    """Write the report; `facts` are those of `metrics.json`, `label` is what the output is called."""
    output = results[0].output
    stages = list(results[0].stages)
    data = {
        "name": facts["name"],
        "label": label,
        "model": facts["model"],
        "protocol": facts["protocol"],
        "device": facts["device"],
        "written": f"DAVSR {__version__}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "baseline": BASELINE,
        "output": output,
        "stages": stages,
        "facts": _headline(results, facts),
        "curves": CURVES,
        "clips": [_clip(result, gallery) for result, gallery in zip(results, galleries, strict=True)],
        "tables": {
            "clips": clip_rows(results, label) if any(r.measured for r in results) else _plain_rows(results),
            "stages": stage_rows(results),
            "published": published_rows() if reference == "reds4" else None,
        },
    }
    # What a name holds must not end the script element that holds the data, nor begin a comment or another one in it.
    text = json.dumps(data).replace("<", "\\u003c")
    write_text(path, TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", text))


def _headline(results: Sequence[ClipResult], facts: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    frames, seconds = sum(r.hr[0] for r in results), sum(r.seconds for r in results)
    lines = []
    output = results[0].output
    if any(r.measured for r in results):
        psnr, base = (mean(results, stage, "psnr") for stage in (output, BASELINE))
        gain = 0.0 if psnr == base else psnr - base  # both infinite: equal to the truth
        lines += [
            ("over bicubic + linear", f"{gain:+.2f} dB", True),
            ("PSNR", f"{mean(results, output, 'psnr'):.2f} dB", False),
            ("SSIM", f"{mean(results, output, 'ssim'):.4f}", False),
        ]
    lines.append(("clips, HR frames", f"{len(results)}, {frames}", False))
    lines.append(("HR frames a second", f"{frames / max(seconds, 1e-9):.2f}", False))
    lines.append(("peak memory", f"{facts['peak_memory_gib']:.2f} GiB", False))
    return lines


def _clip(result: ClipResult, gallery: Gallery) -> dict[str, Any]:
    shown = [INPUT, BASELINE, result.output, TRUTH]
    curves = {
        metric: {
            name: [None if math.isnan(v) else v if math.isfinite(v) else "inf" for v in getattr(scores, metric)]
            for name, scores in result.stages.items()
            if getattr(scores, metric) and (metric, name) != ("tof", TRUTH)  # which is 0
        }
        for metric, *_ in CURVES
    }
    return {
        "name": result.name,
        "frames": result.hr[0],
        "row": gallery.row,
        "shots": [
            {"frame": p, "images": images, "psnr": {name: values[p] for name, values in curves["psnr"].items()}}
            for p, images in sorted(gallery.images.items())
        ],
        "slices": gallery.slices(shown),
        "curves": curves,
    }


def _plain_rows(results: Sequence[ClipResult]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("clip", "LR", "HR", "rms y - A x")]
    for r in results:
        (t, h, w), (T, H, W) = r.lr, r.hr
        rows.append((r.name, f"{t} x {w}x{h}", f"{T} x {W}x{H}", f"{r.mean(r.output, 'residual'):.5f}"))
    return rows
