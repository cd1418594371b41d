"""What the header of a TIFF says of its first picture, and whether that is of a kind which is decoded rightly."""

from __future__ import annotations

import struct

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COLOURS, _SAMPLES = 254, 256, 257, 258, 262, 277  # tags
_LAYOUT, _EXTRA, _FORMAT = 284, 338, 339
_DEFAULTS = {_SUBFILE: 0, _BITS: 1, _COLOURS: 1, _SAMPLES: 1, _LAYOUT: 1, _FORMAT: 1}
_TAGS = {_WIDTH, _HEIGHT, _EXTRA, *_DEFAULTS}
_NUMBERS = {3: "H", 4: "I", 16: "Q"}  # field types
_GREY, _RGB = 1, 2  # values of _COLOURS
_KINDS = {0: "white-is-zero grey", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
_NUMBER_KINDS = {2: "signed", 3: "floating-point", 4: "undefined", 5: "complex", 6: "complex"}  # of _FORMAT
_DEPTHS = (1, 8, 10, 12, 14, 16)  # bits of a sample that OpenCV reads
_COLOURS_IN_8_BITS = (0, _GREY, _RGB, 3, 5, 6)
_NOT_A_PAGE = 1 | 4  # bits of _SUBFILE: a thumbnail, a mask
_PLANES = 2  # value of _LAYOUT
_UNSTATED = 0  # value of _EXTRA: a further sample that is not said to be transparency
_MOST_PAGES = 16  # that are looked at


def tiff_size(data: bytes) -> tuple[int, int] | None:
    """(h, w) of the first picture."""
    first = _pages(data, 1)[0]
    return (first[_HEIGHT], first[_WIDTH]) if {_HEIGHT, _WIDTH} <= first.keys() else None


def tiff_has_alpha(data: bytes) -> bool:
    """Whether the first picture has an alpha channel; not every program states what a further sample is."""
    first = _pages(data, 1)[0]
    return (first[_COLOURS], first[_SAMPLES]) in ((_RGB, 4), (_GREY, 2), (0, 2)) and first.get(_EXTRA) != _UNSTATED


def tiff_fault(data: bytes) -> str:
    """Why a TIFF is no frame, though OpenCV may read something out of it; empty: it is one."""
    first, *others = _pages(data, _MOST_PAGES)
    size = first.get(_HEIGHT), first.get(_WIDTH)
    if any((page.get(_HEIGHT), page.get(_WIDTH)) == size and not page[_SUBFILE] & _NOT_A_PAGE for page in others):
        return "it must hold one picture, got several"
    bits, colours, samples = first[_BITS], first[_COLOURS], first[_SAMPLES]
    if first[_FORMAT] != 1 or bits not in _DEPTHS:
        kind = _NUMBER_KINDS.get(first[_FORMAT], "whole")
        return f"samples must be unsigned, of 8 or 16 bits, got {kind} ones of {bits} bits"
    if colours not in (_COLOURS_IN_8_BITS if bits <= 8 else (_GREY, _RGB)):
        return f"samples of {bits} bits must be grey or RGB, got {_KINDS.get(colours, f'colours of kind {colours}')}"
    if bits > 8 and samples > 1 and first[_LAYOUT] == _PLANES:
        return f"samples of {bits} bits must lie pixel by pixel, got a plane for each colour"
    return ""


def _pages(data: bytes, most: int) -> list[dict[int, int]]:
    """The fields of the first pictures that are asked for here, by their tags; of one with several values the first.

    Of a field that is there twice the larger one counts.

    Raises:
        struct.error: the file ends within its header.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    place, head, entry = ("Q", 8, 20) if big else ("I", 2, 12)
    (at,) = struct.unpack_from(order + place, data, 8 if big else 4)
    pages: list[dict[int, int]] = []
    while (at or not pages) and len(pages) < most:
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        count = min(count, (len(data) - at - head) // entry)
        found: dict[int, int] = {}
        for n in range(count):
            tag, value = _field(data, at + head + n * entry, order, place)
            if value is not None:
                found[tag] = max(value, found.get(tag, 0))
        pages.append({**_DEFAULTS, **found})
        end = at + head + count * entry
        at = struct.unpack_from(order + place, data, end)[0] if most > 1 and end + entry <= len(data) else 0
    return pages


def _field(data: bytes, at: int, order: str, place: str) -> tuple[int, int | None]:
    """Tag and first value of an entry; None where it is not asked for."""
    tag, kind, count = struct.unpack_from(order + "HH" + place, data, at)
    if tag not in _TAGS or kind not in _NUMBERS:
        return tag, None
    room = struct.calcsize(order + place)
    at += 4 + room
    if count * struct.calcsize(_NUMBERS[kind]) > room:  # the values lie elsewhere
        (at,) = struct.unpack_from(order + place, data, at)
    return tag, struct.unpack_from(order + _NUMBERS[kind], data, at)[0]
