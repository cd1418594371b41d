"""What a video file holds: the stream that is the picture, one clock for all streams, and whether the file is whole."""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition

from davsr.data.frames import require_frame_size
from davsr.errors import InputError

MICROSECOND = Fraction(1, 1_000_000)  # the unit of a container's own times
_NOT_THE_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_BACKWARD = Fraction(1, 20)  # seconds by which a stamp may fall back before it counts as a new beginning
_FORWARD = Fraction(10)  # seconds by which a broadcast stream may jump ahead
# Titles that are not UTF-8 come through as they are; PyAV 19 does so by itself, and knows no such argument any more.
AS_WRITTEN = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
_SLICES = 32  # kinds of HEVC's units below it are of pictures
_RASL = (8, 9)  # those of pictures that are skipped where decoding begins at the key picture before them
_PICTURE_FORMATS = ("_pipe", "image2", "ico")  # ends of FFmpeg's names of those that hold pictures
_PICTURE_BRANDS = frozenset({"avif", "heic", "heix", "heif", "mif1"})  # of ISO files that do
_BROADCAST = frozenset({"mpegts", "mpeg"})  # containers that are joined by writing one file behind another

if hasattr(os, "register_at_fork"):
    # A decoder of its parent's that a forked process takes for garbage would be waited for: its threads are not there.
    os.register_at_fork(after_in_child=gc.freeze)


def media_url(path: str | Path) -> str:
    """A path as FFmpeg takes it: without the prefix a colon in the name makes it look for a protocol."""
    return f"file:{path}"


def open_container(path: str | Path) -> InputContainer:
    """An `av` input container with at least one video stream.

    Raises:
        InputError: it is missing, unreadable, or holds no moving picture.
    """
    try:
        container = av.open(media_url(path), **AS_WRITTEN)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"video {path} cannot be opened: {reason}") from None
    try:
        name, brand = container.format.name, container.metadata.get("major_brand", "")
        if name.endswith(_PICTURE_FORMATS) or brand in _PICTURE_BRANDS:
            raise InputError(
                f"{path} is no video but a picture; give the folder that holds the frames, or a video file"
            )
        picture_stream(container, path)
    except InputError:
        container.close()
        raise
    return container


def side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    """What comes with a decoded `av.VideoFrame`, by FFmpeg's names of it.

    Before PyAV 19 iterating gives the entries, from then on their keys.
    """
    given: Any = frame.side_data
    entries = [item if hasattr(item, "type") else given[item] for item in given]
    return {entry.type.name: bytes(entry) for entry in entries}


def picture_stream(container: InputContainer, path: str | Path) -> av.VideoStream:
    """The first video stream that is a moving picture: no cover, no thumbnails, and with a decoder for it."""
    streams = [s for s in container.streams.video if not s.disposition & _NOT_THE_PICTURE]
    if not streams:
        kind = "no video stream" if not container.streams.video else "only still pictures beside its sound"
        raise InputError(f"video {path} cannot be opened: it holds {kind}")
    stream = next((s for s in streams if s.codec_context is not None), None)
    if stream is None:
        raise InputError(f"video {path} cannot be opened: there is no decoder for its video stream")
    if stream.codec_context.width and stream.codec_context.height:  # 0 where only the first packet tells
        require_frame_size((stream.codec_context.height, stream.codec_context.width), f"video {path}")
    return stream


class Clock:
    """Time stamps that never start again.

    Joined broadcast files begin their time stamps anew at each join. What follows a jump is moved to where the stream
    it occurred in had arrived, in all streams alike, so that sound stays with the picture.
    """

    def __init__(self, container: InputContainer) -> None:
        self.jumped = False
        self._leaps = bool(_BROADCAST & set(container.format.name.split(",")))
        self._offset = Fraction(0)  # seconds, added to all stamps
        # Per stream: its last stamp, and where the next is expected.
        self._arrived: dict[int, tuple[Fraction, Fraction]] = {}

    def set(self, packet: av.Packet) -> None:
        """Put a packet, in the order of the file, on the clock."""
        stamp = packet.dts  # of decoding: that of display goes back and forth
        if not packet.size or stamp is None or not packet.time_base:
            return
        base = Fraction(packet.time_base)
        latest, expected = self._arrived.get(packet.stream_index, (None, None))
        if latest is not None and expected is not None:
            now = stamp * base + self._offset
            # Back from the last stamp, not from its end: durations are guesses where the rate varies.
            if now < latest - _BACKWARD or (self._leaps and now > expected + _FORWARD):
                self._offset += expected - now
                self.jumped = True
        now = stamp * base + self._offset
        self._arrived[packet.stream_index] = now, now + (packet.duration or 0) * base
        if self._offset:
            shift = round(self._offset / base)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift


