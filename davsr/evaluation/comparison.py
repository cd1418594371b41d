"""Comparison pictures: a frame, and next to it the same detail of every version, labelled and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

PAPER, INK, FAINT, ACCENT = (252, 252, 250), (28, 30, 34), (122, 126, 134), (214, 69, 34)
GAP, MARGIN = 14, 28


@dataclass(frozen=True)
class Version:
    """One version of a frame."""

    label: str
    image: np.ndarray  # uint8 RGB [H, W, 3]
    note: str = ""  # a measurement, in small print
    best: bool = False


def comparison(
    title: str, versions: Sequence[Version], footer: str = "", box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """A frame with a marked detail on the left; the detail of every version, enlarged, on the right.

    Args:
        title: one line above.
        versions: of one size; the first one marked `best` is shown in full.
        footer: one line below, such as the protocol.
        box: (top, left, height, width) of the detail; default: where the second version and the best differ most.

    Returns:
        uint8 RGB [h, w, 3].
    """
    shown = next((v for v in versions if v.best), versions[-1])
    height, width = shown.image.shape[:2]
    if box is None:
        others = [v for v in versions if v is not shown]
        box = most_different(others[min(1, len(others) - 1)].image, shown.image)
    columns = 2 if len(versions) > 3 else 1
    rows = -(-len(versions) // columns)
    panel = 440  # height of the full frame, pixels; the details share it
    label_height = 30
    full = _resized(shown.image, (panel + (rows - 1) * (label_height + GAP), 0))
    detail_height = (full.shape[0] - (rows - 1) * (label_height + GAP)) // rows
    detail_width = round(detail_height * box[3] / box[2])

    top, left = MARGIN + 44, MARGIN
    canvas_width = left + full.shape[1] + columns * (detail_width + GAP) + MARGIN
    lines = _wrapped(footer, 13, canvas_width - 2 * MARGIN)
    canvas_height = top + full.shape[0] + label_height + 10 + 20 * len(lines) + MARGIN - 8
    canvas = np.empty((canvas_height, canvas_width, 3), np.uint8)
    canvas[:] = PAPER
    write(canvas, title, (MARGIN, MARGIN + 18), 22, weight=600)

    canvas[top : top + full.shape[0], left : left + full.shape[1]] = full
    scale = full.shape[0] / height
    corner = (left + round(box[1] * scale), top + round(box[0] * scale))
    opposite = (left + round((box[1] + box[3]) * scale) - 1, top + round((box[0] + box[2]) * scale) - 1)
    cv2.rectangle(canvas, corner, opposite, (255, 255, 255), 4)
    cv2.rectangle(canvas, corner, opposite, ACCENT, 2)
    _caption(canvas, shown, (left, top + full.shape[0] + 21), full.shape[1], suffix=f", {width}x{height}")

    x0 = left + full.shape[1] + GAP
    for n, version in enumerate(versions):
        row, column = divmod(n, columns)
        y, x = top + row * (detail_height + label_height + GAP), x0 + column * (detail_width + GAP)
        detail = version.image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
        canvas[y : y + detail_height, x : x + detail_width] = _resized(detail, (detail_height, detail_width))
        if version.best:
            cv2.rectangle(canvas, (x, y), (x + detail_width - 1, y + detail_height - 1), ACCENT, 2)
        _caption(canvas, version, (x, y + detail_height + 21), detail_width)
    for n, line in enumerate(lines):
        write(canvas, line, (MARGIN, top + full.shape[0] + label_height + 24 + 20 * n), 13, FAINT)
    return canvas


def most_different(a: np.ndarray, b: np.ndarray, share: float = 0.3) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the square, `share` of the frame's shorter side, in which a and b differ most."""
    height, width = a.shape[:2]
    side = min(max(round(share * min(height, width)), 24), height, width)
    difference = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(axis=2)
    sums = cv2.integral(difference)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(total.argmax()), total.shape)
    return int(top), int(left), side, side


def enlarge_pixels(image: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """An LR frame at HR size with its pixels visible."""
    return image.repeat(scale[0], axis=0).repeat(scale[1], axis=1)


def write(
    canvas: np.ndarray,
    text: str,
    origin: tuple[int, int],  # (x, y) of the baseline's left end
    size: int = 18,  # pixels
    colour: tuple[int, int, int] = INK,
    weight: int = 400,
) -> int:
    """Antialiased text on a canvas, in place; returns its width in pixels."""
    if hasattr(cv2, "FontFace"):  # OpenCV 5 carries a typeface; OpenCV 4 has stroke fonts only
        face = cv2.FontFace("sans")
        cv2.putText(canvas, text, origin, colour, face, size, weight)
        return int(cv2.getTextSize((0, 0), text, (0, 0), face, size, weight)[2])
    ascii_text = text.replace("‖", "||").encode("ascii", "replace").decode()
    scale, thickness = size / 30, 2 if weight > 500 else 1
    cv2.putText(canvas, ascii_text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return int(cv2.getTextSize(ascii_text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)[0][0])


def _fitting(text: str, size: int, width: int) -> int:
    """The largest font size up to `size` at which the text is no wider than `width`."""
    while size > 8 and write(np.empty((1, 1, 3), np.uint8), text, (0, 0), size) > width:
        size -= 1
    return size


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """Lines no wider than `width`, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and write(np.empty((1, 1, 3), np.uint8), longer, (0, 0), size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _caption(canvas: np.ndarray, version: Version, origin: tuple[int, int], width: int, suffix: str = "") -> None:
    label = version.label + suffix
    size = _fitting(f"{label}   {version.note}", 17, width)
    used = write(canvas, label, origin, size, ACCENT if version.best else INK, weight=600 if version.best else 500)
    if version.note:
        write(canvas, version.note, (origin[0] + used + 10, origin[1]), size - 2, FAINT)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (height, width); width 0: in proportion."""
    h, w = image.shape[:2]
    height, width = size[0], size[1] or round(w * size[0] / h)
    if height < h:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
