"""Learning curves as one picture, drawn from the run's `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np

from davsr.data.frames import write_image
from davsr.guards.limits import require_below

_PANEL = (300, 460)  # h, w
_MARGIN = (34, 64, 30, 14)  # top, left, bottom, right
_COLOURS = ((31, 119, 180), (214, 90, 20), (44, 140, 60), (180, 40, 60), (120, 90, 180), (110, 110, 110))
_FAR = 10_000  # rows beyond the panel at which an outlier is drawn: OpenCV counts in 32 bits
_GREY, _INK = (225, 225, 225), (60, 60, 60)
# title, logarithmic (where nothing is negative), names of the records (a trailing _ stands for any number)
_PANELS = (
    ("loss", True, ("loss", "validation_loss")),
    ("validation PSNR, dB", False, ("psnr", "psnr_bicubic_linear")),
    ("end-point error, px", True, ("epe", "epe_visible")),
    ("rate", False, ("rate",)),
    ("gradient norm", True, ("grad_norm",)),
    ("alpha_k", True, ("alpha_",)),
    ("beta_k", False, ("beta_",)),
    ("offset, px", False, ("offset",)),
    ("seconds a step, waiting for data", False, ("step_seconds", "wait_seconds")),
)


def draw_curves(records: Path, picture: Path) -> None:
    """Draw every quantity that `records` (JSON lines with a `step`) holds into `picture`."""
    lines = read_figures(records)
    panels = []
    for title, logarithmic, names in _PANELS:
        present = sorted({key for line in lines for key in line if _matches(key, names)})
        logarithmic = logarithmic and not any(line.get(name, 0) < 0 for line in lines for name in present)
        curves = {
            name: [(line["step"], line[name]) for line in lines if _drawable(line.get(name), logarithmic)]
            for name in present
        }
        curves = {name: points for name, points in curves.items() if len(points) > 1}
        if curves:
            panels.append(_panel(title, curves, logarithmic))
    if not panels:
        return
    columns = min(3, len(panels))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    write_image(picture, np.vstack(rows))


def read_figures(file: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`, each a step and its figures.

    Lines that a killed process or a fault of the disk has damaged are skipped.
    """
    require_below("RECORD_BYTES", file.stat().st_size, f"{file} has")
    found = []
    for line in file.read_bytes().splitlines():
        try:
            figures = json.loads(line)
            if isinstance(figures, dict) and type(figures.get("step")) is int and 0 <= figures["step"] < 2**53:
                found.append({name: value for name, value in figures.items() if _is_figure(value)})
        except (ValueError, RecursionError):
            continue
    return found


def _is_figure(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (value != value or abs(value) <= 1e300)


def _matches(key: str, names: tuple[str, ...]) -> bool:
    return any(key == n or (n.endswith("_") and key.startswith(n) and key[len(n) :].isdigit()) for n in names)


def _drawable(value: object, logarithmic: bool) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and (value > 0 or not logarithmic)


def _panel(title: str, curves: dict[str, list[tuple[float, float]]], logarithmic: bool) -> np.ndarray:
    height, width = _PANEL
    top, left, bottom, right = _MARGIN
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    xs = np.array([x for points in curves.values() for x, _ in points], dtype=float)
    ys = np.array([y for points in curves.values() for _, y in points], dtype=float)
    ys = np.log10(ys) if logarithmic else ys
    x_low, x_high = xs.min(), max(xs.max(), xs.min() + 1)
    y_low, y_high = _bounds(ys, logarithmic)

    def place(x: float, y: float) -> tuple[int, int]:
        column = left + (x - x_low) / (x_high - x_low) * (width - left - right)
        row = height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)
        return round(column), round(min(max(row, -_FAR), _FAR))

    ticks = np.linspace(y_low, y_high, 5)
    for y, text in zip(ticks, tick_labels(10**ticks if logarithmic else ticks), strict=True):
        cv2.line(image, place(x_low, y), place(x_high, y), _GREY, 1)
        _write(image, text, (4, place(x_low, y)[1] + 4))
    for x in np.linspace(x_low, x_high, 4):
        text = f"{x / 1000:.4g}k" if x_high >= 10_000 else f"{x:.0f}"
        _write(image, text, (min(place(x, y_low)[0] - 8, width - 8 * len(text)), height - 10))
    column = left + 8 * len(title) + 20
    _write(image, title, (left, 20))
    for number, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = [place(x, math.log10(y) if logarithmic else y) for x, y in points]
        cv2.polylines(image, [np.array(line, dtype=np.int32)], False, colour, 1, cv2.LINE_AA)
        if len(curves) > 1:
            _write(image, name, (column, 20), colour)
            column += 7 * len(name) + 14
    return image


def tick_labels(values: np.ndarray) -> list[str]:
    """Numbers of an axis with three digits, or as many as tell them apart; at most six."""
    for digits in range(3, 7):
        labels = [f"{value:.{digits}g}" for value in values]
        if len(set(labels)) == len(labels):
            break
    return labels


def _bounds(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    """The range of the axis; a single outlier at the start does not flatten the rest."""
    low, high = float(values.min()), float(values.max())
    if not logarithmic and len(values) > 20:
        low, high = float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _write(image: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int] = _INK) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)
