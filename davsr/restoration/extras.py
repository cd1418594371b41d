"""What a video file holds beside its picture, carried over to the output.

Sound, subtitles, chapters, names, attachments.

What the output's container takes is copied as it is; sound that it does not take is encoded as AAC, text that it does
not take is written in its own form; the rest is named in one line. All of it is tried before work begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import OutputContainer
from av.stream import AttachmentStream, Disposition, Stream
from av.subtitles.subtitle import SubtitleSet

from davsr.data.container import Clock, open_container, origin, picture_stream
from davsr.errors import InputError
from davsr.restoration.languages import quicktime_language
from davsr.restoration.nowhere import RATE, probe
from davsr.restoration.tags import (
    chapters_of,
    is_told_elsewhere,
    lasting,
    movflags,
    tags_without_place,
    timecode,
    track_name,
)

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}  # containers that are written
_COPY, _AAC, _TEXT = "copy", "aac", "text"
_TEXT_CODECS = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt"}  # subtitles of text, by container
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_FRAME = 1024  # samples
_LAYOUTS = ("", "mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")  # by the number of channels
_UNHEARD = Fraction(2, 25)  # seconds before its begin that a decoder may want (Opus 80 ms, AAC a packet or two)
_REHEARSED = 50  # packets of sound that are encoded to see whether it works


@dataclass(frozen=True)
class Extras:
    """Which streams of `path` go along, and how."""

    path: Path
    streams: tuple[tuple[int, str], ...] = ()  # (index, copy, aac or text)
    left_out: tuple[str, ...] = ()
    timed: bool = True  # chapters go along: the output runs at the input's pace
    timecode: bool = True  # the container takes the time code
    finer: int = 1  # frames of the output in the time of one of the input
    rate: Fraction = RATE  # frames a second of the output, which not every time code can count
    movflags: str = ""  # how an ISO file is written, besides

    @property
    def encoded(self) -> list[int]:
        """Indices of the sound tracks that are encoded anew."""
        return [index for index, how in self.streams if how == _AAC]

    @property
    def rewritten(self) -> list[int]:
        """Indices of the subtitles that are written in another form."""
        return [index for index, how in self.streams if how == _TEXT]


def choose_extras(
    path: Path,
    target: Path,
    *,
    audio: bool,
    timed: bool,
    finer: int = 1,
    rate: Fraction = RATE,
    from_start: bool = True,
) -> Extras:
    """Find out what of `path` the container of `target` takes, by writing it to nowhere.

    Args:
        audio: whether sound is wanted.
        timed: whether the output runs at the input's pace; otherwise sound, subtitles and chapters would not fit.
        finer: frames of the output in the time of one of the input, in which the time code counts.
        rate: frames a second of the output.
        from_start: whether the first picture goes along, of which the time code is.

    Raises:
        InputError: the sound fits neither as it is nor as AAC.
    """
    format, streams, left_out = FORMATS[target.suffix.lower()], [], []
    with open_container(path) as container:
        picture = picture_stream(container, path)
        for stream in container.streams:
            if stream.index == picture.index or is_told_elsewhere(stream, container):
                continue
            kind = "sound" if stream.type == "audio" else stream.type
            name = f"{kind} track {stream.index} ({track_name(stream)})"
            if stream.type == "audio" and not (audio and timed):
                left_out.append(name if audio else f"{name}: switched off")
            elif stream.type in ("audio", "subtitle", "attachment") and (timed or stream.type == "attachment"):
                how = next((how for how in (_COPY, _AAC, _TEXT) if _fits(path, stream, format, how)), None)
                if how is not None:
                    streams.append((stream.index, how))
                elif stream.type == "audio":
                    raise InputError(
                        f"output {target} cannot hold {name} of {path}, neither as it is nor as AAC; give --no-audio"
                    )
                else:
                    left_out.append(name)
            else:
                left_out.append(name)
        if chapters_of(container) and not timed:
            left_out.append("chapters")
        tags = lasting(container.metadata)
        if lost := tags_without_place(tags, format):
            left_out.append(lost)
        if not from_start and timecode(container, picture, finer):
            left_out.append("time code")
    chosen = Extras(path, tuple(streams), tuple(left_out), timed, from_start, finer, rate, movflags(tags))
    try:
        _rehearse(chosen, format)
    except (av.FFmpegError, ValueError):
        streams = [_written(chosen, index, how, format) for index, how in streams]
        chosen = replace(chosen, streams=tuple(streams))
    try:
        _rehearse(chosen, format)
    except (av.FFmpegError, ValueError):
        chosen = replace(chosen, left_out=(*chosen.left_out, "time code"), timecode=False)
        try:
            _rehearse(chosen, format)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"output {target} cannot hold the sound of {path}: {_reason(error)}; give --no-audio"
            ) from None
    return chosen


def _reason(error: Exception) -> str:
    log = getattr(error, "log", None)
    return log[2] if log else getattr(error, "strerror", None) or str(error)


def _fits(path: Path, stream: Stream, format: str, how: str) -> bool:
    if stream.type != {_AAC: "audio", _TEXT: "subtitle"}.get(how, stream.type):
        return False
    if how == _TEXT and not hasattr(stream.codec_context, "encode_subtitle"):  # of a PyAV that reads subtitles only
        return False
    try:
        out, _ = probe(format)
        with out:
            _Track(out, stream, how)
            out.start_encoding()
    except (av.FFmpegError, ValueError, AttributeError):
        return False
    return how != _TEXT or _is_text(path, stream.index)


def _is_text(path: Path, index: int) -> bool:
    """Whether subtitles are text rather than pictures of it."""
    with open_container(path) as container:
        for packet in container.demux(container.streams[index]):
            for part in _tolerant(packet.decode) if packet.size else []:
                return bool(part.type == b"ass")
    return False


def _written(extras: Extras, index: int, how: str, format: str) -> tuple[int, str]:
    """How a stream goes along whose header fits, and whose packets may not: 8 channels of PCM in mp4."""
    with open_container(extras.path) as container:
        if how != _COPY or container.streams[index].type != "audio":
            return index, how
    try:
        _rehearse(Extras(extras.path, ((index, _COPY),), timed=False), format)
    except (av.FFmpegError, ValueError):
        return index, _AAC
    return index, _COPY


def _rehearse(extras: Extras, format: str) -> None:
    out, video = probe(format, extras.rate)
    with out:
        copy = ExtraCopy(extras, out, video, rehearsal=True)
        out.start_encoding()
        copy.copy_until(None)


class ExtraCopy:
    """The extras of a file on their way into an output that is not started yet."""

    def __init__(self, extras: Extras, out: OutputContainer, video: av.VideoStream, *, rehearsal: bool = False) -> None:
        self.out, self.rehearsal = out, rehearsal
        self.container = open_container(extras.path)
        picture = picture_stream(self.container, extras.path)
        self.begin = origin(self.container)
        self.tracks = {i: _Track(out, self.container.streams[i], how) for i, how in extras.streams}
        self._describe(extras, video, picture)
        self.clock = Clock(self.container)
        self.packets = self._packets()
        self.waiting: av.Packet | None = None

    def _describe(self, extras: Extras, video: av.VideoStream, picture: av.VideoStream) -> None:
        """Names, languages, flags, dates, the time code and chapters."""
        tags = lasting(self.container.metadata)
        code = timecode(self.container, picture, extras.finer)
        if code and extras.timecode:
            tags["timecode"] = code
        self.out.metadata.update(tags)
        video.metadata.update(lasting(picture.metadata))
        video.disposition = (picture.disposition | Disposition.default).value
        chapters = chapters_of(self.container) if extras.timed else []
        if chapters:
            self.out.set_chapters(chapters)

    def _packets(self) -> Iterator[av.Packet]:
        try:
            for packet in self.container.demux():
                self.clock.set(packet)
                if packet.size and packet.stream.index in self.tracks and not self._is_unheard(packet):
                    yield packet
        except av.FFmpegError:  # the container ends in disorder
            return

    def _is_unheard(self, packet: av.Packet) -> bool:
        """Whether an edit of the file leaves a packet of sound out, and no decoder needs it for what comes after."""
        if not packet.is_discard or packet.stream.type != "audio" or self.tracks[packet.stream.index].how != _COPY:
            return False
        end = None if packet.pts is None else (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base)
        return end is None or not self.begin - _UNHEARD < end <= self.begin

    def copy_until(self, time: Fraction | None) -> None:
        """Copy what comes before `time` seconds; None: all that is left."""
        while True:
            if self.waiting is None:
                self.waiting = next(self.packets, None)
            packet = self.waiting
            if packet is None:
                break
            track = self.tracks[packet.stream.index]
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * Fraction(packet.time_base) - self.begin >= time:
                return
            if not self.rehearsal or track.how == _COPY or track.count < _REHEARSED:
                track.put(packet, self.begin)
            self.waiting = None
        for track in self.tracks.values():
            track.finish()
        self.tracks = {}
        self.container.close()


class _Track:
    """One stream of the output that is copied or encoded as AAC."""

    def __init__(self, out: OutputContainer, stream: Stream, how: str) -> None:
        self.out, self.how, self.count = out, how, 0
        self.latest: int | None = None
        self.apart = 0 if out.format.name == "matroska" else 1  # by which stamps have to differ
        self.copy: Any
        if isinstance(stream, AttachmentStream):
            self.copy = out.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
            return
        if how == _COPY:
            self.copy = out.add_stream_from_template(stream)
        elif how == _TEXT:
            if not stream.codec_context.is_open:
                stream.codec_context.open()  # which tells its styles
            self.copy = out.add_stream(_TEXT_CODECS[out.format.name])
            self.copy.codec_context.subtitle_header = stream.codec_context.subtitle_header or None
        else:
            sound = cast(av.AudioStream, stream)
            rate = sound.rate if sound.rate in _AAC_RATES else 48000
            channels = min(max(sound.layout.nb_channels, 1), len(_LAYOUTS) - 1)
            self.copy = out.add_stream("aac", rate=rate, layout=_LAYOUTS[channels])
            self.copy.codec_context.bit_rate = 96000 * channels
            self.resampler = av.AudioResampler("fltp", _LAYOUTS[channels], rate, frame_size=_AAC_FRAME)
        self.copy.metadata.update(lasting(stream.metadata))
        if out.format.name == "mov" and "language" in stream.metadata:
            self.copy.metadata["language"] = quicktime_language(stream.metadata["language"])
        if "title" in stream.metadata and out.format.name in ("mp4", "mov"):  # which have no other place for it
            self.copy.metadata["handler_name"] = stream.metadata["title"]
        self.copy.disposition = stream.disposition.value

    def put(self, packet: av.Packet, begin: Fraction) -> None:
        """Copy or encode a packet; `begin` seconds become 0."""
        self.count += 1
        base = Fraction(packet.time_base)
        shift = round(begin / base)
        if self.how == _AAC:
            for frame in _tolerant(packet.decode):
                if frame.pts is None and packet.pts is not None:
                    frame.pts, frame.time_base = packet.pts, base
                if frame.pts is not None:
                    frame.pts -= round(begin / Fraction(frame.time_base))
                self._encode(frame)
            return
        if self.how == _TEXT:
            packet = self._text(packet)
            if packet is None:
                return
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:  # goes on where the last one ended
            stamp = (self.latest or 0) + 1 + shift
        decoding = stamp - shift
        if (
            self.latest is not None
        ):  # TrueHD has more packets than Matroska has milliseconds; broken files repeat stamps
            decoding = max(decoding, self.latest + self.apart)
            # Of the last packet an ISO file plays only what its duration says, which Matroska often does not.
            packet.duration = packet.duration or (decoding - self.latest if packet.stream.type == "audio" else 0)
        self.latest = decoding
        shown = decoding if packet.pts is None else packet.pts - shift
        packet.dts, packet.pts = decoding, max(shown, decoding)
        packet.stream = self.copy
        self.out.mux(packet)

    def _text(self, packet: av.Packet) -> av.Packet | None:
        """A packet of subtitles in the output's form, for the same time; None where nothing is to be read."""
        parts = [part for part in _tolerant(packet.decode) if part.type == b"ass"]
        if not parts:
            return None
        text = b"\\N".join([parts[0].ass, *(part.ass.split(b",", 8)[-1] for part in parts[1:])])
        made = self.copy.codec_context.encode_subtitle(SubtitleSet.create(text, 0, packet.duration or 0))
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration or 0
        made.time_base = packet.time_base
        return made

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for part in self.resampler.resample(frame):
            self.out.mux(self.copy.encode(part))

    def finish(self) -> None:
        """Encode what is held back."""
        if self.how == _AAC:
            self._encode(None)
            self.out.mux(self.copy.encode(None))


def _tolerant(decode: Any) -> list[Any]:
    """Frames of a packet; none of one that cannot be decoded, which sounds as silence."""
    try:
        return list(decode())
    except av.FFmpegError:
        return []
