"""What images claim in their headers, known before a decoder takes memory for it: their sizes, and what they are."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO

from davsr.data.pnm import pnm_fault, pnm_size
from davsr.data.tiff_header import tiff_fault, tiff_has_alpha, tiff_size

Size = tuple[int, int]  # (h, w)

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II", b"MM")
_PNG_ALPHA = (4, 6)  # colour types of PNG with an alpha channel
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # of JPEG: start of frame, of any coding
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # of JPEG: without a length
_OTHERS = {  # signatures of formats that are not read: more than a display shows, or no picture of a camera
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"PF": "PFM",
    b"Pf": "PFM",
    b"P7": "PAM",
    b"SDPX": "DPX",
    b"XPDS": "DPX",
    b"GIF8": "GIF",
    b"DDS ": "DDS",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
}


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
    """(h, w) of a PNG that has no EXIF, which may turn it, no transparency and no motion; None of everything else."""
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
        if kind in (b"eXIf", b"tRNS", b"acTL"):
            return None
        position += 12 + length
    return None


def header_has_alpha(data: bytes) -> bool:
    """Whether an encoded image may have transparent pixels: of a PNG, WebP, TIFF or BMP, which has room for them."""
    if data.startswith(_PNG):
        return data[25] in _PNG_ALPHA or b"tRNS" in _before_samples(data)
    if data.startswith(_TIFF):
        return tiff_has_alpha(data)
    if data.startswith(b"BM"):
        return struct.unpack_from("<I", data, 14)[0] > 12 and struct.unpack_from("<H", data, 28)[0] == 32
    if data[12:16] == b"VP8X":
        return bool(data[20] & 16)
    return data[12:16] == b"VP8L" and bool(data[24] & 16)


def header_fault(data: bytes) -> str:
    """Why an encoded image is no frame, of what its header says; empty: nothing is known against it."""
    other = next((name for signature, name in _OTHERS.items() if data.startswith(signature)), None)
    if data[4:8] == b"ftyp":
        other = {b"avif": "AVIF", b"avis": "AVIF"}.get(data[8:12], "HEIF or a video")
    if other:
        return f"it must be PNG, JPEG, BMP, WebP, TIFF or PNM, got {other}"
    if data.startswith(_TIFF):
        try:
            return tiff_fault(data)
        except struct.error:
            return ""
    if (data.startswith(_PNG) and b"acTL" in _before_samples(data)) or (
        data[12:16] == b"VP8X" and data[20:21] and data[20] & 2
    ):
        return "it must hold one picture, got an animation"
    return pnm_fault(data)


def _before_samples(png: bytes) -> bytes:
    return png[: png.find(b"IDAT")]


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


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    _PNG: _png,
    b"\xff\xd8": _jpeg,
    b"BM": _bmp,
    b"RIFF": _webp,
    b"II": tiff_size,
    b"MM": tiff_size,
    **{b"P%d" % n: pnm_size for n in range(1, 7)},
}
