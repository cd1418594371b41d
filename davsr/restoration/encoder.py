"""Video and sound into containers: one segment encoded, sound copied, and what a container can hold."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from davsr.data.video import EXACT
from davsr.errors import InputError
from davsr.files import sync
from davsr.pixels import Image16, eight_bits
from davsr.restoration.source import Look

CODECS = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
_RGB = 0  # matrix of RGB samples, as H.273 numbers it


@dataclass(frozen=True)
class Encoding:
    """How frames become packets: a codec of `CODECS`, its quality and effort."""

    codec: str = "h264"
    crf: float = 16  # constant rate factor, lower is better; ffv1 is lossless and has none
    preset: str = "medium"  # the encoder's trade of time for size

    def options(self) -> dict[str, str]:
        """Options of the encoder."""
        if self.codec == "ffv1":
            return {"level": "3", "slices": "4", "slicecrc": "1"}
        options = {"crf": f"{self.crf:g}", "preset": self.preset}
        if self.codec == "h265":
            options["x265-params"] = "log-level=error"
        return options


class SegmentEncoder:
    """One segment; time stamps count frames from 0."""

    def __init__(self, path: Path, shape: Sequence[int], encoding: Encoding, rate: Fraction, look: Look) -> None:
        height, width = shape[:2]
        unit = 1 / rate
        self.grey, self.tags, self.unit = look.grey, look.tags, unit
        self.path, self.partial = path, path.with_name(f"open-{path.name}")
        deep = look.bits > 8
        if encoding.codec == "ffv1":  # lossless only in RGB
            self.pixels = "gbrp10le" if deep else "bgr0"
            self.tags = {**look.tags, "matrix": _RGB, "range": int(ColorRange.JPEG)}
        else:
            self.pixels = ("yuv444p" if height % 2 or width % 2 else "yuv420p") + ("10le" if deep else "")
        self.format = "rgb48le" if deep else "rgb24"
        self.container = av.open(str(self.partial), "w")
        stream: Any = self.container.add_stream(CODECS[encoding.codec], rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, self.pixels
        stream.time_base = unit
        context = stream.codec_context
        context.time_base = unit
        context.sample_aspect_ratio = look.aspect
        context.colorspace, context.color_range = self.tags["matrix"], self.tags["range"]
        context.color_trc, context.color_primaries = self.tags["transfer"], self.tags["primaries"]
        context.options = encoding.options()
        self.stream, self.count, self.delay = stream, 0, 0
        self.packets = 0

    def write(self, image: Image16) -> None:
        samples = image if self.format == "rgb48le" else eight_bits(image)
        if self.grey:
            mean = samples.mean(axis=2, keepdims=True, dtype=np.float32) + np.float32(0.5)
            samples = np.broadcast_to(mean.astype(samples.dtype), samples.shape)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(samples), format=self.format)
        if self.tags["matrix"] == _RGB:
            frame = frame.reformat(format=self.pixels)
        else:
            frame = frame.reformat(
                format=self.pixels,
                dst_colorspace=self.tags["matrix"],
                dst_color_range=self.tags["range"],
                interpolation=EXACT,
            )
        frame.pts, frame.time_base = self.count, self.unit
        self.count += 1
        self._mux(self.stream.encode(frame))

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            self.delay = max(self.delay, self.packets - round(packet.pts * packet.time_base / self.unit))
            self.packets += 1
            self.container.mux(packet)

    def close(self) -> int:
        """Finish the file; returns by how many frames decoding runs ahead of display."""
        self._mux(self.stream.encode(None))
        self.container.close()
        sync(self.partial)
        os.replace(self.partial, self.path)
        return self.delay

    def abort(self) -> None:
        self.container.close()
        self.partial.unlink(missing_ok=True)


class SoundCopy:
    """Audio packets of the input, copied as they are, from the first video frame's time on as time 0."""

    def __init__(self, audio: tuple[Path, Fraction], out: Any) -> None:
        path, self.begin = audio
        self.out, self.container = out, av.open(str(path))
        streams = self.container.streams.audio
        self.copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        self.packets: Iterator[Any] = iter(self.container.demux(*streams)) if streams else iter(())
        self.waiting: Any = None

    def copy_until(self, time: Fraction | None) -> None:
        """Copy the packets before `time` seconds; None: all that are left."""
        while True:
            if self.waiting is None:
                self.waiting = next(self.packets, None)
            packet = self.waiting
            if packet is None:
                self.container.close()
                return
            if packet.size == 0:  # the demuxer's end mark
                self.waiting = None
                continue
            base = Fraction(packet.time_base)
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is None:
                raise InputError("restore.audio: a packet of the input's sound carries no time; give --no-audio")
            if time is not None and stamp * base - self.begin >= time:
                return
            offset = round(self.begin / base)
            packet.pts = (stamp if packet.pts is None else packet.pts) - offset
            packet.dts = stamp - offset
            packet.stream = self.copies[packet.stream.index]
            self.out.mux(packet)
            self.waiting = None


def check_container(path: Path, codec: str, audio: Path | None) -> None:
    """Refuse before work begins what the container cannot hold."""
    advice = "write to .mkv" if audio is None else "write to .mkv or give --no-audio"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with av.open(str(Path(folder) / f"probe{path.suffix}"), "w") as probe:
                probe.add_stream(CODECS[codec], rate=25)
                if audio is not None:
                    with av.open(str(audio)) as source:
                        for stream in source.streams.audio:
                            probe.add_stream_from_template(stream)
        except ValueError as error:
            raise InputError(f"output {path} cannot hold what is asked for: {error}; {advice}") from None


def has_sound(path: Path) -> bool:
    with av.open(str(path)) as container:
        return bool(container.streams.audio)
