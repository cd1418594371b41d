"""Colours through a file and back: the mean stays, for every matrix, range, transfer and depth; grey stays grey."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from davsr.data import colour
from davsr.data.video import VideoReader

MATRICES = (1, 4, 5, 6, 7, 9)
DEPTHS = (8, 10, 12)


def smooth(h: int = 48, w: int = 64, seed: int = 0) -> np.ndarray:
    """RGB in [0, 1] without edges, of which subsampled chroma would keep no exact mean."""
    coarse = np.random.default_rng(seed).random((3, 4, 3))
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC).clip(0.03, 0.97)


def stored(image: np.ndarray, bits: int) -> np.ndarray:
    white = 255 if bits == 8 else 65535
    return np.round(image * white).astype(np.uint8 if bits == 8 else np.uint16)


def code_values(rgb: np.ndarray, matrix: int, bits: int, full: bool) -> np.ndarray:
    """Y, U, V [3, h, w] by the equations of H.273, in the numbers that a file holds."""
    k_r, k_b = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}.get(matrix, (0.299, 0.114))
    r, g, b = np.moveaxis(rgb, 2, 0)
    y = k_r * r + (1 - k_r - k_b) * g + k_b * b
    u, v = (b - y) / (2 * (1 - k_b)), (r - y) / (2 * (1 - k_r))
    if full:
        top, middle = 2**bits - 1, 2 ** (bits - 1)
        return np.stack([y * top, u * top + middle, v * top + middle])
    return np.stack([219 * y + 16, 224 * u + 128, 224 * v + 128]) * 2 ** (bits - 8)


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("planes", ["420", "444"])
def test_the_mean_colour_stays(planes: str, bits: int) -> None:
    """Within 0.25 of an 8-bit level in the file's own numbers, and within that again on the way back."""
    pixels = f"yuv{planes}p" + (f"{bits}le" if bits > 8 else "")
    for matrix, full in product(MATRICES, (False, True)):
        image = stored(smooth(seed=matrix), bits)
        white = np.iinfo(image.dtype).max
        frame = colour.from_rgb(image, pixels, bits, matrix, full)
        expected = code_values(image / white, matrix, bits, full)
        if planes == "444":
            found = [np.mean(np.frombuffer(p, image.dtype).reshape(p.height, -1)[:, : p.width]) for p in frame.planes]
            off = np.abs(np.array(found) - expected.mean(axis=(1, 2))) / 2 ** (bits - 8)
            assert off.max() < 0.25, (matrix, full, off)
        back = colour.to_rgb(frame, matrix, full)
        off = np.abs(back.mean(axis=(0, 1)) - image.mean(axis=(0, 1))) * 255 / white
        assert back.dtype == image.dtype and off.max() < 0.25, (matrix, full, off)


@pytest.mark.parametrize("bits", DEPTHS)
def test_grey_stays_exactly_grey(bits: int) -> None:
    levels = stored(np.linspace(0, 1, 256).reshape(1, 256, 1).repeat(2, 0).repeat(3, 2), bits)
    for matrix, full, planes in product(MATRICES, (False, True), ("420", "444")):
        frame = colour.from_rgb(levels, f"yuv{planes}p" + (f"{bits}le" if bits > 8 else ""), bits, matrix, full)
        assert colour.is_neutral(frame)
        back = colour.to_rgb(frame, matrix, full)
        assert (back == back[..., :1]).all()
        # Limited range has 220 levels of 8 bits for 256.
        assert np.abs(back.astype(float) - levels).max() / np.iinfo(back.dtype).max * 255 <= (0.3 if bits > 8 else 1)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_samples_keep_their_depth(bits: int) -> None:
    """Every code value of a plane comes back: nothing on the way has 8 bits."""
    values = np.arange(16 << (bits - 8), 235 << (bits - 8)).reshape(1, -1)
    ramp = (values - (16 << (bits - 8))) / (219 << (bits - 8))
    image = np.round(ramp[..., None].repeat(3, 2) * 65535).astype(np.uint16).repeat(2, 0)
    image = image[:, : image.shape[1] // 2 * 2]
    frame = colour.from_rgb(image, f"yuv420p{bits}le", bits, 9, False)
    luma = np.frombuffer(frame.planes[0], np.uint16).reshape(2, -1)[:, : image.shape[1]]
    np.testing.assert_array_equal(luma[0], values[0, : image.shape[1]])
    np.testing.assert_allclose(colour.to_rgb(frame, 9, False), image, atol=1)


def test_chroma_lies_where_video_has_it() -> None:
    """A step of colour in 4:2:0 whose chroma samples lie on even columns is not moved to one side."""
    image = np.full((16, 64, 3), (200, 60, 60), np.uint8)
    image[:, 32:] = (60, 60, 200)
    back = colour.to_rgb(colour.from_rgb(image, "yuv420p", 8, 1, False), 1, False).astype(int)
    red = back[8, :, 0] - back[8, :, 2]
    crossing = np.interp(0, -red[28:36], np.arange(28, 36))
    assert abs(crossing - 31.5) < 0.35


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("pixels", "native"),
    [
        ("gray16be", "gray16le"),
        ("gray12be", "gray12le"),
        ("ya16be", "gray16le"),
        ("ya16le", "gray16le"),
        ("ya8", "gray"),
        ("yuv420p10be", "yuv420p10le"),
        ("yuva444p12be", "yuv444p12le"),
    ],
)
def test_samples_in_any_order_are_the_same_picture(pixels: str, native: str, full: bool) -> None:
    """PNG, TIFF and JPEG 2000 have the upper byte first, and grey beside its alpha."""
    image = np.random.default_rng(0).integers(0, 65536, (16, 24, 3)).astype(np.uint16)
    plain = av.VideoFrame.from_ndarray(image, format="rgb48le").reformat(format=native)
    other = plain.reformat(format=pixels)
    assert colour.has_alpha(other) == ("a" in pixels.replace("gray", "")) and colour.is_neutral(other) == (
        "yuv" not in pixels
    )
    assert not (colour.has_alpha(other) and colour.is_transparent(other))
    np.testing.assert_array_equal(colour.to_rgb(other, 6, full), colour.to_rgb(plain, 6, full))
    np.testing.assert_array_equal(colour.thumbnail(other), colour.thumbnail(plain))


def test_grey_that_states_no_range_is_full(tmp_path: Path) -> None:
    """Cameras write all of 0 to 255, and FFmpeg reads it so; H.264 without a statement is limited by its standard."""
    levels = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    for codec in ("ffv1", "libx264"):
        path = tmp_path / f"{codec}.mkv"
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 16, "gray"
            stream.codec_context.options = {} if codec == "ffv1" else {"crf": "0"}
            frame = av.VideoFrame.from_ndarray(levels, format="gray")
            frame.pts = 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
        clip = VideoReader(path)
        full = codec == "ffv1"
        assert clip.colour_tags()["range"] == (colour.FULL if full else colour.LIMITED)
        read = clip.frames(0, 1)[0, 0, :, 0]
        expected = np.arange(256) if full else np.clip((np.arange(256) - 16) * 255 / 219, 0, 255).round()
        np.testing.assert_array_equal(read, expected)
