"""Frames in LMDB as lossless tiles, so that a crop decodes only what it touches.

A tile is TILE x TILE pixels of one frame: each row minus the row above it (modulo 256), deflated. Of the codecs
measured (docs/data.md) this one decodes fastest, at about the size of a PNG. A frame is one value,

    (h, w, offset of each tile, end)  uint32 little-endian     followed by the zlib streams of its tiles, row by row,

and LMDB maps values into memory, so that tiles which are not asked for are never read from the disk. The checksum that
zlib keeps for each tile finds damage. The list of clips is written in the last transaction: a store without it is
unfinished.
"""

from __future__ import annotations

import json
import threading
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from davsr.data.frames import require_frame_size, require_inside
from davsr.data.lmdb_pages import DamagedPagesError, check_pages
from davsr.errors import InputError
from davsr.guards.limits import require_below
from davsr.settings.yaml_text import shown

TILE = 128
FORMAT = "davsr-frames-1"
_LIST = b"list"  # key of the list of clips; frames have the keys frame/<clip>/<index>
_BATCH = 64 << 20  # bytes that are written in one transaction
_MAP = 1 << 28  # bytes of address space that a new store begins with; doubled when they are full
# Film-like tiles deflate best by matches, noisy ones by Huffman codes alone (13 % smaller, 8 % faster to decode).
_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY)


def encode_frame(frame: np.ndarray) -> bytes:
    """The value of a frame, uint8 [h, w, 3]."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"encode_frame: frame must be uint8 [h, w, 3], got {frame.dtype} {list(frame.shape)}")
    h, w = frame.shape[:2]
    difference = frame.copy()
    difference[1:] -= frame[:-1]
    difference[::TILE] = frame[::TILE]  # the first row of a tile stands for itself
    tiles = [
        _deflate(difference[y : y + TILE, x : x + TILE].tobytes()) for y in range(0, h, TILE) for x in range(0, w, TILE)
    ]
    ends = np.cumsum([4 * (len(tiles) + 3)] + [len(tile) for tile in tiles])
    return np.array([h, w, *ends], "<u4").tobytes() + b"".join(tiles)


def _deflate(data: bytes) -> bytes:
    best = b""
    for strategy in _STRATEGIES:
        compressor = zlib.compressobj(1, zlib.DEFLATED, 15, 9, strategy)
        stream = compressor.compress(data) + compressor.flush()
        if not best or len(stream) < len(best):
            best = stream
    return best


def frame_size(value: bytes | memoryview) -> tuple[int, int]:
    """(h, w) of an encoded frame."""
    h, w = np.frombuffer(value, "<u4", count=2).tolist()
    return h, w


def decode_crop(value: bytes | memoryview, top: int, left: int, height: int, width: int, out: np.ndarray) -> None:
    """Decode rows top.. and columns left.. of an encoded frame into out, uint8 [height, width, 3].

    Raises:
        zlib.error, ValueError: when the value is damaged.
    """
    h, w = frame_size(value)
    if not (top + height <= h and left + width <= w):
        raise ValueError(f"the frame is {w}x{h}")
    across, down = -(-w // TILE), -(-h // TILE)
    offsets = np.frombuffer(value, "<u4", count=across * down + 1, offset=8).tolist()
    for row in range(top // TILE, -(-(top + height) // TILE)):
        for column in range(left // TILE, -(-(left + width) // TILE)):
            y, x = row * TILE, column * TILE
            shape = (min(TILE, h - y), min(TILE, w - x), 3)
            i = row * across + column
            data = _inflate(value[offsets[i] : offsets[i + 1]], shape[0] * shape[1] * 3)
            first, last = max(top - y, 0), min(top + height - y, shape[0])
            start, stop = max(left - x, 0), min(left + width - x, shape[1])
            tile = np.frombuffer(data, np.uint8).reshape(shape)[:last, start:stop]
            rows = np.add.accumulate(tile, axis=0, dtype=np.uint8)
            out[y + first - top : y + last - top, x + start - left : x + stop - left] = rows[first:]


def _inflate(stream: bytes | memoryview, size: int) -> bytes:
    """Exactly `size` bytes: a stream that would inflate to more is not followed there."""
    inflater = zlib.decompressobj()
    data = inflater.decompress(stream, size)
    # The stream's end and checksum come after the last byte; nothing may come before them.
    if len(data) < size or inflater.decompress(inflater.unconsumed_tail, 1) or not inflater.eof:
        raise ValueError(f"a tile must hold {size} bytes")
    return data


@dataclass(frozen=True)
class Entry:
    """What the list of clips says about one of them."""

    name: str
    frames: int
    height: int
    width: int
    rate: str | None = None  # frames per second, such as 24000/1001


def is_store(path: Path) -> bool:
    """Whether a path is an LMDB folder."""
    return (path / "data.mdb").is_file()


class Store:
    """A finished LMDB of frames, opened when first read; objects may be copied to other processes.

    Raises:
        InputError: naming the path, when lmdb is not installed or the store is missing, unfinished or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not is_store(self.path):
            raise InputError(f"LMDB {path} does not exist")
        self._environment: _Environment | None = None
        listed = self.get(_LIST)
        if listed is None:
            raise InputError(f"LMDB {path} is unfinished: run the `davsr prepare lmdb` that began it once more")
        self.entries = _entries(bytes(listed), self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}

    def clips(self) -> list[StoredClip]:
        """The clips of the store."""
        return [StoredClip(self, entry) for entry in self.entries.values()]

    def get(self, key: bytes) -> bytes | memoryview | None:
        """The value of a key, mapped memory: it stays valid as long as the store is open (nothing writes to it)."""
        if self._environment is None:
            self._environment = _open(self.path)
        lmdb = _lmdb()
        try:
            return self._environment.get(key)
        except lmdb.Error as error:
            raise InputError(f"LMDB {self.path} is damaged: {error}") from None

    def frame(self, name: str, index: int) -> bytes | memoryview:
        """A frame as it is encoded; InputError where it is missing."""
        value = self.get(_frame_key(name, index))
        if value is None:
            raise InputError(f"LMDB {self.path} is damaged: frame {index} of clip {name} is missing")
        return value


