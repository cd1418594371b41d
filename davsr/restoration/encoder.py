"""Frames into packets: one segment of the output, in the input's colours and depth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from davsr.data import colour
from davsr.data.container import media_url
from davsr.errors import InputError
from davsr.files import sync
from davsr.log import logger
from davsr.options import RestoreOptions
from davsr.pixels import Image16, eight_bits
from davsr.restoration.extras import FORMATS
from davsr.restoration.nowhere import Nowhere
from davsr.restoration.planning import Economy
from davsr.restoration.source import VideoSignal

CODECS = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
_DEPTHS = {"h264": (8, 10), "h265": (8, 10, 12), "ffv1": (8, 10, 12, 14, 16)}  # bits per sample that each can write
_QUICK_PRESETS = ("ultrafast", "superfast", "veryfast")  # that look no farther ahead than an economy makes others look
_REORDERED = 64  # frames by which decoding runs ahead of display, at the very most
_DELAY = 2  # the same, of x265 with its defaults
_RGB = 0  # matrix of RGB samples, as H.273 numbers it


@dataclass(frozen=True)
class Encoding:
    """How frames become packets: a codec of `CODECS`, its quality and effort."""

    codec: str = "h264"
    crf: float = 16  # constant rate factor, lower is better; ffv1 is lossless and has none
    preset: str = "medium"  # the encoder's trade of time for size
    x264: str = ""  # parameters of h264's encoder by which it takes less memory

    @classmethod
    def chosen(cls, options: RestoreOptions, economy: Economy) -> Encoding:
        """As options state it."""
        if economy.x264:
            logger.info(
                f"memory {options.memory:g} GB is short: the encoder takes {economy.x264}, not all of its preset"
            )
        return cls(options.codec, options.crf, options.preset, economy.x264)

    def options(self, light: colour.Light = colour.Light()) -> dict[str, str]:  # noqa: B008  # frozen
        """Options of the encoder; HDR metadata goes into its stream, where decoders look first."""
        if self.codec == "ffv1":
            return {"level": "3", "slices": "4", "slicecrc": "1"}
        options = {"crf": f"{self.crf:g}", "preset": self.preset}
        more = ["log-level=error"] if self.codec == "h265" else []
        if light.display:
            name = "master-display" if self.codec == "h265" else "mastering-display"
            more.append(f"{name}=" + "G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*light.display))
        if light.content:
            name = "max-cll" if self.codec == "h265" else "cll"
            more.append(f"{name}={light.content[0]},{light.content[1]}")
        if self.x264:
            more.append(self.x264)
        if more:
            options["x265-params" if self.codec == "h265" else "x264-params"] = ":".join(more)
        return options

    def depth(self, bits: int) -> int:
        """The bits per sample that are written for an input with `bits`: no fewer where the codec has them."""
        return min((d for d in _DEPTHS[self.codec] if d >= bits), default=_DEPTHS[self.codec][-1])


def economy_of(options: RestoreOptions, size: tuple[int, int]) -> Economy:
    """How reading frames, and writing those of (H, W), save memory where little of it is stated."""
    economy = Economy.of(size, options.memory)
    if options.codec == "h264" and options.preset not in _QUICK_PRESETS:
        return economy
    return replace(economy, x264="", held=Economy.held)


class SegmentEncoder:
    """One segment; time stamps count frames from 0."""

    def __init__(
        self, path: Path, shape: Sequence[int], encoding: Encoding, rate: Fraction, signal: VideoSignal
    ) -> None:
        height, width = shape[:2]
        unit = 1 / rate
        self.grey, self.tags, self.unit = signal.grey, signal.tags, unit
        self.path, self.partial = path, path.with_name(f"open-{path.name}")
        self.bits = encoding.depth(signal.bits)
        if encoding.codec == "ffv1":  # lossless only in RGB
            self.pixels = f"gbrp{self.bits}le" if self.bits > 8 else "bgr0"
            self.tags = {**signal.tags, "matrix": _RGB, "range": colour.FULL}
        else:
            planes = "yuv444p" if height % 2 or width % 2 else "yuv420p"
            self.pixels = planes + (f"{self.bits}le" if self.bits > 8 else "")
        self.container = av.open(media_url(self.partial), "w")
        stream: Any = self.container.add_stream(CODECS[encoding.codec], rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, self.pixels
        stream.time_base = unit
        context = stream.codec_context
        context.time_base = unit
        context.sample_aspect_ratio = signal.aspect
        context.colorspace, context.color_range = self.tags["matrix"], self.tags["range"]
        context.color_trc, context.color_primaries = self.tags["transfer"], self.tags["primaries"]
        context.options = encoding.options(signal.light)
        self.stream, self.count, self.delay = stream, 0, 0
        self.packets = 0

    def write(self, image: Image16) -> None:
        """Encode the next frame, RGB [h, w, 3]."""
        samples = image if self.bits > 8 else eight_bits(image)
        full_range = self.tags["range"] == colour.FULL
        frame = colour.from_rgb(samples, self.pixels, self.bits, self.tags["matrix"], full_range, neutral=self.grey)
        frame.pts, frame.time_base = self.count, self.unit
        self.count += 1
        self._mux(self.stream.encode(frame))

    def _mux(self, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            if packet.dts is None or not packet.pts - _REORDERED <= packet.dts <= packet.pts:
                packet.dts = (
                    self.packets - _DELAY
                )  # x265 leaves it to chance where a segment has only one or two frames
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
        """Close and remove what is not whole."""
        self.container.close()
        self.partial.unlink(missing_ok=True)


def check_container(path: Path, codec: str) -> None:
    """Refuse before work begins a container that is not written, or does not hold the codec."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"output {path} must end in {', '.join(FORMATS)}, or name a folder for PNG frames, got {suffix}"
        )
    try:
        with av.open(Nowhere(), "w", format=FORMATS[suffix]) as probe:
            stream: Any = probe.add_stream(CODECS[codec], rate=25)
            stream.width, stream.height = 64, 64
            stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
            stream.options = {"x265-params": "log-level=none"} if codec == "h265" else {}
            probe.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"output {path} cannot hold {codec}: {error}; write to .mkv") from None
