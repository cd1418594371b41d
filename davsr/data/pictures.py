"""What decoding a whole video file shows: how many pictures there are, when, and whether all are of one kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from davsr.data import colour
from davsr.data.container import MICROSECOND, Clock, Decoder, is_cut_short, open_container, origin, picture_stream
from davsr.data.timing import constant_rate, ordered

_STILL = 0.5  # 8-bit levels: with less change on average, compression made it
_REPEATED = 0.15  # of the change of the liveliest tenth of the pictures
_HOLE = Fraction(5, 100)  # of the stated duration: with more than that missing, parts of a file are
_LONG = Fraction(3, 10)  # seconds: what muxers state too much for the last packets of sound is less


@dataclass
class Pictures:
    """The pictures of a file in the order of display."""

    times: list[int] = field(default_factory=list)  # in units of `base`, 0 being the container's begin
    end: int = 0  # when the last one stops being shown
    base: Fraction = Fraction(1)
    stamps: list[int] = field(default_factory=list)  # as decoded; empty where they do not tell the frames apart
    keys: list[int] = field(default_factory=list)  # indices of pictures from which decoding can begin
    rates: list[Fraction] = field(default_factory=list)  # frames a second that the container states
    skipped: int = 0  # packets before the first picture, which show nothing without what came before them
    unfounded: int = 0  # pictures at the beginning of which what they refer to is missing
    missing: int = 0  # packets that should show something and do not
    lost: list[int] = field(default_factory=list)  # for each packet that could not be decoded: pictures before it
    cut_short: bool = False  # the file ends before it says it does
    other_size: tuple[int, int, int] | None = None  # the first picture of another size: index, h, w
    interlaced: int | None = None  # the first interlaced picture
    transparent: int | None = None  # the first picture that is not opaque
    neutral: bool = True  # none has any colour
    changes: list[float] = field(default_factory=list)  # mean difference of each from the one before, 8-bit levels
    threads: bool = True  # whether several threads may decode it, a frame each

    def __len__(self) -> int:
        return len(self.times)

    @property
    def rate(self) -> Fraction | None:
        """Frames a second if they come evenly but for the container's rounding, else None."""
        return constant_rate(self.times, self.base, self.rates)

    def repeated(self) -> list[int]:
        """Pictures that show what the one before them shows: a film of 24 a second in a file of 60 has 36 of them."""
        if len(self) < 3:
            return []
        motion = float(np.percentile(self.changes[1:], 90))
        limit = min(_STILL, _REPEATED * motion)
        return [i for i, change in enumerate(self.changes) if i and change < limit]


def look_through(path: Path) -> Pictures:
    """Decode the whole file once.

    Packets lie: some show nothing (cut groups of pictures, packed B-frames), others cannot be decoded. Only what the
    decoder gives is counted.

    Raises:
        davsr.errors.InputError: the file cannot be opened.
    """
    found = _look_through(path, threads=True)
    # Frame threads report an error late or never, and lose what lies beside it: then one frame at a time.
    return _look_through(path, threads=False) if found.lost or found.missing else found


def _look_through(path: Path, *, threads: bool) -> Pictures:
    found = Pictures(threads=threads)
    with open_container(path) as container:
        stream = picture_stream(container, path)
        stream.thread_type = "AUTO" if threads else "SLICE"
        found.base = Fraction(stream.time_base)
        stated = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        found.rates = list(dict.fromkeys(Fraction(rate) for rate in stated if rate))
        gathered, decoder = _Decoded(found), Decoder(stream)
        clock, read, reach = Clock(container), 0, Fraction(0)
        for packet in _whole(container):
            clock.set(packet)
            if packet.size and packet.pts is not None:
                reach = max(reach, (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base))
            if packet.stream.index != stream.index:  # not `stream_index`, which the marks of the end lack
                continue
            read += bool(packet.size)
            gathered.expect(packet)
            try:
                for frame in decoder.pictures(packet):
                    gathered.add(frame, lost=frame.is_corrupt and len(gathered.stamps) >= decoder.unfounded)
            except av.FFmpegError:
                found.lost.append(len(gathered.stamps))
        found.unfounded = decoder.unfounded
        lacking, half_empty = read < stream.frames, False
        if not stream.frames and container.duration:
            stated = container.duration * MICROSECOND  # from 0 on in the containers that can be cut short
            lacking = reach + Fraction(1, 20) < stated
            # Matroska is searched for the next whole part after a hole, without a word.
            half_empty = stated - reach > max(_HOLE * stated, _LONG) and "matroska" in container.format.name
        found.cut_short = half_empty or (lacking and is_cut_short(path))
        gathered.finish(origin(container), seekable=not clock.jumped, stated=_stated_end(stream))
    return found


