"""A target of streaming restoration: absent, resumable or whole at any moment.

It grows as numbered segments in the folder `<target>.part`. A segment counts once its record, a small JSON file
written last, lies beside it; the finished segments are joined without encoding again and moved into place.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

from davsr.data.frames import write_image
from davsr.data.video import EXACT, VIDEO_SUFFIXES
from davsr.errors import InputError
from davsr.restoration.source import Deep, Look

CODECS = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
_RGB = 0  # matrix of RGB samples, as H.273 numbers it


@dataclass
class Segment:
    """A finished part of a target: HR frames [start, stop), and where a restart after it begins to read."""

    name: str
    start: int
    stop: int
    resume: int  # LR frame
    scene: int  # LR frame
    delay: int = 0  # frames by which decoding runs ahead of display
    residuals: Sequence[float] = ()


class Target:
    """The output under construction. A kill at any moment leaves nothing, the finished segments, or the whole output.

    Args:
        path: a video file (by its suffix) or a folder for PNG frames.
        settings: everything that the frames depend on, as plain JSON: segments made with others are not continued.
        rate: frames per second; None for folders only.
        look: what is taken over from the input.
        codec: h264, h265 or ffv1.
        crf: constant rate factor, lower is better; ffv1 is lossless and has none.
        preset: the encoder's trade of time for size.
        audio: a video file whose sound is copied, with the time that is 0 here; None: silence.
    """

    def __init__(
        self,
        path: str | Path,
        settings: dict[str, Any],
        *,
        rate: Fraction | None,
        look: Look,
        codec: str = "h264",
        crf: float = 16,
        preset: str = "medium",
        audio: tuple[Path, Fraction] | None = None,
    ) -> None:
        self.path = Path(path)
        self.work = part_folder(self.path)
        self.is_folder = is_folder(self.path)
        self.look, self.codec, self.crf, self.preset, self.audio = look, codec, crf, preset, audio
        self.rate = rate
        self.settings = json.loads(json.dumps(settings))
        self.segments: list[Segment] = []
        self._encoder: _Encoder | None = None
        self._count = 0

    def open(self) -> bool:
        """Prepare the work folder; True if finished segments were found there and are continued."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        record = self.work / "settings.json"
        known = json.loads(record.read_text()) if record.is_file() else None
        if known != self.settings:
            if self.work.exists():
                shutil.rmtree(self.work)
            self.work.mkdir()
            _write_json(record, self.settings)
        self.segments = self._finished()
        self._count = self.segments[-1].stop if self.segments else 0
        return bool(self.segments)

    def _finished(self) -> list[Segment]:
        """The segments that join up from the first frame on; what lies beyond them was interrupted."""
        segments: list[Segment] = []
        for record in sorted(self.work.glob("segment-*.json")):
            segment = Segment(**json.loads(record.read_text()))
            whole = self.is_folder or (self.work / segment.name).is_file()
            if segment.start != (segments[-1].stop if segments else 0) or not whole:
                break
            segments.append(segment)
        return segments

    def write(self, image: Deep) -> None:
        """Append an HR frame [H, W, 3]."""
        if self.is_folder:
            file = self.work / f"{self._count:08d}.png"
            write_image(file, _eight_bits(image))
        else:
            if self._encoder is None:
                self._encoder = _Encoder(self.work / self._name(), image.shape, self)
            self._encoder.write(image)
        self._count += 1

    def _name(self) -> str:
        return f"segment-{len(self.segments):06d}{'.mkv' if self.codec == 'ffv1' else '.mov'}"

    @property
    def pending(self) -> int:
        """HR frames written since the last finished segment."""
        return self._count - (self.segments[-1].stop if self.segments else 0)

    def end_segment(self, resume: int, scene: int, residuals: Sequence[float]) -> None:
        """Finish the segment: from here on a restart keeps its frames."""
        delay = self._encoder.close() if self._encoder is not None else 0
        self._encoder = None
        start = self.segments[-1].stop if self.segments else 0
        segment = Segment(self._name(), start, self._count, resume, scene, delay, list(residuals))
        _write_json(self.work / f"segment-{len(self.segments):06d}.json", segment.__dict__)
        self.segments.append(segment)

    def abort(self) -> None:
        """Close what is open; finished segments stay for a restart."""
        if self._encoder is not None:
            self._encoder.abort()
            self._encoder = None

    def finish(self) -> None:
        """Join the segments and move the whole output into place."""
        if self.is_folder:
            whole = self.work / "whole"
            whole.mkdir(exist_ok=True)
            for file in self.work.glob("*.png"):
                os.replace(file, whole / file.name)
        else:
            whole = self.work / f"whole{self.path.suffix}"
            self._join(whole)
        _move_into_place(whole, self.path, self.work)
        shutil.rmtree(self.work)

    def _join(self, path: Path) -> None:
        """Packets of all segments, and of the sound, in one container; nothing is encoded again."""
        assert self.rate is not None
        unit = 1 / self.rate
        delay = max(segment.delay for segment in self.segments)
        with av.open(
            str(path), "w", options={"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
        ) as out:
            with av.open(str(self.work / self.segments[0].name)) as first:
                video = out.add_stream_from_template(first.streams.video[0])
                video.time_base = unit
                if self.codec == "h265" and path.suffix in (".mp4", ".mov"):
                    video.codec_context.codec_tag = "hvc1"  # the tag that Apple's players ask for
            sound = _Sound(self.audio, out) if self.audio is not None else None
            index = 0
            for segment in self.segments:
                with av.open(str(self.work / segment.name)) as part:
                    for packet in part.demux(part.streams.video[0]):
                        if packet.size == 0:
                            continue
                        shown = segment.start + round(packet.pts * packet.time_base * self.rate)
                        packet.time_base = unit
                        packet.pts, packet.dts, packet.duration = shown, index - delay, 1
                        packet.stream = video
                        if sound is not None:
                            sound.copy_until(packet.dts * unit)
                        out.mux(packet)
                        index += 1
            if sound is not None:
                sound.copy_until(None)
        _sync(path)


class _Encoder:
    """One segment; time stamps count frames from 0."""

    def __init__(self, path: Path, shape: Sequence[int], target: Target) -> None:
        assert target.rate is not None
        height, width = shape[:2]
        look, unit = target.look, 1 / target.rate
        self.grey, self.tags, self.unit = look.grey, look.tags, unit
        self.path, self.partial = path, path.with_name(f"open-{path.name}")
        deep = look.bits > 8
        if target.codec == "ffv1":  # lossless only in RGB
            self.pixels = "gbrp10le" if deep else "bgr0"
            self.tags = {**look.tags, "matrix": _RGB, "range": int(ColorRange.JPEG)}
        else:
            self.pixels = ("yuv444p" if height % 2 or width % 2 else "yuv420p") + ("10le" if deep else "")
        self.format = "rgb48le" if deep else "rgb24"
        self.container = av.open(str(self.partial), "w")
        stream: Any = self.container.add_stream(CODECS[target.codec], rate=target.rate)
        stream.width, stream.height, stream.pix_fmt = width, height, self.pixels
        stream.time_base = unit
        context = stream.codec_context
        context.time_base = unit
        context.sample_aspect_ratio = look.aspect
        context.colorspace, context.color_range = self.tags["matrix"], self.tags["range"]
        context.color_trc, context.color_primaries = self.tags["transfer"], self.tags["primaries"]
        context.options = _codec_options(target)
        self.stream, self.count, self.delay = stream, 0, 0
        self.packets = 0

    def write(self, image: Deep) -> None:
        samples = image if self.format == "rgb48le" else _eight_bits(image)
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
        _sync(self.partial)
        os.replace(self.partial, self.path)
        return self.delay

    def abort(self) -> None:
        self.container.close()
        self.partial.unlink(missing_ok=True)


class _Sound:
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


def part_folder(path: Path) -> Path:
    """Where the segments of a target lie until it is whole."""
    return path.with_name(f"{path.name}.part")


def is_folder(path: Path) -> bool:
    """Whether a target is a folder of frames rather than a video file."""
    return path.suffix.lower() not in VIDEO_SUFFIXES


def has_sound(path: Path) -> bool:
    with av.open(str(path)) as container:
        return bool(container.streams.audio)


def _codec_options(target: Target) -> dict[str, str]:
    if target.codec == "ffv1":
        return {"level": "3", "slices": "4", "slicecrc": "1"}
    options = {"crf": f"{target.crf:g}", "preset": target.preset}
    if target.codec == "h265":
        options["x265-params"] = "log-level=error"
    return options


def _eight_bits(image: Deep) -> npt.NDArray[np.uint8]:
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _write_json(path: Path, tree: Any) -> None:
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(json.dumps(tree))
    _sync(partial)
    os.replace(partial, path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _move_into_place(whole: Path, path: Path, work: Path) -> None:
    """Replace a folder by renaming: there is no moment at which it is half there."""
    if path.is_dir():
        os.replace(path, work / "replaced")
    os.replace(whole, path)
