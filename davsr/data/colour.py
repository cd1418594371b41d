"""Colours of video frames: what a file says about them, and exact conversion to RGB and back.

The conversion is ours because swscale's was measured to read 10 and 12 bits half an 8-bit level too dark, to write full
range chroma half a level off neutral, and to take chroma as centred between columns where video has it on them, which
moves colours by 1.5 pixels at four times the size. Here the mean error is below 0.04 level, and grey stays exactly
grey.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

from davsr.data.container import side_data
from davsr.errors import InputError

# Numbers of H.273: matrices by their (K_R, K_B), and those that stand for nothing stated.
_LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
BT709, BT601 = 1, 6
_UNSTATED = (0, 2, 3)  # 0 is RGB, which says nothing where the samples are not
LIMITED, FULL = int(ColorRange.MPEG), int(ColorRange.JPEG)
_LIMITED_GREY = ("h264", "hevc")  # codecs whose standards say what no statement of the range means
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, by their numbers in H.273
SDR_TAGS = {"matrix": BT709, "range": LIMITED, "transfer": 1, "primaries": 1}

_BAND = 64  # rows, an even number

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # [h, w, 3] RGB, full scale is white


@dataclass(frozen=True)
class Light:
    """Static HDR metadata.

    What the mastering display could show, and how bright the content gets (ST 2086, CTA-861.3).
    """

    display: tuple[
        int, ...
    ] = ()  # x, y of green, blue, red, white in 1/50000; highest, lowest luminance in 1/10000 cd/m^2
    content: tuple[int, ...] = ()  # MaxCLL, MaxFALL in cd/m^2


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the samples of a frame are R, G and B rather than a matrix of them."""
    return bool(frame.format.is_rgb or frame.format.has_palette)


def depth(frame: av.VideoFrame) -> int:
    """Bits per sample."""
    return max(component.bits for component in frame.format.components)


