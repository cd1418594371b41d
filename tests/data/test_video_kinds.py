"""Hundreds of kinds of small files: every frame, at its time, upright, whatever container, codec and time stamps."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from davsr.data.colour import light
from davsr.data.container import is_cut_short
from davsr.data.orientation import Orientation, orientation
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.restoration.source import VideoSource

COUNT = 9
H264, H264_B, HEVC = "libx264 bf=0", "libx264 bf=3", "libx265 bf=3"
MPEG4, MPEG4_B, MPEG2 = "mpeg4 bf=0", "mpeg4 bf=2", "mpeg2video bf=2"
CODECS = {
    "mp4": (H264, H264_B, HEVC, MPEG4_B),
    "mov": (H264_B, HEVC, "mjpeg", "prores_ks"),
    "mkv": (H264_B, HEVC, MPEG4_B, "ffv1", "libvpx-vp9"),
    "avi": (H264, H264_B, MPEG4, MPEG4_B, "mjpeg", "ffv1"),
    "ts": (H264_B, HEVC, MPEG2),
    "webm": ("libvpx", "libvpx-vp9"),
}
RATES = (Fraction(24000, 1001), Fraction(25), Fraction(60), Fraction(12))
EVEN = tuple(range(COUNT))
STAMPS = {  # places of frames, in periods; AVI, MPEG-2 and MPEG-4 are made with even ones only
    "even": EVEN,
    "gap": (0, 1, 2, 3, 6, 7, 8, 9, 10),
    "phone": (0, 0.85, 2.15, 3, 3.85, 5.1, 6.15, 6.85, 8),
    "film": (0, 3, 5, 8, 10, 13, 15, 18, 20),
}
DELAYS = (0, 7)  # periods by which the picture begins after the sound
EIGHT_WAYS = [(turn, mirror) for turn in (0, 90, 180, 270) for mirror in (False, True)]


@dataclass(frozen=True)
class Kind:
    """What a file is made of."""

    container: str
    codec: str
    rate: Fraction
    stamps: str = "even"
    sound: bool = False
    delay: int = 0
    turn: int = 0
    mirror: bool = False

    def __str__(self) -> str:
        facts = (self.container, self.codec, self.rate, self.stamps, self.sound, self.delay, self.turn, self.mirror)
        return "-".join(str(fact).replace("/", "over").replace(" ", "") for fact in facts)


def kinds() -> list[Kind]:
    made = []
    for container, codecs in CODECS.items():
        for codec in codecs:
            for rate in RATES:
                even = container == "avi" or codec.startswith("mpeg")
                for stamps in ("even",) if even else STAMPS:
                    made.append(Kind(container, codec, rate, stamps))
            if container in ("mp4", "mov", "mkv", "ts"):
                made += [Kind(container, codec, RATES[1], sound=True, delay=delay) for delay in DELAYS]
        if container in ("mp4", "mov"):
            made += [Kind(container, codecs[0], RATES[1], turn=t, mirror=m) for t, m in EIGHT_WAYS if t or m]
    return made


def numbered(i: int, h: int = 64, w: int = 96) -> np.ndarray:
    """A frame that tells its number by 4 bars, and its orientation by a corner.

    X265 spoils the heap below 64 pixels.
    """
    frame = np.full((h, w, 3), 60, np.uint8)
    for bit in range(4):
        frame[h // 2 :, bit * w // 4 : (bit + 1) * w // 4] = 230 * (i >> bit & 1)
    frame[: h // 2, : w // 2] = 170
    return frame


def number(frame: np.ndarray) -> int:
    h, w = frame.shape[:2]
    return sum(1 << bit for bit in range(4) if frame[3 * h // 4, (2 * bit + 1) * w // 8].mean() > 115)


def write(path: Path, kind: Kind, count: int = COUNT) -> list[Fraction]:
    """Write a file of a kind; returns the seconds at which its frames are shown, from the first one on."""
    name, _, options = kind.codec.partition(" ")
    fine = Fraction(1, 1) if kind.stamps == "even" else Fraction(1, 100)
    base = fine / kind.rate
    places = tuple(range(count)) if kind.stamps == "even" else STAMPS[kind.stamps]
    ticks = [round((place + kind.delay) / fine) for place in places]
    with av.open(str(path), "w", format={"ts": "mpegts", "mkv": "matroska"}.get(kind.container)) as out:
        stream: Any = out.add_stream(name, rate=kind.rate)
        stream.height, stream.width = 64, 96
        stream.pix_fmt = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(name, "yuv420p")
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = 4
        stream.codec_context.options = quality(name)
        if options:
            stream.codec_context.max_b_frames = int(options[3:])
        if kind.turn or kind.mirror:
            stream.set_display_rotation(kind.turn, hflip=kind.mirror)
        sound: Any = out.add_stream("mp2" if kind.container == "ts" else "aac", rate=48000) if kind.sound else None
        if sound is not None:
            silence(out, sound, 1.0)
        for i, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = tick, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return [(tick - ticks[0]) * base for tick in ticks]


def quality(codec: str) -> dict[str, str]:
    if codec == "libx265":
        return {"preset": "ultrafast", "x265-params": "log-level=none:keyint=4:bframes=2:pools=1:frame-threads=1"}
    if codec == "libx264":
        return {"preset": "veryfast", "crf": "10"}
    if codec.startswith("libvpx"):
        return {"deadline": "realtime", "cpu-used": "8", "crf": "10", "auto-alt-ref": "1", "lag-in-frames": "4"}
    return {}


def silence(out: Any, stream: Any, seconds: float) -> None:
    format = stream.codec_context.format.name
    for start in range(0, int(48000 * seconds), 1152):
        frame = av.AudioFrame(format=format, layout="stereo", samples=1152)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = 48000, start
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def available(codec: str) -> bool:
    return codec.split()[0] in av.codecs_available


@pytest.mark.parametrize("container", CODECS)
def test_every_frame_of_every_kind_at_its_time_and_upright(tmp_path: Path, container: str) -> None:
    """All combinations of a container; a failure names its kind."""
    wrong = [fault for kind in kinds() if kind.container == container for fault in faults(tmp_path, kind)]
    assert not wrong, "\n".join(wrong)


def test_the_kinds_are_many() -> None:
    assert len(kinds()) >= 300
    missing = {kind.codec.split()[0] for kind in kinds() if not available(kind.codec)}
    assert not missing, f"this build of FFmpeg cannot write {missing}"


def faults(folder: Path, kind: Kind) -> list[str]:
    path = folder / f"{kind}.{kind.container}"
    expected = write(path, kind)
    with av.open(str(path)) as container:
        plain = list(container.decode(container.streams.video[0]))
    clip = VideoSource(path)
    clip.open()
    found = []

    def require(holds: bool, what: str) -> None:
        if not holds:
            found.append(f"{kind}: {what}")

    require(len(clip) == len(plain) == COUNT, f"{len(clip)} frames, PyAV has {len(plain)}")
    images = np.stack([(image >> 8).astype(np.uint8) for image in clip.read()])
    turned = np.stack([shown(numbered(i), kind) for i in range(COUNT)])
    require(images.shape == turned.shape, f"size {images.shape}")
    require(
        [number(shown_back(image, kind)) for image in images] == list(range(COUNT)), "frames out of order or mirrored"
    )
    if images.shape == turned.shape:
        require(float(np.abs(images.astype(int) - turned).mean()) < 25, "pictures differ")
    unit = max(clip.time_base, Fraction(1, 1000))
    times = [(t - clip.times[0]) * clip.time_base for t in clip.times]
    off = max((abs(a - b) for a, b in zip(times, expected, strict=False)), default=Fraction(0))
    require(off <= unit, f"off by {float(off)} s")
    require((clip.pictures.rate is not None) == (kind.stamps == "even"), f"rate {clip.pictures.rate}")
    if kind.stamps == "even":
        require(clip.pictures.rate == kind.rate, f"rate {clip.pictures.rate}")
    if kind.delay:
        begin = clip.times[0] * clip.time_base
        require(abs(begin - kind.delay / kind.rate) < Fraction(3, 100), f"begins at {float(begin)} s")
    last = clip.frames(COUNT - 1, COUNT)[0]  # another way in: a seek
    require(number(shown_back(last, kind)) == COUNT - 1, "the last frame by itself is another one")
    require(number(shown_back(clip.frames(2, 3)[0], kind)) == 2, "an earlier frame afterwards is another one")
    schedule = clip.schedule(3, at_zero=False)
    stamps = [schedule.stamp(p) for p in range(3 * COUNT + 1)]
    require(all(b > a for a, b in pairwise(stamps)), "new frames have no times of their own")
    own = [stamps[3 * i] * schedule.base - stamps[0] * schedule.base for i in range(COUNT)]
    require(max(abs(a - b) for a, b in zip(own, expected, strict=True)) <= unit, "frames do not keep their times")
    return found


def shown(image: np.ndarray, kind: Kind) -> np.ndarray:
    """What a player makes of a stored frame: turned counter-clockwise by `turn`, then mirrored."""
    image = np.rot90(image, kind.turn // 90)
    return image[:, ::-1] if kind.mirror else image


def shown_back(image: np.ndarray, kind: Kind) -> np.ndarray:
    return np.rot90(image[:, ::-1] if kind.mirror else image, -(kind.turn // 90))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with the ffmpeg command where there is one")
def test_orientation_is_what_ffmpeg_shows(tmp_path: Path) -> None:
    for turn, mirror in EIGHT_WAYS:
        kind = Kind("mp4", H264, RATES[1], turn=turn, mirror=mirror)
        path = tmp_path / f"{kind}.mp4"
        write(path, kind)
        clip = VideoReader(path)
        h, w = clip.size
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        theirs = np.frombuffer(raw, np.uint8).reshape(-1, h, w, 3)
        assert len(theirs) == COUNT
        assert np.abs(theirs.astype(int) - clip.frames(0, COUNT)).mean() < 8, kind


@pytest.mark.parametrize("codec", [H264_B, HEVC, MPEG2])
@pytest.mark.parametrize("joins", [1, 2])
def test_joined_transport_streams_go_on_in_time(tmp_path: Path, codec: str, joins: int) -> None:
    parts = []
    for n in range(joins + 1):
        write(tmp_path / f"{n}.ts", Kind("ts", codec, Fraction(25)))
        parts.append((tmp_path / f"{n}.ts").read_bytes())
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    clip = VideoReader(tmp_path / "joined.ts", partial=True)
    assert len(clip) == COUNT * (joins + 1)
    assert [number(frame) for frame in clip.frames(0, 99)] == list(range(COUNT)) * (joins + 1)
    assert {(b - a) * clip.time_base for a, b in pairwise(clip.times)} == {Fraction(1, 25)}


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "avi"])
def test_a_file_that_is_cut_off_is_told(tmp_path: Path, container: str) -> None:
    kind = Kind(container, MPEG4 if container == "avi" else H264_B, Fraction(25))
    write(tmp_path / f"whole.{container}", kind, 16)
    whole = tmp_path / f"front.{container}"  # with its index in front, or none
    with av.open(str(tmp_path / f"whole.{container}")) as a:
        options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
        with av.open(str(whole), "w", options=options) as b:
            copy = b.add_stream_from_template(a.streams.video[0])
            for packet in a.demux(a.streams.video[0]):
                if packet.size:
                    packet.stream = copy
                    b.mux(packet)
    assert not is_cut_short(whole) and len(VideoReader(whole)) == 16
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{container}"
    cut.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(InputError, match=r"truncated after frame \d"):
        len(VideoReader(cut))
    rest = VideoReader(cut, partial=True)
    numbers = [number(frame) for frame in rest.frames(0, 99)]
    assert 1 < len(numbers) < 16 and numbers[:-1] == list(range(len(numbers) - 1))  # half of the last may be concealed


@pytest.mark.parametrize("name", ["2024-05-01T12:30:00.mp4", "a b%d.mp4", "ünï.mp4", "-x.mp4", "pipe:1.mp4"])
def test_names_are_only_names(tmp_path: Path, name: str) -> None:
    shutil.copy(made(tmp_path), tmp_path / name)
    assert len(VideoReader(tmp_path / name)) == COUNT


def made(folder: Path) -> Path:
    write(folder / "made.mp4", Kind("mp4", H264, Fraction(25)))
    return folder / "made.mp4"


def test_an_hour_of_a_phone_ends_to_the_tick() -> None:
    """Time stamps of an hour at a varying rate: no drift, however fine the unit."""
    from davsr.data.timing import Schedule

    rng = np.random.default_rng(0)
    for base in (Fraction(1, 90000), Fraction(1, 1_000_000), Fraction(1, 600), Fraction(1001, 24000)):
        unit = max(round(Fraction(1, 30) / base), 1)
        steps = rng.integers(max(unit - unit // 10, 1), unit + unit // 10 + 2, 30 * 3600)
        times = np.concatenate([[17], 17 + np.cumsum(steps)]).tolist()
        schedule = Schedule.varying(times, base, 5)
        assert (schedule.stamp(5 * 30 * 3600) - schedule.stamp(0)) * schedule.base == (times[-1] - times[0]) * base
        for j in (1, 777, 30 * 3600 - 1):
            assert schedule.stamp(5 * j) * schedule.base == times[j] * base
            inner = [schedule.stamp(5 * j + k) for k in range(6)]
            assert len({b - a for a, b in pairwise(inner)}) == 1


@pytest.mark.parametrize("newer", [False, True], ids=["PyAV 18 iterates entries", "PyAV 19 iterates keys"])
def test_what_comes_with_a_frame_is_read_in_either_form(newer):
    class Entry(bytes):
        type = SimpleNamespace(name="CONTENT_LIGHT_LEVEL")

    entry = Entry(struct.pack("=2I", 1000, 400))
    frame = SimpleNamespace(side_data={"key": entry} if newer else [entry])
    assert light(frame).content == (1000, 400) and orientation(frame) == Orientation()
