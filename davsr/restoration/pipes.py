"""Uncompressed video through pipes, as ffmpeg and vspipe write and read it: `davsr restore - -` in YUV4MPEG2.

A restart, windows and scene cuts need frames more than once, so what comes through a pipe lies, losslessly compressed,
in a temporary file for the time of the run.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from davsr.data import colour
from davsr.data.container import media_url
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.log import logger

PIPE = "-"


def is_pipe(path: Path) -> bool:
    """Whether a path stands for standard input or output."""
    return str(path) == PIPE


@contextlib.contextmanager
def unpiped(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Files in the places of pipes: the input's frames are in the first, those of the second go out at the end.

    While the output is a pipe, nothing else is written to it: what is said goes to standard error.

    Raises:
        InputError: what comes in is no YUV4MPEG2.
    """
    if not (is_pipe(source) or is_pipe(target)):
        yield source, target
        return
    out = sys.stdout.buffer
    with tempfile.TemporaryDirectory(prefix="davsr-") as folder, contextlib.ExitStack() as stack:
        if is_pipe(target):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        low = spool(sys.stdin.buffer, Path(folder) / "input.mkv") if is_pipe(source) else source
        high = Path(folder) / "output.mkv" if is_pipe(target) else target
        yield low, high
        if is_pipe(target):
            pour(high, out)


def spool(stream: BinaryIO, path: Path) -> Path:
    """Write the frames of a YUV4MPEG2 stream to a file, without loss."""
    try:
        with av.open(stream, format="yuv4mpegpipe") as given, av.open(media_url(path), "w") as kept:
            video: Any = given.streams.video[0]
            rate = Fraction(video.average_rate or 25)
            copy: Any = kept.add_stream("ffv1", rate=rate)
            copy.width, copy.height, copy.pix_fmt = video.width, video.height, video.pix_fmt
            copy.codec_context.time_base = 1 / rate
            copy.codec_context.color_range = video.codec_context.color_range
            if video.sample_aspect_ratio:
                copy.codec_context.sample_aspect_ratio = video.sample_aspect_ratio
            for i, frame in enumerate(given.decode(video)):
                frame.pts, frame.time_base = i, 1 / rate
                kept.mux(copy.encode(frame))
            kept.mux(copy.encode(None))
    except (av.FFmpegError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"input -: must be YUV4MPEG2 (ffmpeg -f yuv4mpegpipe), got something else: {reason}") from None
    return path


def pour(path: Path, out: BinaryIO) -> None:
    """Write a video file as YUV4MPEG2: 4:2:0 where both sides are even, else 4:4:4, in the depth of its samples."""
    clip = VideoReader(path)
    (h, w), rate, bits = clip.size, clip.rate, colour.depth(clip.first)
    if rate is None:
        logger.warning("output -: YUV4MPEG2 knows constant rates only; frames are written as if they came evenly")
        rate = Fraction(len(clip) - 1) / ((clip.times[-1] - clip.times[0]) * clip.time_base)
    bits = bits if bits in (8, 10, 12) else 12
    kind = "444" if h % 2 or w % 2 else "420"
    pixels = f"yuv{kind}p" + (f"{bits}le" if bits > 8 else "")
    name = kind + (f"p{bits}" if bits > 8 else "mpeg2" if kind == "420" else "")
    aspect = clip.aspect
    rate = rate.limit_denominator(1_000_000)
    head = (
        f"YUV4MPEG2 W{w} H{h} F{rate.numerator}:{rate.denominator} Ip A{aspect.numerator}:{aspect.denominator} C{name}"
    )
    out.write(f"{head} XCOLORRANGE=LIMITED\n".encode())
    matrix = colour.BT709 if h >= 720 else colour.BT601  # YUV4MPEG2 states none: players go by the height
    for i in range(len(clip)):
        frame = colour.from_rgb(clip.picture(i), pixels, bits, matrix, full_range=False)
        out.write(b"FRAME\n")
        for plane in frame.planes:
            samples = np.frombuffer(plane, np.uint16 if bits > 8 else np.uint8).reshape(plane.height, -1)
            out.write(np.ascontiguousarray(samples[:, : plane.width]).data)
    out.flush()