def _is_grey(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya8", "ya16", "yaf"))


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether the pixel format of a frame has a place for transparency."""
    name = frame.format.name
    return name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8", "ayuv", "vuya"))


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether any pixel of a frame that has an alpha channel is not opaque."""
    if frame.format.name.startswith(("gbrap", "yuva")) and len(frame.planes) == 4 and depth(frame) <= 16:
        alpha = _plane(frame, len(frame.planes) - 1)
        return bool(alpha.min() < (1 << depth(frame)) - 1)
    return bool(frame.to_ndarray(format="rgba")[..., 3].min() < 255)


def is_neutral(frame: av.VideoFrame) -> bool:
    """Whether a frame has no colour at all: grey, or chroma that is neutral everywhere."""
    if _is_grey(frame) or frame.format.name.startswith("mono"):
        return True
    if is_rgb(frame) or len(frame.planes) < 3:
        return False
    middle = 1 << (depth(frame) - 1)
    return all(bool((_plane(frame, i) == middle).all()) for i in (1, 2))


def thumbnail(frame: av.VideoFrame) -> npt.NDArray[np.float32]:
    """Every fourth sample of the first plane, which is luma, green or all of RGB; in 8-bit levels."""
    unit = np.float32(1 << (max(depth(frame), 8) - 8))
    return _plane(frame, 0)[::4, ::4].astype(np.float32) / unit


def tags(stream: av.VideoStream, frame: av.VideoFrame) -> dict[str, int]:
    """Matrix, range, transfer and primaries as H.273 numbers; what neither says stays unspecified.

    The frame's own statement comes first, the container's second (HLG is often stated there alone). A matrix that
    nobody states is taken as players do: BT.709 from 720 lines on, BT.601 below.
    """
    context = stream.codec_context

    def stated(name: str, unstated: tuple[int, ...]) -> int:
        # Before PyAV 16 a frame does not tell its transfer and primaries; its stream does.
        values = [int(getattr(owner, name)) for owner in (frame, context) if hasattr(owner, name)]
        return next((value for value in values if value not in unstated), values[0])

    matrix = stated("colorspace", _UNSTATED)
    if is_rgb(frame):
        matrix = BT709
    elif matrix in _UNSTATED:
        matrix = BT709 if frame.height >= 720 else BT601
    span = stated("color_range", (0,)) or LIMITED
    if frame.format.name.startswith("yuvj"):
        span = FULL
    elif _is_grey(frame) and context.name not in _LIMITED_GREY and not stated("color_range", (0,)):
        span = FULL  # as cameras write it, and FFmpeg reads it
    elif is_rgb(frame):  # which has no range; as video it gets the one that every player knows
        span = LIMITED
    return {
        "matrix": matrix,
        "range": span,
        "transfer": stated("color_trc", _UNSTATED),
        "primaries": stated("color_primaries", _UNSTATED),
    }


def require_known_matrix(matrix: int, name: object) -> None:
    """Raise InputError for the matrices that are no 3x3 of RGB in code values (YCgCo, constant luminance, ICtCp)."""
    if matrix not in _LUMA:
        raise InputError(
            f"video {name} must have the matrix of BT.601, BT.709, BT.2020 or SMPTE 240M, got H.273's {matrix}"
        )


def to_rgb(frame: av.VideoFrame, matrix: int, full_range: bool) -> Image:
    """A decoded frame [h, w, 3]: uint8 where it has 8 bits a sample, else uint16 (65535 is white)."""
    bits = depth(frame)
    deep = bits > 8
    if is_rgb(frame) or bits > 16:  # more bits are those of floating point
        return np.asarray(frame.to_ndarray(format="rgb48le" if deep else "rgb24"))
    white, h, w = 65535 if deep else 255, frame.height, frame.width
    if frame.format.name.startswith("mono"):
        return np.asarray(frame.to_ndarray(format="rgb24"))
    if _is_grey(frame):
        luma = _rounded(_limits(_plane(frame, 0), bits, white, full_range), white)
        return _grey(luma)
    kinds = {(1, 1): "444", (2, 2): "420", (2, 1): "422"}
    steps = (-(-w // max(frame.format.chroma_width(w), 1)), -(-h // max(frame.format.chroma_height(h), 1)))
    planar = f"yuv{kinds.get(steps, '444')}p" + (f"{bits}le" if deep else "")
    if frame.format.name not in (planar, planar.replace("yuv", "yuvj")):
        frame = frame.reformat(format=planar)
    gain = white / ((1 << bits) - 1) if full_range else white / (224 << (bits - 8))
    middle = np.float32(1 << (bits - 1))
    y = _limits(_plane(frame, 0), bits, white, full_range)
    u, v = (_upsampled(_plane(frame, i) - middle, h, w) for i in (1, 2))
    k_r, k_b = _LUMA[matrix]
    k_g = 1 - k_r - k_b
    red, blue = 2 * (1 - k_r) * gain, 2 * (1 - k_b) * gain
    rows = [[1, 0, red], [1, -k_b / k_g * blue, -k_r / k_g * red], [1, blue, 0]]
    return _rounded(cv2.transform(cv2.merge([y, u, v]), np.array(rows, np.float32)), white)


def from_rgb(
    image: Image, pixels: str, bits: int, matrix: int, full_range: bool, *, neutral: bool = False
) -> av.VideoFrame:
    """An `av.VideoFrame` in the format `pixels` (yuv420p, yuv444p10le, gbrp12le, bgr0, ...) of an RGB image [h, w, 3].

    Args:
        image: uint8 or uint16.
        bits: per sample of `pixels`.
        neutral: write no colour at all.
    """
    h, w = image.shape[:2]
    white = float(np.iinfo(image.dtype).max)
    if not pixels.startswith("yuv"):
        if neutral:
            image = _grey(_rounded(image.mean(axis=2, dtype=np.float32), white))
        return _rgb_frame(image, pixels, bits)
    k_r, k_b = _LUMA[matrix]
    luma = np.array([k_r, 1 - k_r - k_b, k_b])
    top = (1 << bits) - 1
    y_gain, c_gain = (top, top) if full_range else (219 << (bits - 8), 224 << (bits - 8))
    blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - k_b)) * c_gain
    red = (np.array([1, 0, 0]) - luma) / (2 * (1 - k_r)) * c_gain
    to_luma = _matrix([luma * y_gain / white], 0 if full_range else 16 << (bits - 8))
    to_chroma = _matrix([blue / white, red / white], 1 << (bits - 1))
    if neutral:
        to_chroma[:, :3] = 0
    halved = "420" in pixels
    frame = av.VideoFrame(w, h, pixels)
    for top in range(0, h, _BAND):  # what is made on the way stays in the cache
        rgb = image[top : top + _BAND].astype(np.float32)
        _fill(frame, 0, cv2.transform(rgb, to_luma), top)
        # Averaging and the matrix are both linear: rows are averaged before it, columns after it.
        chroma = cv2.transform(cv2.addWeighted(rgb[::2], 0.5, rgb[1::2], 0.5, 0) if halved else rgb, to_chroma)
        for i in (1, 2):
            plane = chroma[..., i - 1]
            _fill(frame, i, _half_columns(plane) if halved else plane, top // 2 if halved else top)
    return frame


def _matrix(rows: list[npt.NDArray[np.float64]], offset: float) -> npt.NDArray[np.float32]:
    """One or two rows of a colour matrix as OpenCV takes them, with an offset; it is fast for one row and for three."""
    matrix = np.zeros((1 if len(rows) == 1 else 3, 4), np.float32)
    matrix[: len(rows), :3] = rows
    matrix[:, 3] = offset
    return matrix


def _rgb_frame(image: Image, pixels: str, bits: int) -> av.VideoFrame:
    """gbrp and bgr0, exactly: the upper bits of 16, rounded."""
    if not pixels.startswith("gbrp"):
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format=pixels)
    top = (1 << bits) - 1
    frame = av.VideoFrame(image.shape[1], image.shape[0], pixels)
    for i, channel in enumerate((1, 2, 0)):
        _fill(frame, i, image[..., channel] * np.float32(top / np.iinfo(image.dtype).max), 0)
    return frame


def light(frame: av.VideoFrame) -> Light:
    """The static HDR metadata that comes with a frame."""
    display: tuple[int, ...] = ()
    content: tuple[int, ...] = ()
    there = side_data(frame)
    if len(mastering := there.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        # AVMasteringDisplayMetadata: rationals of red, green, blue (x, y each), white, lowest, highest; two flags.
        numbers = struct.unpack("=22i", mastering[:88])
        values = [Fraction(a, b) if b else Fraction(0) for a, b in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        if numbers[20] and numbers[21]:
            red, green, blue, white = (values[i : i + 2] for i in (0, 2, 4, 6))
            points = [round(c * 50000) for point in (green, blue, red, white) for c in point]
            display = (*points, round(values[9] * 10000), round(values[8] * 10000))
    if len(level := there.get("CONTENT_LIGHT_LEVEL", b"")) >= 8:
        content = struct.unpack("=2I", level[:8])
    return Light(display, content)


def _plane(frame: av.VideoFrame, i: int) -> npt.NDArray[Any]:
    """The samples of a plane; of grey with alpha, which alternate, the grey ones."""
    plane = frame.planes[i]
    wide = np.dtype(">u2" if frame.format.is_big_endian else "<u2")
    dtype = wide if plane.line_size >= 2 * plane.width and depth(frame) > 8 else np.dtype(np.uint8)
    step = 2 if frame.format.name.startswith("ya") else 1
    samples: npt.NDArray[Any] = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : step * plane.width : step]
    return samples


def _fill(frame: av.VideoFrame, i: int, values: npt.NDArray[np.float32], top: int) -> None:
    """Rows of a plane, from `top` on."""
    plane, bits = frame.planes[i], depth(frame)
    target = np.frombuffer(plane, np.uint16 if bits > 8 else np.uint8).reshape(plane.height, -1)
    samples = cv2.add(values, 0.0, dtype=cv2.CV_16U if bits > 8 else cv2.CV_8U)  # rounds and saturates
    if 8 < bits < 16:
        samples = np.minimum(samples, (1 << bits) - 1)
    target[top : top + len(samples), : plane.width] = samples


def _limits(y: npt.NDArray[Any], bits: int, white: float, full_range: bool) -> npt.NDArray[np.float32]:
    """Luma in code values -> 0 to `white`."""
    if full_range:
        return y * np.float32(white / ((1 << bits) - 1))
    return (y - np.float32(16 << (bits - 8))) * np.float32(white / (219 << (bits - 8)))


def _rounded(values: npt.NDArray[np.float32], white: float) -> Image:
    image: Image = cv2.add(values, 0.0, dtype=cv2.CV_8U if white == 255 else cv2.CV_16U)  # rounds and saturates
    return image


def _grey(luma: Image) -> Image:
    """[h, w] -> [h, w, 3]."""
    image: Image = cv2.merge([luma, luma, luma])
    return image


def _upsampled(c: npt.NDArray[np.float32], h: int, w: int) -> npt.NDArray[np.float32]:
    """Chroma [.., ..] -> [h, w]: samples lie on even columns and between rows, as H.264, HEVC and MPEG-2 have them."""
    if c.shape[1] < w:
        right = np.concatenate([c[:, 1:], c[:, -1:]], axis=1)
        wide = np.empty((c.shape[0], 2 * c.shape[1]), np.float32)
        wide[:, ::2] = c
        wide[:, 1::2] = (c + right) * np.float32(0.5)
        c = wide[:, :w]
    if c.shape[0] < h:
        above, below = np.concatenate([c[:1], c[:-1]]), np.concatenate([c[1:], c[-1:]])
        tall = np.empty((2 * c.shape[0], c.shape[1]), np.float32)
        near = c * np.float32(0.75)
        tall[::2] = near + above * np.float32(0.25)
        tall[1::2] = near + below * np.float32(0.25)
        c = tall[:h]
    return c


def _half_columns(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A plane of even width at every second column, each with half of what lies beside it."""
    even, odd = plane[:, ::2], plane[:, 1::2]
    sums: npt.NDArray[np.float32] = even + even
    sums += odd
    sums[:, 1:] += odd[:, :-1]
    sums[:, 0] += even[:, 0]
    sums *= np.float32(0.25)
    return sums
