"""Sizes of images by their headers: what a file claims is known before a decoder takes memory for it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import BinaryIO

Size = tuple[int, int]  # (h, w)

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_ALPHA = (4, 6)  # colour types of PNG with an alpha channel
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # of JPEG: start of frame, of any coding
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # of JPEG: without a length
_WIDTH, _HEIGHT, _COLOURS, _SAMPLES, _FOURTH = 256, 257, 262, 277, 338  # tags of TIFF
_RGB = 2  # value of _COLOURS
_NO_ALPHA = 0  # value of _FOURTH, the kind of a fourth sample, which not every program states
_NUMBERS = {3: "H", 4: "I", 16: "Q"}  # field types of TIFF
_LONGEST_HEADER = 4096  # bytes of a PNM header, comments included


def header_size(data: bytes) -> Size | None:
    """(h, w) that an encoded image claims.

    None where it is none of PNG, JPEG, BMP, WebP, TIFF, PNM, or cut in its header.

    A PNG is followed to its end: decoders take memory for every chunk that it claims.
    """
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                return read(data)
            except (struct.error, IndexError, ValueError):
                return None
    return None


def plain_png_size(file: BinaryIO) -> Size | None:
    """(h, w) of a PNG that has neither EXIF, which may turn it, nor transparency; None of everything else."""
    head = file.read(len(_PNG) + 18)
    if len(head) < len(_PNG) + 18 or not head.startswith(_PNG) or head[12:16] != b"IHDR":
        return None
    width, height, _, colour = struct.unpack(">IIBB", head[16:26])
    position = len(_PNG)
    while colour not in _PNG_ALPHA:
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:  # cut: whoever reads it says so
            return height, width
        length, kind = struct.unpack(">I4s", chunk)
        if kind == b"IEND":
            return height, width
        if kind in (b"eXIf", b"tRNS"):
            return None
        position += 12 + length
    return None


def header_has_alpha(data: bytes) -> bool:
    """Whether an encoded image has an alpha channel, as far as PNG, WebP and TIFF are concerned."""
    if data.startswith(_PNG):
        return data[25] in _PNG_ALPHA or b"tRNS" in data[: data.find(b"IDAT")]
    if data[:2] in (b"II", b"MM"):
        fields = _tiff_fields("<" if data[:2] == b"II" else ">", data)
        return (fields.get(_COLOURS), fields.get(_SAMPLES)) == (_RGB, 4) and fields.get(_FOURTH) != _NO_ALPHA
    return data.startswith(b"RIFF") and ((data[12:16] == b"VP8X" and bool(data[20] & 16)) or data[12:16] == b"VP8L")


def _png(data: bytes) -> Size | None:
    size: Size | None = None
    position = len(_PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            return None  # cut, or a claim that no file holds
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, position + 8)
            size = height, width
        if kind == b"IEND":
            return size
        position += 12 + length
    return None


def _jpeg(data: bytes) -> Size | None:
    position = 2
    while True:
        while data[position] != 0xFF:  # decoders skip what lies between segments
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in _STANDALONE_MARKERS or marker == 0:
            continue
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return height, width
        if marker in (0xD9, 0xDA):  # the picture's end or its samples, before any size
            return None
        (length,) = struct.unpack_from(">H", data, position)
        position += length


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), width


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return height, width


def _tiff(order: str) -> Callable[[bytes], Size | None]:
    def read(data: bytes) -> Size | None:
        found = _tiff_fields(order, data)
        return (found[_HEIGHT], found[_WIDTH]) if {_HEIGHT, _WIDTH} <= found.keys() else None

    return read


def _tiff_fields(order: str, data: bytes) -> dict[int, int]:
    """The fields of the first image that are asked for here, by their tags; of one that is there twice the larger."""
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    (first,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, first)
    start, entry = first + (8 if big else 2), 20 if big else 12
    found: dict[int, int] = {}
    for n in range(min(count, (len(data) - start) // entry)):
        at = start + n * entry
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag in (_WIDTH, _HEIGHT, _COLOURS, _SAMPLES, _FOURTH) and kind in _NUMBERS:
            (value,) = struct.unpack_from(order + _NUMBERS[kind], data, at + (12 if big else 8))
            found[tag] = max(value, found.get(tag, 0))
    return found


def _pnm(data: bytes) -> Size | None:
    header = re.sub(rb"#[^\n\r]*", b" ", data[2:_LONGEST_HEADER])
    match = re.match(rb"\s+(\d{1,10})\s+(\d{1,10})\s", header)
    return (int(match[2]), int(match[1])) if match else None


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    _PNG: _png,
    b"\xff\xd8": _jpeg,
    b"BM": _bmp,
    b"RIFF": _webp,
    b"II": _tiff("<"),
    b"MM": _tiff(">"),
    **{b"P%d" % n: _pnm for n in range(1, 7)},
}
