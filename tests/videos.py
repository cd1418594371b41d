"""Tiny videos of a moving pattern, made with PyAV, in the kinds that cameras and programs write."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np


def pattern(t: int, h: int = 24, w: int = 32, speed: float = 0.7, seed: int = 0) -> np.ndarray:
    """uint8 RGB [t, h, w, 3]: smooth colour waves that move."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:h, :w]
    frames = np.zeros((t, h, w, 3))
    for channel in range(3):
        for _ in range(3):
            a, b, phase = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6), rng.uniform(0, 6)
            for j in range(t):
                frames[j, :, :, channel] += np.sin(a * rows + b * (columns - speed * j) + phase)
    return np.clip(128 + 35 * frames, 0, 255).astype(np.uint8)


def write_video(
    path: Path,
    frames: np.ndarray,
    rate: Fraction | int = Fraction(24000, 1001),
    *,
    pixels: str = "yuv444p",
    codec: str = "libx264",
    times: list[int] | None = None,
    tags: dict[str, int] | None = None,
    rotation: int = 0,
    sound: bool = False,
    aspect: Fraction | None = None,
) -> Path:
    """A nearly lossless video; `times` in units of 1 / rate make the rate variable."""
    rate = Fraction(rate)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.options = {} if codec == "ffv1" else {"crf": "1"}
        stream.codec_context.time_base = 1 / rate
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        audio = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        if audio is not None:
            _tone(out, audio, float(len(frames) / rate))
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(
                format=pixels,
                dst_colorspace=(tags or {}).get("colorspace", 6),
                dst_color_range=(tags or {}).get("color_range", 1),
            )
            frame.pts, frame.time_base = (times[i] if times else i), 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _tone(out: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) * 0.2).astype(np.float32)[None]
    for start in range(0, samples.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def decode(path: Path, format: str = "rgb24") -> np.ndarray:
    """All frames, by the matrix and range of the file."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format=format) for frame in container.decode(video=0)])


def about(path: Path) -> dict[str, object]:
    """What a player is told."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(p.pts for p in container.demux(stream) if p.size)
        context = stream.codec_context
        return {
            "size": (context.height, context.width),
            "rate": stream.average_rate,
            "frames": len(times),
            "steps": {(b - a) * stream.time_base for a, b in pairwise(times)},
            "start": times[0] * stream.time_base,
            "matrix": int(context.colorspace),
            "range": int(context.color_range),
            "pixels": context.pix_fmt,
            "aspect": stream.sample_aspect_ratio,
            "codec": context.name,
        }


def sound_of(path: Path) -> tuple[list[bytes], list[float]]:
    """Audio packets and their times in seconds."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return [], []
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
        return [bytes(p) for p in packets], [float(p.pts * p.time_base) for p in packets]


def duration_of(path: Path) -> Fraction:
    """Seconds from the first frame to the end of the last, as the packets state them; Matroska states it in a tag."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        first, end = min(p.pts for p in packets), max(p.pts + p.duration for p in packets)
        if "DURATION" in stream.metadata:
            hours, minutes, seconds = (Fraction(part) for part in stream.metadata["DURATION"].split(":"))
            return 3600 * hours + 60 * minutes + seconds - Fraction(first * stream.time_base)
        return Fraction((end - first) * stream.time_base)
