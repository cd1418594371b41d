"""Frames as image files: reading, writing, and a folder of them as a clip."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from davsr.data.image_header import header_fault, header_has_alpha, header_size, plain_png_size
from davsr.data.pnm import read_pnm
from davsr.errors import InputError
from davsr.guards.console import opencv_unheard
from davsr.guards.limits import require_below
from davsr.pixels import eight_bits

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as uint8 RGB [h, w, 3].

    Grey becomes three equal channels, 16-bit is rounded to 8, EXIF orientation is applied.

    Raises:
        InputError: naming the file, when it is missing, cannot be decoded, is of a kind that would be decoded wrongly,
            or has pixels that are not opaque.
    """
    try:  # through memory: cv2.imread cannot open every path and only warns about a missing file
        require_below("IMAGE_BYTES", Path(path).stat().st_size, f"frame {path} has")
        encoded = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"frame {path} cannot be read: {error.strerror}") from None
    fault = header_fault(encoded)
    if fault:
        raise InputError(f"frame {path} cannot be read: {fault}")
    claimed = header_size(encoded)
    if claimed is not None:
        require_frame_size(claimed, f"frame {path}")
    image = read_pnm(encoded)
    if image is not None:
        return image
    image = None if claimed is None else _decoded(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise InputError(f"frame {path} cannot be read: it is not an image, or it is damaged")
    if header_has_alpha(encoded) and _is_transparent(encoded):
        raise InputError(f"frame {path} must have no alpha channel, got pixels that are not opaque")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"frame {path} cannot be read: samples must be 8 or 16 bits wide, got {image.dtype}")
    if image.dtype == np.uint16:
        image = eight_bits(image)
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


def _decoded(encoded: bytes, how: int) -> np.ndarray | None:
    # OpenCV does not take the last number of a text for whole unless something follows it.
    data = np.frombuffer(encoded + b"\n", np.uint8)
    with opencv_unheard():
        try:
            return cv2.imdecode(data, how)
        except (cv2.error, MemoryError):  # a side beyond what OpenCV takes, tables that contradict each other
            return None


def _is_transparent(encoded: bytes) -> bool:
    """Whether an image with an alpha channel has pixels that are not opaque, or that cannot be told to be."""
    image = _decoded(encoded, cv2.IMREAD_UNCHANGED)
    if image is not None and image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3]
    else:  # OpenCV drops that of grey images and of BMP
        try:
            with av.open(io.BytesIO(encoded)) as container:
                alpha = next(container.decode(video=0)).to_ndarray(format="rgba")[..., 3]
        except (av.FFmpegError, ValueError, StopIteration):
            return True
    opaque = eight_bits(alpha) if alpha.dtype == np.uint16 else alpha
    return bool(opaque.min() < 255)


def image_size(path: str | Path) -> tuple[int, int]:
    """(h, w) of an image file, upright; from the headers alone for PNG where they say all.

    Raises:
        InputError: see `read_image`.
    """
    try:
        with Path(path).open("rb") as file:
            size = plain_png_size(file)
    except OSError as error:
        raise InputError(f"frame {path} cannot be read: {error.strerror}") from None
    if size is None:
        height, width = read_image(path).shape[:2]
        size = height, width
    require_frame_size(size, f"frame {path}")
    return size


def require_frame_size(size: tuple[int, int], what: str) -> None:
    """Raise InputError unless (h, w) is that of a frame, and of no more pixels than are taken (`davsr.guards.limits`).

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
    """Whether the name ends as that of an image file does."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which frame2 comes before frame10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts)


def numbering_fault(files: Sequence[Path]) -> str | None:
    """What the names of numbered frames say is wrong: one that is there twice, one that is missing.

    Numbers may go in any even steps, such as every tenth; names without numbers say nothing.
    """
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other is not file:
            return f"{other.name} and {file.name} are the same frame; keep one kind of image in a folder"
    matches = [re.fullmatch(r"(.*?)(\d+)", file.stem) for file in files]
    numbers = [int(match[2]) for match in matches if match]
    steps = sorted(b - a for a, b in pairwise(numbers))
    if len(numbers) < len(files) or len({m[1] for m in matches if m}) > 1 or not steps or steps[0] == steps[-1]:
        return None
    i = next(i for i, (a, b) in enumerate(pairwise(numbers)) if b - a > steps[0])
    match, missing = matches[i], numbers[i] + steps[0]
    assert match is not None
    return f"{match[1]}{missing:0{len(match[2])}d}{files[i].suffix} is missing"


def require_inside(size: tuple[int, int], top: int, left: int, height: int, width: int) -> None:
    """Raise ValueError unless a crop lies within frames of `size` (h, w)."""
    h, w = size
    if not (0 <= top <= top + height <= h and 0 <= left <= left + width <= w):
        raise ValueError(f"crop: must lie within {w}x{h}, got rows {top}+{height}, columns {left}+{width}")


class _Frames(Protocol):
    """What `crop_frames` asks of a clip (`davsr.data.clips.Clip` stands above this module)."""

    def __len__(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray: ...


def crop_frames(clip: _Frames, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
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
        """Raise InputError unless all frames are there once and have one size: long work asks before it starts."""
        fault = numbering_fault(self.files[start:stop])
        if fault:
            raise InputError(f"frames of {self.path}: {fault}")
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
