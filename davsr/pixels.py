"""Every conversion of pixels: 8 bits, 16 bits and float; frames as pictures [h, w, c] and as tensors [c, h, w]."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from davsr.errors import InputError

Frames = npt.NDArray[np.uint16]  # [n, c, H, W], WHITE is white: finished frames take half of float32's space
Image16 = npt.NDArray[np.uint16]  # [h, w, 3], WHITE is white
WHITE = 65535
_BRIGHTEST = 8.0  # restored frames go a little beyond 1; what goes beyond this was meant as 0 to 255
_LEVELS = WHITE // 255  # 16-bit steps between two 8-bit levels


def to_unit(frames: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [0, 1]."""
    return frames.float().div_(255)


def to_uint8(frames: Tensor) -> Tensor:
    """Values in [0, 1] of any shape, clamped and rounded to what a display shows."""
    return frames.clamp(0, 1).mul(255).round().byte()


def as_tensor(frames: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] -> uint8 [n, 3, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def as_clip(frames: Tensor | np.ndarray, name: str = "lq") -> tuple[Tensor, bool]:
    """Frames as people have them -> (floating point [b, t, c, h, w], whether they were a batch).

    Taken are tensors and arrays, uint8 (0 to 255) or floating point (0 to 1), [t, c, h, w] or [b, t, c, h, w], arrays
    also with the colours last, as image libraries give them. Floating-point tensors [b, t, c, h, w] are returned as
    they are.

    Raises:
        InputError: they are none of these, with what is wanted.
    """
    given = f"{frames.dtype} {list(frames.shape)}"
    if isinstance(frames, np.ndarray):
        if frames.ndim in (4, 5) and frames.shape[-1] == 3 and frames.shape[-3] != 3:
            frames = np.moveaxis(frames, -1, -3)
        number = frames.dtype == np.uint8 or np.issubdtype(frames.dtype, np.floating)
        frames = torch.from_numpy(np.ascontiguousarray(frames)) if number else torch.empty(0, dtype=torch.int64)
    if frames.dim() not in (4, 5) or not (frames.is_floating_point() or frames.dtype == torch.uint8):
        raise InputError(
            f"{name} must be floating point [b, t, c, h, w] in [0, 1] or [t, c, h, w], or uint8 of these shapes, got {given}"
        )
    if frames.dtype == torch.uint8:
        frames = to_unit(frames)
    elif frames.device.type == "cpu" and not torch.compiler.is_compiling() and frames.numel():
        largest = float(frames.detach().amax())
        if largest > _BRIGHTEST:
            raise InputError(f"{name} must be in [0, 1] where it is floating point, got values up to {largest:g}")
    return (frames, True) if frames.dim() == 5 else (frames[None], False)


def as_image(frame: Tensor) -> np.ndarray:
    """uint8 [3, h, w] -> uint8 [h, w, 3]."""
    return np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())


def to_frames(video: Tensor) -> Frames:
    """[n, c, H, W] in [0, 1], clamped -> 16-bit integers.

    Raises:
        FloatingPointError: a value is not finite.
    """
    result = np.empty(tuple(video.shape), dtype=np.uint16)
    for p, frame in enumerate(video):
        put_frame(frame, result[p])
    return result


def put_frame(frame: Tensor, place: npt.NDArray[np.uint16]) -> None:
    """`to_frames` of one frame [c, H, W], into memory that is there: one pass over each plane to look, one to convert.

    Raises:
        FloatingPointError: a value is not finite.
    """
    for plane, out in zip(frame, place, strict=True):
        values = plane.float().cpu().numpy()
        # A sum in double precision is finite where every value is.
        if values.size and not math.isfinite(cv2.norm(values, cv2.NORM_L1)):
            raise FloatingPointError("restoration: the model returned values that are not finite")
        rounded(values, WHITE, out)


def rounded(plane: npt.NDArray[np.float32], gain: float, out: npt.NDArray[np.uint16]) -> None:
    """A plane [H, W] times a number, clamped and rounded to 16 bits, into `out`."""
    made = cv2.multiply(plane, gain, dst=out, dtype=cv2.CV_16U)
    if made is not out:  # OpenCV writes into memory of its own where this is not laid out as it needs it
        out[:] = made.reshape(out.shape)


def mixed(a: Frames, b: Frames, share: float) -> Frames:
    """(1 - share) a + share b of 16-bit integers [c, H, W], rounded."""
    rows = (-1, a.shape[-1])  # OpenCV takes a third axis for channels
    made: Frames = cv2.addWeighted(a.reshape(rows), 1 - share, b.reshape(rows), share, 0)
    return made.reshape(a.shape)


def to_float(frames: Frames) -> Tensor:
    """16-bit integers of any shape -> float32 in [0, 1]."""
    return torch.from_numpy(frames.astype(np.float32)).div_(WHITE)


def image_to_unit(image: Image16) -> Tensor:
    """16 bits [h, w, 3] -> float32 [3, h, w] in [0, 1]."""
    return to_float(image.transpose(2, 0, 1)).contiguous()


def eight_bits(image: np.ndarray) -> npt.NDArray[np.uint8]:
    """16 bits -> 8, rounded."""
    made: npt.NDArray[np.uint8] = cv2.convertScaleAbs(image, alpha=1 / _LEVELS)  # there are no ties to round
    return made.reshape(image.shape)


def sixteen_bits(image: np.ndarray) -> Image16:
    """8 bits -> 16; white stays white."""
    return image.astype(np.uint16) * np.uint16(_LEVELS)