class StoredClip:
    """A clip in an LMDB (see `davsr.data.clips.Clip`)."""

    def __init__(self, store: Store, entry: Entry) -> None:
        self.store = store
        self.name = entry.name
        self.path = store.path
        self._entry = entry

    def __len__(self) -> int:
        return self._entry.frames

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self._entry.height, self._entry.width

    @property
    def rate(self) -> Fraction | None:
        """Frames per second where the store knows them."""
        return Fraction(self._entry.rate) if self._entry.rate else None

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        return self.crop(range(len(self))[start:stop:step], 0, 0, *self.size)

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        require_inside(self.size, top, left, height, width)
        out = np.empty((len(indices), height, width, 3), np.uint8)
        for n, i in enumerate(indices):
            value = self.store.frame(self.name, range(len(self))[i])
            try:
                decode_crop(value, top, left, height, width, out[n])
            except (zlib.error, ValueError) as error:
                raise InputError(
                    f"LMDB {self.store.path} is damaged: frame {i} of clip {self.name} ({error})"
                ) from None
        return out

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Raise InputError unless the frames are there with the size of the clip."""
        for i in range(len(self))[start:stop]:
            value = self.store.frame(self.name, i)
            if len(value) < 8 or frame_size(value) != self.size:
                raise InputError(f"LMDB {self.store.path} is damaged: frame {i} of clip {self.name} has another size")


class StoreWriter:
    """Writes frames in transactions: after a crash the store holds what was committed, and is written on from there.

    Use as a context manager; without `finish` the store stays unfinished, and `Store` refuses it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        lmdb = _lmdb()
        try:
            self._environment = lmdb.open(str(self.path), map_size=_MAP, readahead=False, meminit=False)
        except lmdb.Error as error:
            raise InputError(f"LMDB {path} cannot be written: {error}") from None
        self._pending: dict[bytes, bytes] = {}
        self._bytes = 0

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()

    def missing(self, name: str, frames: int) -> list[int]:
        """The indices of a clip that are still to be written."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            return [i for i in range(frames) if not cursor.set_key(_frame_key(name, i))]

    def put(self, name: str, index: int, value: bytes) -> None:
        """Add an encoded frame; it is on the disk after the next `commit`."""
        self._pending[_frame_key(name, index)] = value
        self._bytes += len(value)
        if self._bytes >= _BATCH:
            self.commit()

    def commit(self) -> None:
        """Write what is pending, all or nothing.

        Raises:
            InputError: naming the path, when the disk is full.
        """
        lmdb = _lmdb()
        while self._pending:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending.items():
                        transaction.put(key, value)
                self._pending, self._bytes = {}, 0
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error as error:
                raise InputError(f"LMDB {self.path} cannot be written: {error}") from None

    def finish(self, entries: Sequence[Entry]) -> None:
        """Write the list of clips: from here on the store is one."""
        self.commit()
        self._pending[_LIST] = json.dumps({"format": FORMAT, "clips": [asdict(entry) for entry in entries]}).encode()
        self.commit()


class _Environment:
    """An LMDB opened for reading, with one read transaction that lives as long.

    Read-only and without a lock file it is nothing but a memory map, so a forked process may go on using it.
    """

    def __init__(self, path: Path) -> None:
        lmdb = _lmdb()
        try:
            # Following a wrong number would end the process: a signal, not an error.
            check_pages(path / "data.mdb")
        except (DamagedPagesError, OSError) as error:
            raise InputError(f"LMDB {path} is damaged: {error}") from None
        try:
            self.environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False)
        except lmdb.Error as error:
            raise InputError(f"LMDB {path} cannot be opened: {error}") from None
        self._transaction = self.environment.begin(buffers=True)
        self._lock = threading.Lock()  # a transaction serves one thread at a time

    def get(self, key: bytes) -> Any:
        with self._lock:
            return self._transaction.get(key)


# LMDB allows a file to be opened once per process, so stores of the same file share what is open.
_OPEN: weakref.WeakValueDictionary[tuple[int, int], _Environment] = weakref.WeakValueDictionary()


def _open(path: Path) -> _Environment:
    facts = (path / "data.mdb").stat()
    key = facts.st_dev, facts.st_ino  # of the file: another one may have taken its place
    environment = _OPEN.get(key)
    if environment is None:
        environment = _OPEN[key] = _Environment(path)
    return environment


def _entries(listed: bytes, path: Path) -> dict[str, Entry]:
    """The list of clips by name.

    Raises:
        InputError: it is damaged, claims what no clip has, or names a clip twice.
    """
    try:
        content = json.loads(listed)
        if content.get("format") != FORMAT:
            raise InputError(f"LMDB {path} must be of the format {FORMAT}, got {shown(content.get('format'))}")
        entries = [Entry(**entry) for entry in content["clips"]]
        rates = [None if entry.rate is None else Fraction(entry.rate) for entry in entries]
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ZeroDivisionError):
        raise InputError(f"LMDB {path} is damaged: its list of clips cannot be read") from None
    found: dict[str, Entry] = {}
    for entry, rate in zip(entries, rates, strict=True):
        sizes = (entry.frames, entry.height, entry.width)
        if not isinstance(entry.name, str) or any(type(n) is not int or n < 1 for n in sizes) or (rate or 1) <= 0:
            raise InputError(f"LMDB {path} is damaged: its list claims {shown(entry.name)} of {shown(sizes)}")
        require_below("CLIP_FRAMES", entry.frames, f"LMDB {path}: clip {entry.name} claims")
        require_frame_size((entry.height, entry.width), f"LMDB {path}: clip {entry.name}")
        if entry.name in found:
            raise InputError(f"LMDB {path} is damaged: it lists clip {entry.name} twice")
        found[entry.name] = entry
    return found


def _frame_key(name: str, index: int) -> bytes:
    return f"frame/{name}/{index:08d}".encode()


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError:
        raise InputError("reading and writing LMDB needs the package lmdb: pip install 'davsr[lmdb]'") from None
    return lmdb
