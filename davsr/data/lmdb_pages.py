"""The pages of an LMDB, followed before the library is.

It trusts every number in its file, and a wrong one ends the process.

LMDB maps its file into memory and walks from page to page by the numbers that it finds. Here the same walk is made with
every number checked, over all pages of the main database; nothing is read but heads of pages and nodes, so that a store
of 100 000 frames takes a fraction of a second.

Source of the layout: liblmdb's mdb.c (version 0.9 of the format, 64 bits, little-endian).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE = struct.Struct("<QHHHH")  # number, padding, flags, lower and upper end of the free space
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map; at the head of a meta page's content
_DATABASE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, branch, leaf and overflow pages, entries, root
_TAIL = struct.Struct("<QQ")  # last page in use, transaction
_NODE = struct.Struct("<HHHH")  # low and high half of the size of the data, flags, size of the key
_BRANCH, _LEAF, _OVERFLOW, _META_FLAG = 0x01, 0x02, 0x04, 0x08
_BIG = 0x01  # flag of a node whose value lies on pages of its own
_NONE = 2**64 - 1  # the root of an empty database
_DEEPEST = 32  # levels that LMDB's own cursor has room for


class DamagedPagesError(ValueError):
    """A number in the file leads nowhere."""


@dataclass(frozen=True)
class _Tree:
    """The newest state of the store."""

    page_size: int
    pages: int  # in use
    depth: int
    root: int


def check_pages(file: Path) -> None:
    """Walk through the main database of a `data.mdb`.

    Raises:
        DamagedPagesError: what LMDB would follow out of the file, or for ever.
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        if size < _PAGE.size + _META.size + 2 * _DATABASE.size + _TAIL.size:
            raise DamagedPagesError("it is too short to be a store")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            tree = _newest(data, size)
            if tree.root != _NONE:
                _walk(data, tree)


def _newest(data: mmap.mmap, size: int) -> _Tree:
    """Of the two meta pages, both of which must be sound, the one that LMDB takes."""
    found: list[tuple[int, _Tree]] = []
    page_size = 0
    for number in range(2):
        start = number * page_size
        if start + _PAGE.size + _META.size + 2 * _DATABASE.size + _TAIL.size > size:
            raise DamagedPagesError("a meta page lies beyond its end")
        _, _, flags, _, _ = _PAGE.unpack_from(data, start)
        magic, version, _, _ = _META.unpack_from(data, start + _PAGE.size)
        at = start + _PAGE.size + _META.size
        padding, *_ = _DATABASE.unpack_from(data, at)
        _, main_flags, depth, _, _, _, _, root = _DATABASE.unpack_from(data, at + _DATABASE.size)
        last, transaction = _TAIL.unpack_from(data, at + 2 * _DATABASE.size)
        if not flags & _META_FLAG or magic != _MAGIC or version != _VERSION:
            raise DamagedPagesError(f"meta page {number} is none")
        if padding not in (2**n for n in range(9, 17)) or (page_size and padding != page_size):
            raise DamagedPagesError(f"meta page {number} claims pages of {padding} bytes")
        page_size = padding
        if main_flags or depth > _DEEPEST or last < 1 or (last + 1) * page_size > size:
            raise DamagedPagesError(f"meta page {number} claims {last + 1} pages, flags {main_flags}, depth {depth}")
        found.append((transaction, _Tree(page_size, last + 1, depth, root)))
    # With equal transactions LMDB takes the first.
    return found[1][1] if found[1][0] > found[0][0] else found[0][1]


def _walk(data: mmap.mmap, tree: _Tree) -> None:
    seen: set[int] = set()
    waiting = [(tree.root, 1)]
    while waiting:
        number, level = waiting.pop()
        if number in seen:
            raise DamagedPagesError(f"page {number} is reached twice")
        seen.add(number)
        offsets, start = _offsets(data, tree, number, leaf=level == tree.depth)
        for offset in offsets:
            low, high, flags, key = _NODE.unpack_from(data, start + offset)
            if offset + _NODE.size + key > tree.page_size:
                raise DamagedPagesError(f"a key of page {number} lies beyond its end")
            if level < tree.depth:
                waiting.append((low | high << 16 | flags << 32, level + 1))
            else:
                _check_value(data, tree, number, start + offset, (low | high << 16, flags, key))


def _offsets(data: mmap.mmap, tree: _Tree, number: int, leaf: bool) -> tuple[tuple[int, ...], int]:
    """Where the nodes of a page begin, and where it does itself."""
    if not 2 <= number < tree.pages:
        raise DamagedPagesError(f"page {number} of {tree.pages} is referred to")
    start = number * tree.page_size
    own, _, flags, lower, upper = _PAGE.unpack_from(data, start)
    if own != number or flags != (_LEAF if leaf else _BRANCH):
        raise DamagedPagesError(f"page {number} is not the one that is referred to")
    count = (lower - _PAGE.size) // 2
    if lower % 2 or not _PAGE.size <= lower <= upper <= tree.page_size or count < (1 if leaf else 2):
        raise DamagedPagesError(f"page {number} claims {count} nodes")
    offsets = struct.unpack_from(f"<{count}H", data, start + _PAGE.size)
    if any(not upper <= offset <= tree.page_size - _NODE.size or offset % 2 for offset in offsets):
        raise DamagedPagesError(f"a node of page {number} lies outside of it")
    return offsets, start


def _check_value(data: mmap.mmap, tree: _Tree, number: int, node: int, head: tuple[int, int, int]) -> None:
    size, flags, key = head
    begin = node + _NODE.size + key
    if flags not in (0, _BIG):
        raise DamagedPagesError(f"a value of page {number} is of an unknown kind")
    if not flags:
        if begin + size > (number + 1) * tree.page_size:
            raise DamagedPagesError(f"a value of page {number} lies beyond its end")
        return
    if begin + 8 > (number + 1) * tree.page_size:
        raise DamagedPagesError(f"a value of page {number} lies beyond its end")
    (first,) = struct.unpack_from("<Q", data, begin)
    if not 2 <= first < tree.pages:
        raise DamagedPagesError(f"page {first} of {tree.pages} is referred to")
    own, _, kind, low, high = _PAGE.unpack_from(data, first * tree.page_size)
    pages = low | high << 16
    if own != first or kind != _OVERFLOW or first + pages > tree.pages or _PAGE.size + size > pages * tree.page_size:
        raise DamagedPagesError(f"page {first} does not hold the value of {size} bytes that is referred to")
