"""Images that lie about their size, are cut, or are not images: one sentence, before any memory is taken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from davsr.data.frames import FrameFolder, image_size, read_image, write_image
from davsr.data.image_header import header_size
from davsr.errors import InputError
from davsr.prepare.integrity import folder_faults

SUFFIXES = (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """A PNG of any claimed size with one row of samples."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((0, 0), "claims to be 0x0"),
        ((0, 5), "claims to be 0x5"),
        ((2**31 - 1, 2**31 - 1), "DAVSR_FRAME_PIXELS raises that"),
        ((2**32 - 1, 2**32 - 1), "DAVSR_FRAME_PIXELS raises that"),
        ((2**30, 1), "DAVSR_FRAME_PIXELS raises that"),
        ((2**26, 1), "cannot be read"),  # within the bound, not within OpenCV's
    ],
)
def test_a_claimed_size_is_refused_before_it_is_believed(tmp_path: Path, size: tuple[int, int], sentence: str) -> None:
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(png(*size))
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / "0.png")
    with pytest.raises(InputError):
        FrameFolder(tmp_path).frames(0, 2) if size != (2**26, 1) else read_image(tmp_path / "1.png")


def test_the_bound_may_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "0.png", np.zeros((20, 30, 3), np.uint8))
    monkeypatch.setenv("DAVSR_FRAME_PIXELS", "599")
    with pytest.raises(InputError, match="30x20, has 600 pixels, more than the 599 that are taken"):
        read_image(tmp_path / "0.png")
    monkeypatch.setenv("DAVSR_FRAME_PIXELS", "600")
    assert read_image(tmp_path / "0.png").shape == (20, 30, 3)
    monkeypatch.setenv("DAVSR_FRAME_PIXELS", "-1")
    with pytest.raises(InputError, match="DAVSR_FRAME_PIXELS: must be a whole number"):
        image_size(tmp_path / "0.png")


def test_a_chunk_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    content = bytearray(png(24, 16))
    content[33:37] = struct.pack(">I", 0xB1000446)
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "0.png")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_headers_tell_the_size_and_cuts_of_them_nothing(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"x{suffix}"
    write_image(file, np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8))
    content = file.read_bytes()
    assert header_size(content) == (37, 53) == image_size(file)
    for kept in range(200):
        assert header_size(content[:kept]) in (None, (37, 53))
    for kept in (0, 1, 5, 20):
        file.write_bytes(content[:kept])
        with pytest.raises(InputError, match="cannot be read"):
            read_image(file)


def test_a_file_name_that_is_not_text_is_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "a\udcff.png"
    write_image(file, np.full((9, 7, 3), 50, np.uint8))
    assert read_image(file).shape == (9, 7, 3)
    (tmp_path / "b\udcff.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"b\\udcff\.png cannot be read"):
        read_image(tmp_path / "b\udcff.png")


def test_frames_numbered_by_nanoseconds_are_counted_not_listed(tmp_path: Path) -> None:
    for number in (0, 99_999_999_999):
        write_image(tmp_path / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    assert folder_faults(tmp_path) == [f"frame {tmp_path / '1.png'} is missing, and 99999999997 more"]
    assert "is missing, and 499 more" in folder_faults(tmp_path, 501)[0]


def test_a_full_disk_is_an_oserror_with_a_path(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error:
        write_image(tmp_path / "nowhere" / "x.png", np.zeros((8, 8, 3), np.uint8))
    assert error.value.filename == str(tmp_path / "nowhere" / "x.png")


def test_sixteen_bits_are_rounded(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)[..., None].repeat(3, 2) * 257
    cv2.imwrite(str(tmp_path / "x.tif"), values + 100)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), np.round((values + 100) / 257))
