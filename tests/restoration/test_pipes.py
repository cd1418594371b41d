"""YUV4MPEG2 through pipes: in, out, and both."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.restoration.pipes import pour, spool
from tests.videos import pattern, write_video


def yuv4mpeg(frames: np.ndarray, rate: Fraction, deep: bool = False) -> bytes:
    """As `ffmpeg -f yuv4mpegpipe` writes it; the luma of `frames`, neutral chroma."""
    _, h, w = frames.shape[:3]
    name, middle = ("420p10", 512) if deep else ("420mpeg2", 128)
    kind = "<u2" if deep else "u1"
    parts = [f"YUV4MPEG2 W{w} H{h} F{rate.numerator}:{rate.denominator} Ip A1:1 C{name}\n".encode()]
    for frame in frames:
        luma = (16 + frame[..., 1] * (219 / 255)) * (4 if deep else 1)
        chroma = np.full((2, h // 2, w // 2), middle)
        parts += [b"FRAME\n", luma.round().astype(kind).tobytes(), chroma.astype(kind).tobytes()]
    return b"".join(parts)


@pytest.mark.parametrize("deep", [False, True])
def test_what_comes_in_is_kept_exactly(tmp_path: Path, deep: bool) -> None:
    given = yuv4mpeg(pattern(3), Fraction(24000, 1001), deep)
    clip = VideoReader(spool(io.BytesIO(given), tmp_path / "in.mkv"))
    assert (len(clip), clip.size, clip.rate) == (3, (24, 32), Fraction(24000, 1001))
    out = io.BytesIO()
    pour(clip.path, out)
    head, rest = out.getvalue().split(b"\n", 1)
    assert head.startswith(b"YUV4MPEG2 W32 H24 F24000:1001 Ip A1:1 C420")
    kind = "<u2" if deep else "u1"
    before, after = (
        np.frombuffer(data.split(b"FRAME\n", 1)[1][: 24 * 32 * (2 if deep else 1)], kind).astype(int)
        for data in (given, rest)
    )
    assert np.abs(before - after).max() <= (0 if deep else 1)  # 8 bits of RGB lie between


def test_what_is_no_stream_is_refused(tmp_path: Path) -> None:
    for junk in (b"", b"not a stream" * 100, b"YUV4MPEG2 W0 H0\n"):
        with pytest.raises(InputError, match="must be YUV4MPEG2"):
            spool(io.BytesIO(junk), tmp_path / "in.mkv")


def test_restoring_from_pipe_to_pipe(tmp_path: Path) -> None:
    """Only frames come out of standard output; what is said goes to standard error."""
    flags = ["--model", "training-free", "--scale", "2", "2", "2", "--tile", "0", "--device", "cpu"]
    command = [sys.executable, "-m", "davsr.cli", "restore", "-", "-", *flags]
    given = yuv4mpeg(pattern(3), Fraction(25))
    done = subprocess.run(command, input=given, capture_output=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"6 of 64x48" in done.stderr
    with av.open(io.BytesIO(done.stdout), format="yuv4mpegpipe") as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (len(frames), frames[0].width, frames[0].height, stream.average_rate) == (6, 64, 48, 50)
    assert list(tmp_path.iterdir()) == []


def test_a_file_goes_out_through_a_pipe(tmp_path: Path, capsysbinary) -> None:
    from davsr.cli import main

    source = write_video(tmp_path / "in.mp4", pattern(2), 25)
    assert main(["restore", str(source), "-", "--model", "training-free", "--upscale", "2", "--tile", "0"]) == 0
    assert capsysbinary.readouterr().out.startswith(b"YUV4MPEG2 W64 H48 F25:1")
