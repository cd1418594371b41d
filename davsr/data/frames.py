"""Frames as image files: reading, writing, and a folder of them as a clip."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from davsr.data.image_header import header_size
from davsr.errors import InputError
from davsr.limits import require_below
from davsr.pixels import eight_bits

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_PNG_HEADER = struct.Struct(">8s4x4sII")  # signature, length of the first chunk, its name, width, height


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as uint8 RGB [h, w, 3].

    Grey becomes three equal channels, 16-bit is rounded to 8, EXIF orientation is applied, transparency is ignored.

    Raises:
        InputError: naming the file, when it is missing or cannot be decoded.
    """
    try:  # through memory: cv2.imread cannot open every path and only warns about a missing file
        require_below("IMAGE_BYTES", Path(path).stat().st_size, f"frame {path} has")
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"frame {path} cannot be read: {error.strerror}") from None
    claimed = header_size(encoded.tobytes())
    image = None
    if claimed is not None:
        require_frame_size(claimed, f"frame {path}")
        try:
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        except (cv2.error, MemoryError):  # a side beyond what OpenCV takes, tables that contradict each other
            image = None
    if image is None:
        raise InputError(f"frame {path} cannot be read: it is not an image, or it is damaged")
    if image.dtype == np.uint16:
        image = eight_bits(image)
    if image.dtype != np.uint8:
        raise InputError(f"frame {path} cannot be read: samples must be 8 or 16 bits wide, got {image.dtype}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # 16 times faster than copying a reversed view


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write a uint8 RGB image [h, w, 3] in the format of the suffix.

    Raises:
        OSError: the disk is full, or the path cannot be written.
    """
    path = Path(path)
    # Through memory: cv2.imwrite dies of names that are not UTF-8, and reports a full disk as any other failure.
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"image {path} could not be encoded")
    path.write_bytes(encoded.data)


def image_size(path: str | Path) -> tuple[int, int]:
    """(h, w) of an image file; from the header alone for PNG."""
    try:
        with Path(path).open("rb") as file:
            header = file.read(_PNG_HEADER.size)
    except OSError as error:
        raise InputError(f"frame {path} cannot be read: {error.strerror}") from None
    if len(header) == _PNG_HEADER.size:
        signature, chunk, width, height = _PNG_HEADER.unpack(header)
        if signature == b"\x89PNG\r\n\x1a\n" and chunk == b"IHDR":
            require_frame_size((height, width), f"frame {path}")
            return height, width
    height, width = read_image(path).shape[:2]
    return height, width


def require_frame_size(size: tuple[int, int], what: str) -> None:
    """Raise InputError unless (h, w) is that of a frame, and of no more pixels than are taken (`davsr.limits`).

    Args:
        what: whose size it is, such as `frame x.png`.
    """
    if min(size) < 1:
        raise InputError(f"{what} cannot be read: it claims to be {size[1]}x{size[0]}")
    require_below("FRAME_PIXELS", size[0] * size[1], f"{what}, {size[1]}x{size[0]}, has")


def list_frames(folder: str | Path) -> list[Path]:
    """The image files of a folder, numbers in their names in numerical order.

    Raises:
        InputError: when the folder is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist")
    return sorted((p for p in folder.iterdir() if is_image(p)), key=natural_key)


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which frame2 comes before frame10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts)


def require_inside(size: tuple[int, int], top: int, left: int, height: int, width: int) -> None:
    """Raise ValueError unless a crop lies within frames of `size` (h, w)."""
    h, w = size
    if not (0 <= top <= top + height <= h and 0 <= left <= left + width <= w):
        raise ValueError(f"crop: must lie within {w}x{h}, got rows {top}+{height}, columns {left}+{width}")


def crop_frames(clip: Any, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
    """`Clip.crop` for a clip that cannot decode less than a frame."""
    require_inside(clip.size, top, left, height, width)
    out = np.empty((len(indices), height, width, 3), np.uint8)
    for n, i in enumerate(range(len(clip))[i] for i in indices):
        out[n] = clip.frames(i, i + 1)[0, top : top + height, left : left + width]
    return out


class FrameFolder:
    """A folder of image files as a clip (see `davsr.data.clips.Clip`).

    Args:
        folder: its image files, in natural order, are the frames.

    Raises:
        InputError: when the folder is missing or holds no image.
    """

    rate: Fraction | None = None  # image files carry no time

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        # The name it is called by: REDS clips are links whose targets have other numbers. `.` and `..` name nothing.
        self.name = (self.path.resolve() if self.path.name in ("", "..") else self.path).name
        self.files = list_frames(folder)
        if not self.files:
            raise InputError(f"folder {folder} holds no frames ({' '.join(sorted(IMAGE_SUFFIXES))})")
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the first frame."""
        if self._size is None:
            self._size = image_size(self.files[0])
        return self._size

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        h, w = self.size
        indices = range(len(self.files))[start:stop:step]
        out = np.empty((len(indices), h, w, 3), np.uint8)
        for n, i in enumerate(indices):
            image = read_image(self.files[i])
            self._require_size(i, image.shape[:2])
            out[n] = image
        return out

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        return crop_frames(self, indices, top, left, height, width)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Raise InputError unless all frames have one size: work that takes long asks before it starts."""
        for i in range(len(self.files))[start:stop]:
            self._require_size(i, image_size(self.files[i]))

    def _require_size(self, i: int, size: tuple[int, ...]) -> None:
        if tuple(size) != self.size:
            raise InputError(
                f"frames of {self.path} must have one size: {self.files[0].name} is {_by(self.size)}, "
                f"{self.files[i].name} is {_by(size)}"
            )


def _by(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