def _stated_end(stream: av.VideoStream) -> Fraction | None:
    """Seconds at which the last picture ends, as Matroska files say it of a track."""
    match = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)", stream.metadata.get("DURATION", ""))
    return 3600 * Fraction(match[1]) + 60 * Fraction(match[2]) + Fraction(match[3]) if match else None


def _whole(container: InputContainer) -> Iterator[av.VideoFrame]:
    """All packets of all streams, to where the container ends in disorder if it does."""
    reading = container.demux()
    while True:
        try:
            packet = next(reading, None)
        except av.FFmpegError:
            return
        if packet is None:
            return
        yield packet


class _Decoded:
    """Gathers facts frame by frame; no frame is kept."""

    def __init__(self, found: Pictures) -> None:
        self.found = found
        self.stamps: list[int | None] = []
        self.began: int | None = None  # decoding stamp of the first packet
        self.expected: list[int] = []  # stamps of packets that should show something
        self.size = (0, 0)
        self.duration = 0
        self.before: np.ndarray | None = None  # luma of the last picture, every fourth sample

    def expect(self, packet: av.Packet) -> None:
        if packet.size and self.began is None:
            self.began = packet.dts
        if packet.size and packet.pts is not None and not packet.is_discard:
            self.expected.append(packet.pts)

    def add(self, frame: av.VideoFrame, *, lost: bool) -> None:
        found, i = self.found, len(self.stamps)
        if not self.stamps:
            self.size = (frame.height, frame.width)
        self.stamps.append(frame.pts)
        if lost:
            found.lost.append(i)
        if frame.key_frame:
            found.keys.append(i)
        if found.other_size is None and (frame.height, frame.width) != self.size:
            found.other_size = (i, frame.height, frame.width)
        if found.interlaced is None and frame.interlaced_frame:
            found.interlaced = i
        if found.transparent is None and colour.has_alpha(frame) and colour.is_transparent(frame):
            found.transparent = i
        now = colour.thumbnail(frame)
        known = self.before if self.before is not None and self.before.shape == now.shape else now
        found.changes.append(float(np.abs(now - known).mean()))
        self.before = now
        found.neutral = found.neutral and colour.is_neutral(frame)
        self.duration = frame.duration or 0

    def finish(self, begin: Fraction, *, seekable: bool, stated: Fraction | None) -> None:
        found, n = self.found, len(self.stamps)
        if not n:
            return
        period = max(round(1 / (found.rates[0] * found.base)) if found.rates else 1, 1)
        times = ordered(self.stamps, period)
        if seekable and times == self.stamps:
            found.stamps = times
        found.missing = max(len(self.expected) - n, 0)
        found.skipped = sum(stamp < times[0] for stamp in self.expected)
        if times != self.stamps and self.began is not None:  # stamped as stored: the first is shown when it is decoded
            times = [t - times[0] + self.began for t in times]
        found.lost = [
            i for i in found.lost if i or not found.skipped
        ]  # those before the first picture are counted there
        shift = round(begin / found.base)
        found.times = [t - shift for t in times]
        steps = sorted(b - a for a, b in pairwise(times)) or [period]
        rest = self.duration or steps[len(steps) // 2]
        if (
            stated is not None
        ):  # Matroska's packets have durations that FFmpeg guesses; its tag may be that of another cut
            said = round(stated / found.base) - shift - found.times[-1]
            rest = said if 0 < said <= 2 * max(rest, steps[-1]) else rest
        found.end = found.times[-1] + rest