class Decoder:
    """Gives the pictures of a stream, packet by packet, from where its container stands.

    A stream of HEVC that was cut begins with pictures whose references are missing. Newer FFmpeg leaves them out, and
    with gradual refresh, which has no key pictures, the whole file. Players show what there is, and so does this, but
    for what the standard leaves out: pictures that are stored behind the first key picture and shown before it (RASL).

    Args:
        sought: the container stands behind a seek: what lacks its references there is whole when it is read from the
            start.
    """

    def __init__(self, stream: av.VideoStream, *, sought: bool = False) -> None:
        self.unfounded = 0  # pictures so far of which what they refer to is missing
        self._sought = sought
        self._beginning = stream.codec_context.name == "hevc"  # the first key picture has not come
        self._key: int | None = None  # its stamp
        self._before: set[int] = set()  # stamps of what is stored before it
        self._skipped: set[int] = set()
        if self._beginning:
            stream.codec_context.flags |= Flags.output_corrupt

    def pictures(self, packet: av.Packet) -> Iterator[av.VideoFrame]:
        """The frames that a packet lets out.

        Raises:
            av.FFmpegError: the packet cannot be decoded.
        """
        if self._beginning and packet.size and packet.pts is not None:
            if self._key is None and packet.is_keyframe:
                self._key = packet.pts
            elif (self._key is None or packet.pts < self._key) and _is_skipped_leading(bytes(packet)):
                self._skipped.add(packet.pts)
            elif self._key is None:
                self._before.add(packet.pts)
        for frame in packet.decode():
            self._beginning = self._beginning and (self._key is None or frame.pts != self._key)
            if self._beginning and (frame.pts in self._skipped or (self._sought and frame.pts in self._before)):
                continue
            self.unfounded += self._beginning and frame.pts in self._before
            yield frame


def _is_skipped_leading(packet: bytes) -> bool:
    """Whether a packet of HEVC is a random access skipped leading picture (ITU-T H.265, 7.4.2.2)."""
    marked = packet.startswith((b"\0\0\1", b"\0\0\0\1"))
    units = packet.split(b"\0\0\1")[1:] if marked else _with_lengths(packet)
    kinds = (unit[0] >> 1 & 63 for unit in units if unit)
    return next((kind for kind in kinds if kind < _SLICES), None) in _RASL


def _with_lengths(packet: bytes) -> Iterator[bytes]:
    """The units of a packet that are led by their lengths, 4 bytes each."""
    position = 0
    while position + 4 < len(packet):
        length = int.from_bytes(packet[position : position + 4], "big")
        yield packet[position + 4 : position + 4 + length]
        position += 4 + max(length, 1)


def decoded(container: InputContainer, stream: av.VideoStream, *, sought: bool = False) -> Iterator[av.VideoFrame]:
    """The frames from where the container stands; what cannot be decoded is passed over, as players do."""
    decoder = Decoder(stream, sought=sought)
    try:
        for packet in container.demux(stream):
            try:
                yield from decoder.pictures(packet)
            except av.FFmpegError:
                continue
    except av.FFmpegError:  # the container ends in disorder
        return


def origin(container: InputContainer) -> Fraction:
    """Seconds on the container's clock that count as 0: broadcast streams begin anywhere."""
    return max(Fraction(container.start_time or 0) * MICROSECOND, Fraction(0))


def is_cut_short(path: Path) -> bool:
    """Whether the outermost box of an ISO, Matroska or RIFF file says that it is longer than it is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_end(file, size) > size
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size + 1
        if head[:4] == b"\x1aE\xdf\xa3":
            file.seek(0)
            return _segment_end(file.read(1 << 12)) > size
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last of an ISO file's boxes says that it ends."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: to the end of the file; less: not a box
            return position
        position += length
    return position


def _segment_end(head: bytes) -> int:
    """Where the segment of a Matroska file says that it ends; 0 where it does not say (a live recording)."""

    def number(position: int, keep_marker: bool) -> tuple[int, int]:
        width = 9 - head[position].bit_length()
        value = int.from_bytes(head[position : position + width], "big")
        return value if keep_marker else value & ((1 << 7 * width) - 1), position + width

    position = 0
    try:
        while True:
            name, position = number(position, True)
            start = position
            length, position = number(position, False)
            if name == 0x18538067:
                unknown = length == (1 << 7 * (position - start)) - 1
                return 0 if unknown else position + length
            position += length
    except IndexError:
        return 0
