"""A target of streaming restoration: absent, resumable or whole at any moment.

It grows as numbered segments in the folder `<target>.part`. A segment counts once its record, a small JSON file
written last, lies beside it; the finished segments are joined without encoding again and moved into place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av

from davsr.data.colour import Light
from davsr.data.container import media_url
from davsr.data.frames import IMAGE_SUFFIXES, write_image
from davsr.data.timing import Schedule
from davsr.errors import InputError
from davsr.files import claim, read_record, remove_ours, renew, sync, write_record
from davsr.guards.names import beside
from davsr.pixels import Image16, eight_bits
from davsr.restoration.encoder import Encoding, SegmentEncoder
from davsr.restoration.extras import FORMATS, ExtraCopy, Extras
from davsr.restoration.light_boxes import stream_with_light
from davsr.restoration.source import VideoSignal

_FINE = 90_000  # units a second of a header, at least: what MPEG counts in
_DONE = "done.json"  # record that the output was whole before it was moved into place


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
    sizes: Sequence[int] = ()  # bytes of its files: of each frame, or of the video


class Target:
    """The output under construction. A kill at any moment leaves nothing, the finished segments, or the whole output.

    Args:
        path: a video file (by its suffix) or a folder for PNG frames.
        settings: everything that the frames depend on, as plain JSON: segments made with others are not continued.
        schedule: when its frames are shown; None for folders only.
        signal: what is taken over from the input.
        encoding: codec, quality and effort.
        extras: sound and whatever else comes along; None: nothing.
    """

    def __init__(
        self,
        path: str | Path,
        settings: dict[str, Any],
        *,
        schedule: Schedule | None,
        signal: VideoSignal,
        encoding: Encoding = Encoding(),  # noqa: B008  # frozen
        extras: Extras | None = None,
    ) -> None:
        self.path = Path(path)
        self.work = part_folder(self.path)
        self.is_folder = is_folder(self.path)
        self.signal, self.encoding, self.extras = signal, encoding, extras
        self.schedule = schedule
        self.settings = json.loads(json.dumps(settings))
        self.segments: list[Segment] = []
        self._encoder: SegmentEncoder | None = None
        self._count = 0

    def open(self) -> bool:
        """Prepare the work folder; True if finished segments were found there and are continued."""
        claim(self.work)
        self._undo_move()
        if read_record(self.work / "settings.json") != self.settings:
            renew(self.work)
            write_record(self.work / "settings.json", self.settings)
        self.segments = self._finished()
        self._count = self.segments[-1].stop if self.segments else 0
        return bool(self.segments)

    def forget(self) -> None:
        """Begin anew: what is there was made by a plan that is not known any more."""
        self.segments, self._count = [], 0

    def _undo_move(self) -> None:
        """After a run that ended while it moved a folder into place.

        The frames lie together again, the old output stands.
        """
        replaced = self.work / "replaced"
        if replaced.is_dir() and not self.path.exists():
            os.replace(replaced, self.path)
        for file in (self.work / "whole").glob("*.png"):
            os.replace(file, self.work / file.name)

    def _finished(self) -> list[Segment]:
        """The segments that join up from the first frame on; what lies beyond them was interrupted, or is damaged."""
        segments: list[Segment] = []
        while True:
            tree = read_record(self._record(len(segments)))
            try:
                segment = Segment(**(tree or {}))
            except TypeError:  # there is none, or one of another version
                return segments
            if segment.start != (segments[-1].stop if segments else 0) or segment.name != self._name(len(segments)):
                return segments
            if list(segment.sizes) != self._sizes(segment):
                return segments
            segments.append(segment)

    def _record(self, number: int) -> Path:
        return self.work / f"segment-{number:06d}.json"

    def _sizes(self, segment: Segment) -> list[int]:
        """Bytes of the files of a segment, as far as they are there."""
        names = [f"{p:08d}.png" for p in range(segment.start, segment.stop)] if self.is_folder else [segment.name]
        files = [self.work / name for name in names]
        return [file.stat().st_size for file in files if file.is_file()]

    def write(self, image: Image16) -> None:
        """Append an HR frame [H, W, 3]."""
        if self.is_folder:
            file = self.work / f"{self._count:08d}.png"
            write_image(file, eight_bits(image))
        else:
            if self._encoder is None:
                assert self.schedule is not None
                self._encoder = SegmentEncoder(
                    self.work / self._name(len(self.segments)),
                    image.shape,
                    self.encoding,
                    self.schedule.rate,
                    self.signal,
                )
            self._encoder.write(image)
        self._count += 1

    def _name(self, number: int) -> str:
        return f"segment-{number:06d}{'.mkv' if self.encoding.codec == 'ffv1' else '.mov'}"

    @property
    def pending(self) -> int:
        """HR frames written since the last finished segment."""
        return self._count - (self.segments[-1].stop if self.segments else 0)

    def end_segment(self, resume: int, scene: int, residuals: Sequence[float]) -> None:
        """Finish the segment: from here on a restart keeps its frames."""
        delay = self._encoder.close() if self._encoder is not None else 0
        self._encoder = None
        start = self.segments[-1].stop if self.segments else 0
        name = self._name(len(self.segments))
        segment = Segment(name, start, self._count, resume, scene, delay, list(residuals))
        segment.sizes = self._sizes(segment)
        write_record(self._record(len(self.segments)), segment.__dict__)
        self.segments.append(segment)

    def abort(self) -> None:
        """Close what is open; finished segments stay for a restart."""
        if self._encoder is not None:
            self._encoder.abort()
            self._encoder = None

    def finish(self, frames: int) -> None:
        """Join the segments and move the whole output into place.

        Raises:
            InputError: it does not have so many frames; what is there stays for a restart.
        """
        self._require_frames(self.segments[-1].stop if self.segments else 0, frames)
        if self.is_folder:
            whole = self.work / "whole"
            whole.mkdir(exist_ok=True)
            count = 0
            for file in self.work.glob("*.png"):
                if int(file.stem) < frames:  # beyond them: what a longer input left behind
                    os.replace(file, whole / file.name)
                    count += 1
        else:
            whole = self.work / f"whole{self.path.suffix}"
            count = self._join(whole)
        self._require_frames(count, frames)
        write_record(self.work / _DONE, {"frames": frames})
        if self.is_folder and self.path.is_dir():  # by renaming: there is no moment at which it is half there
            os.replace(self.path, self.work / "replaced")
        os.replace(whole, self.path)
        remove_ours(self.work)

    def _require_frames(self, count: int, frames: int) -> None:
        if count != frames:
            raise InputError(
                f"output {self.path} has {count} of {frames} frames: the input ended early, or {self.work} was changed"
            )

    def _join(self, path: Path) -> int:
        """Packets of all segments, and of the extras, in one container; nothing is encoded again.

        Returns the frames' number.
        """
        assert self.schedule is not None
        schedule, format = self.schedule, FORMATS[path.suffix.lower()]
        delay = max(segment.delay for segment in self.segments)
        # The header of an ISO file counts in ms unless it is told otherwise: too coarse for edits and durations.
        unit = schedule.base.denominator * max(-(-_FINE // schedule.base.denominator), 1)
        flags = self.extras.movflags if self.extras is not None else ""
        movable = {"movflags": f"+faststart{flags}", "movie_timescale": str(unit)} if format != "matroska" else {}
        with av.open(media_url(path), "w", format=format, options=movable) as out:
            light = self.signal.light if self.encoding.codec != "ffv1" else Light()
            with (
                av.open(media_url(self.work / self.segments[0].name)) as first,
                stream_with_light(first, light) as described,
            ):
                video: Any = out.add_stream_from_template(described)
                video.time_base = schedule.base
                # Matroska states a duration for every frame where it is told a rate.
                video.codec_context.framerate = schedule.rate if schedule.steady or format != "matroska" else 0
                if self.encoding.codec == "h265" and format != "matroska":
                    video.codec_context.codec_tag = "hvc1"  # the tag that Apple's players ask for
            extras = ExtraCopy(self.extras, out, video) if self.extras is not None else None
            index = 0
            for segment in self.segments:
                with av.open(media_url(self.work / segment.name)) as part:
                    for packet in part.demux(part.streams.video[0]):
                        if packet.size == 0:
                            continue
                        frame = segment.start + round(packet.pts * packet.time_base * schedule.rate)
                        packet.time_base = schedule.base
                        packet.pts, packet.dts = schedule.stamp(frame), schedule.stamp(index - delay)
                        packet.duration = schedule.stamp(frame + 1) - packet.pts
                        packet.stream = video
                        if extras is not None:
                            extras.copy_until(packet.dts * schedule.base)
                        out.mux(packet)
                        index += 1
            if extras is not None:
                extras.copy_until(None)
        sync(path)
        return index


def part_folder(path: Path) -> Path:
    """Where the segments of a target lie until it is whole."""
    return beside(path, "", ".part")


def is_folder(path: Path) -> bool:
    """Whether a target is a folder of frames rather than a file: it is one already, or no program writes such files."""
    return path.is_dir() or path.suffix.lower()[1:] not in _media_suffixes()


@cache
def _media_suffixes() -> frozenset[str]:
    names = {name for format in av.formats_available for name in _extensions(format)}
    return frozenset(names | {suffix[1:] for suffix in IMAGE_SUFFIXES})


def _extensions(format: str) -> set[str]:
    try:
        return {name.strip().lower() for name in av.ContainerFormat(format).extensions}
    except ValueError:  # devices are listed, but are no formats
        return set()


def clear_finished(path: Path) -> None:
    """Remove the work folder of a run that ended between moving its output into place and clearing up."""
    work = part_folder(path)
    if path.exists() and read_record(work / _DONE) is not None and not any(work.glob("whole*")):
        remove_ours(work)
