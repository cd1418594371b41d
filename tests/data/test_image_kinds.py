"""Images as other programs write them: read as they show themselves elsewhere, or refused in one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from davsr.data.clips import open_clip
from davsr.data.frames import FrameFolder, image_size, read_image
from davsr.errors import InputError
from davsr.restoration.source import open_source

H, W = 6, 8
GREY = np.arange(H * W, dtype=np.uint8).reshape(H, W) * 5
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
OPAQUE = np.full((H, W, 1), 255, np.uint8)
GLASS = OPAQUE - np.eye(H, W, dtype=np.uint8)[..., None] * 100


def tiff(
    samples: np.ndarray, colours: int, *, extra: int | None = None, planes: bool = False, pages: tuple[int, ...] = (0,)
) -> bytes:
    """An uncompressed little-endian TIFF of samples [h, w, c] of any type.

    `colours` is its PhotometricInterpretation, `pages` the NewSubfileType of each page.
    """
    h, w, c = samples.shape
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    content = (np.moveaxis(samples, -1, 0) if planes else samples).astype(samples.dtype.newbyteorder("<")).tobytes()
    strips = c if planes else 1
    fields: dict[int, list[int]] = {256: [w], 257: [h], 258: [8 * samples.itemsize] * c, 259: [1], 262: [colours]}
    fields |= {277: [c], 278: [h], 279: [len(content) // strips] * strips, 284: [1 + planes], 339: [kind] * c}
    if extra is not None:
        fields[338] = [extra]
    begin = 8 + len(pages) * 400
    fields[273] = [begin + n * len(content) // strips for n in range(strips)]
    out = b"II" + struct.pack("<HI", 42, 8)
    for page, kind_of_page in enumerate(pages):
        at = 8 + page * 400
        fields[254] = [kind_of_page]
        entries, rest = b"", b""
        for tag, values in sorted(fields.items()):
            packed = struct.pack(f"<{len(values)}I", *values)
            entries += struct.pack("<HHI", tag, 4, len(values))
            entries += packed if len(values) == 1 else struct.pack("<I", at + 200 + len(rest))
            rest += packed if len(values) > 1 else b""
        follows = at + 400 if page + 1 < len(pages) else 0
        directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", follows)
        out += directory.ljust(200, b"\0") + rest.ljust(200, b"\0")
    return out + content


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, colours: int, *between: bytes) -> bytes:
    """A PNG of 8-bit samples [h, w, c] of a colour type, with chunks between its header and them."""
    h, w, _ = samples.shape
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bmp(alpha: np.ndarray) -> bytes:
    pixels = np.concatenate([RGB[..., ::-1], alpha], axis=-1)[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 32, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + head + pixels


def webp(alpha: np.ndarray) -> bytes:
    image = np.concatenate([RGB[..., ::-1], alpha], axis=-1)
    return bytes(cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1])


def pfm(image: np.ndarray) -> bytes:
    """A picture by the definition of PFM: rows from the bottom to the top."""
    return b"PF\n%d %d\n-1.0\n" % (W, H) + (image[::-1] / np.float32(255)).astype("<f4").tobytes()


def wide(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.uint16) * np.uint16(257)


WITH_ALPHA = {
    "rgba.png": lambda alpha: png(np.concatenate([RGB, alpha], -1), 6),
    "grey.png": lambda alpha: png(np.concatenate([GREY[..., None], alpha], -1), 4),
    "rgba.tif": lambda alpha: tiff(np.concatenate([RGB, alpha], -1), 2, extra=2),
    "rgba_16.tif": lambda alpha: tiff(wide(np.concatenate([RGB, alpha], -1)), 2, extra=1),
    "grey.tif": lambda alpha: tiff(np.concatenate([GREY[..., None], alpha], -1), 1, extra=2),
    "grey_16.tif": lambda alpha: tiff(wide(np.concatenate([GREY[..., None], alpha], -1)), 1, extra=1),
    "rgba.bmp": bmp,
    "rgba.webp": webp,
}


@pytest.mark.parametrize("name", WITH_ALPHA)
def test_every_format_with_alpha_is_answered_alike(tmp_path: Path, name: str) -> None:
    """An opaque channel is none; a transparent one would be dropped."""
    file = tmp_path / name
    file.write_bytes(WITH_ALPHA[name](OPAQUE))
    shown = np.repeat(GREY[..., None], 3, axis=-1) if name.startswith("grey") else RGB
    np.testing.assert_array_equal(read_image(file), shown)
    file.write_bytes(WITH_ALPHA[name](GLASS))
    with pytest.raises(InputError, match=f"{name} must have no alpha channel, got pixels that are not opaque"):
        read_image(file)


@pytest.mark.parametrize(
    "content",
    [
        png(GREY[..., None], 0, chunk(b"tRNS", struct.pack(">H", 50))),
        png(RGB, 2, chunk(b"tRNS", struct.pack(">3H", *RGB[2, 3].tolist()))),
        png(GREY[..., None] // 100, 3, chunk(b"PLTE", RGB[0, :3].tobytes()), chunk(b"tRNS", b"\xff\x80")),
    ],
    ids=["grey", "rgb", "palette"],
)
def test_a_colour_of_a_png_that_is_transparent_is_alpha(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match="must have no alpha channel"):
        read_image(tmp_path / "x.png")


WRONG = {
    **{
        f"{kind}_{channels}.tif": (
            tiff(np.ones((H, W, channels), kind), 2 if channels == 3 else 1),
            rf"samples must be unsigned, of 8 or 16 bits, got [a-z-]+ ones of {8 * np.dtype(kind).itemsize} bits",
        )
        for kind in ("float16", "float32", "float64", "int8", "int16", "int32", "uint32", "uint64")
        for channels in (1, 3)
    },
    "planes.tif": (tiff(wide(RGB), 2, planes=True), "samples of 16 bits must lie pixel by pixel"),
    "white_is_zero.tif": (tiff(wide(GREY[..., None]), 0), "must be grey or RGB, got white-is-zero grey"),
    "lab.tif": (tiff(RGB, 8), "must be grey or RGB, got CIELab"),
    "cmyk.tif": (tiff(wide(np.concatenate([RGB, OPAQUE], -1)), 5), "must be grey or RGB, got CMYK"),
    "pages.tif": (tiff(RGB, 2, pages=(0, 2)), "must hold one picture, got several"),
    "moving.png": (png(RGB, 2, chunk(b"acTL", struct.pack(">II", 2, 0))), "must hold one picture, got an animation"),
    "moving.webp": (b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(30), "must hold one picture, got an animation"),
    "exr.tif": (b"v/1\x01" + bytes(100), "must be PNG, JPEG, BMP, WebP, TIFF or PNM, got OpenEXR"),
    "hdr.png": (b"#?RADIANCE\n" + bytes(100), "got Radiance HDR"),
    "pfm.ppm": (pfm(RGB), "got PFM"),
    "heic.jpg": (b"\0\0\0\x18ftypheic" + bytes(100), "got HEIF or a video"),
    "text_100.pgm": (b"P2 8 6 100 " + b"1 " * H * W, "white must be 255 in a PNM that is text, got 100"),
    "cut.tif": (tiff(RGB, 2)[:-20], "it is damaged"),
    "text.ppm": (b"P3 8 6 255 1 2 3", "it is damaged"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_decoded_wrongly_is_one_sentence(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """And nothing else is on the terminal."""
    content, reason = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} cannot be read: .*{reason}"):
        read_image(tmp_path / name)
    if hasattr(cv2.utils, "logging"):  # before OpenCV 5 damaged data is told on stderr, past its log
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("planes.tif", tiff(RGB, 2, planes=True), RGB),
        ("white_is_zero.tif", tiff(255 - GREY[..., None], 0), GREY[..., None]),
        ("thumbnail.tif", tiff(RGB, 2, pages=(0, 1)), RGB),
        *[
            (
                f"{white}.ppm",
                b"P6 # a comment\n8 6 %d\n" % white + (RGB.astype(np.uint32) * white // 255).astype(form).tobytes(),
                RGB,
            )
            for white, form in ((1023, ">u2"), (4095, ">u2"), (65535, ">u2"), (254, "u1"))
        ],
        ("text.pgm", b"P2 8 6 255 " + b" ".join(b"%d" % v for v in GREY.ravel()), GREY[..., None]),
    ],
)
def test_what_can_be_read_shows_what_it_should(tmp_path: Path, name: str, content: bytes, shown: np.ndarray) -> None:
    (tmp_path / name).write_bytes(content)
    np.testing.assert_allclose(read_image(tmp_path / name).astype(int), np.broadcast_to(shown, RGB.shape), atol=1)
    assert image_size(tmp_path / name) == (H, W)


def test_a_moving_png_among_frames_is_seen_before_work(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(RGB, 2))
    (tmp_path / "1.png").write_bytes(WRONG["moving.png"][0])
    with pytest.raises(InputError, match=r"1\.png cannot be read: it must hold one picture"):
        FrameFolder(tmp_path).check()


@pytest.mark.parametrize("name", ["x.pfm", "x.tga", "x.tif"])
def test_a_picture_is_no_video_whatever_its_format(tmp_path: Path, name: str) -> None:
    tga = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, W, H, 24, 0) + RGB.tobytes()
    (tmp_path / name).write_bytes({"x.pfm": pfm(RGB), "x.tga": tga, "x.tif": tiff(RGB, 2)}[name])
    with pytest.raises(InputError, match="give the folder that holds the frames, or a video file"):
        open_source(tmp_path / name)
    with pytest.raises(InputError, match="give the folder that holds the frames, or a video file"):
        open_clip(tmp_path / name).check()
