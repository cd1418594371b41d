"""PNM: of 10 and 12 bits too, which OpenCV does not bring to full scale."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_LONGEST_HEADER = 4096  # bytes, comments included
_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
_SIZE = re.compile(rb"P[1-6]" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,10})\s")
_SCALED = re.compile(rb"P([2356])" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,5})\s")


def pnm_size(data: bytes) -> tuple[int, int] | None:
    """(h, w) that the header states."""
    match = _SIZE.match(data[:_LONGEST_HEADER])
    return (int(match[2]), int(match[1])) if match else None


def pnm_fault(data: bytes) -> str:
    """Why a PNM is no frame; empty: nothing is known against it."""
    match = _SCALED.match(data[:_LONGEST_HEADER])
    if match and match[1] in b"23" and int(match[4]) != 255:
        return f"white must be 255 in a PNM that is text, got {int(match[4])}"
    return ""


def read_pnm(data: bytes) -> npt.NDArray[np.uint8] | None:
    """A PGM or PPM of bytes (P5, P6) as uint8 RGB [h, w, 3]; None of everything else, and of one that is cut."""
    match = _SCALED.match(data[:_LONGEST_HEADER])
    if match is None or match[1] not in b"56" or not 0 < (white := int(match[4])) < 65536:
        return None
    height, width, channels = int(match[3]), int(match[2]), 3 if match[1] == b"6" else 1
    kind = np.dtype(">u2" if white > 255 else np.uint8)
    if len(data) < match.end() + height * width * channels * kind.itemsize:
        return None
    samples = np.frombuffer(data, kind, height * width * channels, match.end()).reshape(height, width, channels)
    if white != 255:
        samples = np.rint(np.minimum(samples, white) * np.float32(255 / white)).astype(np.uint8)
    return np.array(np.broadcast_to(samples, (height, width, 3)))
