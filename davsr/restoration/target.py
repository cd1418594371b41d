"""A target of streaming restoration: absent, resumable or whole at any moment.

It grows as numbered segments in the folder `<target>.part`. A segment counts once its record, a small JSON file
written last, lies beside it; the finished segments are joined without encoding again and moved into place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from davsr.data.frames import write_image
from davsr.data.video import VIDEO_SUFFIXES
from davsr.files import sync, write_json
from davsr.pixels import Image16, eight_bits
from davsr.restoration.encoder import (
    Encoding,
    SegmentEncoder,
    SoundCopy,
)
from davsr.restoration.source import Look


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
        encoding: codec, quality and effort.
        audio: a video file whose sound is copied, with the time that is 0 here; None: silence.
    """

    def __init__(
        self,
        path: str | Path,
        settings: dict[str, Any],
        *,
        rate: Fraction | None,
        look: Look,
        encoding: Encoding = Encoding(),  # noqa: B008  # frozen
        audio: tuple[Path, Fraction] | None = None,
    ) -> None:
        self.path = Path(path)
        self.work = part_folder(self.path)
        self.is_folder = is_folder(self.path)
        self.look, self.encoding, self.audio = look, encoding, audio
        self.rate = rate
        self.settings = json.loads(json.dumps(settings))
        self.segments: list[Segment] = []
        self._encoder: SegmentEncoder | None = None
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
            write_json(record, self.settings)
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

    def write(self, image: Image16) -> None:
        """Append an HR frame [H, W, 3]."""
        if self.is_folder:
            file = self.work / f"{self._count:08d}.png"
            write_image(file, eight_bits(image))
        else:
            if self._encoder is None:
                assert self.rate is not None
                self._encoder = SegmentEncoder(
                    self.work / self._name(), image.shape, self.encoding, self.rate, self.look
                )
            self._encoder.write(image)
        self._count += 1

    def _name(self) -> str:
        return f"segment-{len(self.segments):06d}{'.mkv' if self.encoding.codec == 'ffv1' else '.mov'}"

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
        write_json(self.work / f"segment-{len(self.segments):06d}.json", segment.__dict__)
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
                if self.encoding.codec == "h265" and path.suffix in (".mp4", ".mov"):
                    video.codec_context.codec_tag = "hvc1"  # the tag that Apple's players ask for
            sound = SoundCopy(self.audio, out) if self.audio is not None else None
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
        sync(path)


def part_folder(path: Path) -> Path:
    """Where the segments of a target lie until it is whole."""
    return path.with_name(f"{path.name}.part")


def is_folder(path: Path) -> bool:
    """Whether a target is a folder of frames rather than a video file."""
    return path.suffix.lower() not in VIDEO_SUFFIXES


def _move_into_place(whole: Path, path: Path, work: Path) -> None:
    """Replace a folder by renaming: there is no moment at which it is half there."""
    if path.is_dir():
        os.replace(path, work / "replaced")
    os.replace(whole, path)
