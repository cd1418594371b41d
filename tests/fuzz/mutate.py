"""Mutations of bytes and of trees, all of them functions of a random generator."""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

# What breaks programs: limits of integers, signs, other formats' beginnings, what YAML and JSON take for special.
TOKENS = (
    b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"../", b"/etc/passwd", b"\x1b[2J", b"%s%n", b"nan", b"-inf",
    b"1e999", b"9" * 40, b"[" * 60, b"{", b"null", b"!!int x", b"!!python/name:os.system", b"&a [*a]", b"\xc3\x28",
    b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"RIFF", b"\n---\n", b": ", b"\r\n", b"IHDR", b"IDAT", b"list", b"frame/", b"-1", b"0",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 16, 255, 10**6, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.0, 0.5, 1e-300, 1e300,
    float("inf"), float("-inf"), float("nan"), "", "a", "..", "../../x", "/", "\0", "\x1b[31m", "é" * 300, "1e999999999",
    "1/0", "auto", "bicubic", "x.npy", [], [1], [1, 2, 3], [[1]], [5, 4, 4], {}, {"a": 1}, {"": ""}, [None], "9" * 5000,
)  # fmt: skip


def mutate_bytes(rng: np.random.Generator, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes: flipped bits, cut ends, holes, repeats, numbers, tokens, pieces of another file."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        kind = int(rng.integers(0, 9))
        at = _position(rng, len(data))
        length = int(rng.integers(1, 1 + min(64, max(len(data), 1))))
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * int(rng.integers(1, 5))
        elif kind == 4:
            token = TOKENS[int(rng.integers(0, len(TOKENS)))]
            data[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
        elif kind == 5:
            data[at : at + length] = rng.bytes(length)
        elif kind == 6:  # a number, as headers and counts have them
            value = int(rng.choice([0, 1, -1, 2**16, 2**31 - 1, -(2**31), int(rng.integers(0, 2**31))]))
            data[at : at + 4] = struct.pack(">i" if rng.random() < 0.5 else "<i", value)
        elif kind == 7 and others:
            other = others[int(rng.integers(0, len(others)))]
            start = _position(rng, len(other))
            data[at:] = other[start:]
        else:
            data[at : at + length] = bytes(length)
    return bytes(data[: 4 * len(content) + 4096])


def _position(rng: np.random.Generator, length: int) -> int:
    """Anywhere, but as often in the first bytes, where headers are."""
    return int(rng.integers(0, 1 + (min(length, 96) if rng.random() < 0.5 else length)))


def mutate_tree(rng: np.random.Generator, tree: Any) -> Any:
    """One to three changes at random places of nested dicts and lists.

    Values, names, parts doubled, dropped, exchanged.
    """
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(tree))
        if not places:
            return VALUES[int(rng.integers(0, len(VALUES)))]
        parent, key = places[int(rng.integers(0, len(places)))]
        kind = int(rng.integers(0, 6))
        if kind <= 2:
            parent[key] = copy.deepcopy(VALUES[int(rng.integers(0, len(VALUES)))])
        elif kind == 3 and isinstance(parent, dict):
            parent[str(VALUES[int(rng.integers(0, len(VALUES)))])[:80]] = parent.pop(key)
        elif kind == 4:
            del parent[key]
        else:
            other, name = places[int(rng.integers(0, len(places)))]
            if name in other if isinstance(other, dict) else name < len(other):
                parent[key] = copy.deepcopy(other[name])
    return tree


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)
