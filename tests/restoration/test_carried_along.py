"""What goes along with the picture: names, chapters, subtitles in the form of the container, HDR metadata."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import pytest

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.data.colour import Light
from davsr.data.container import side_data
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.light_boxes import stream_with_light
from davsr.restoration.restore import restore
from tests.videos import about, pattern, write_video

CASES = Path(__file__).parents[1] / "data" / "cases"
FAST = {"preset": "ultrafast", "crf": 4.0, "size_patch_testing": 0, "num_frame_testing": 4, "cuts": False}
ONE = DegradationOptions(scale=(1, 1, 1), psf="delta")
REWRITES = hasattr(av.codec.context.CodecContext.create("srt", "w"), "encode_subtitle")
rewrites = pytest.mark.skipif(not REWRITES, reason="PyAV before 16.1 reads subtitles and does not write them")


@pytest.fixture(scope="module")
def model():
    return load_model(model=TRAINING_FREE)


@rewrites
def test_tracks_titles_chapters_and_subtitles_come_along(tmp_path, model, caplog):
    with caplog.at_level(logging.INFO, logger="davsr"):
        source = CASES / "two_tracks_subtitles_chapters.mkv"
        mkv, mp4, mov = (tmp_path / name for name in ("o.mkv", "o.mp4", "o.mov"))
        for path in (mkv, mp4, mov):
            restore(source, path, model=model, degradation=ONE, options=RestoreOptions(**FAST))
    for path in (mkv, mp4, mov):
        with av.open(str(path)) as container:
            assert container.metadata["title"] == "My film"
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One", "Two"]
            sound = container.streams.audio
            assert [s.language for s in sound] == ["eng", "ger" if path == mov else "deu"]
            assert [bool(s.disposition.value & 1) for s in sound] == [False, True]
            names = [s.metadata.get("title", s.metadata.get("handler_name")) for s in sound]
            assert names == ["Main", "Kommentar"]
            assert len(container.streams.subtitles) == 1
            assert container.streams.subtitles[0].codec_context.name == ("srt" if path == mkv else "mov_text")
        assert subtitles(path) == subtitles(source) == [(0.021, 0.3, "Hello")]
    assert "subtitle tracks 3 of" in caplog.text and "rewritten as text that .mp4 can hold" in caplog.text
    assert "left out" not in caplog.text


def subtitles(path: Path) -> list[tuple[float, float, str]]:
    """Begin, duration, both in seconds, and text."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [
            (float(p.pts * p.time_base), float(p.duration * p.time_base), text_of(part))
            for p in packets
            for part in p.decode()
        ]


HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def text_of(part: av.subtitles.subtitle.AssSubtitle) -> str:
    """What is read; PyAV 17 has its own idea of it, which fails beyond ASCII."""
    return part.ass.split(b",", 8)[-1].decode().replace(r"\N", "\n")


@rewrites
@pytest.mark.parametrize("chain", [("a.mp4", "b.mkv", "c.mov"), ("a.mov", "b.mp4", "c.mkv")])
def test_subtitles_survive_from_container_to_container(tmp_path, model, chain):
    """Letters, lines and pauses, from SubStation Alpha over text of one form to that of another."""
    source, said = tmp_path / "in.mkv", [(0.1, 0.2, "Grüße, 你好"), (0.4, 0.1, "two\nlines"), (0.5, 0.3, "end")]
    write_video(tmp_path / "plain.mkv", pattern(20), 20)
    with av.open(str(tmp_path / "plain.mkv")) as a, av.open(str(source), "w") as b:
        picture, text = b.add_stream_from_template(a.streams.video[0]), b.add_stream("ass")
        text.metadata["language"] = "deu"
        text.codec_context.subtitle_header = HEADER
        packets = [packet for packet in a.demux(video=0) if packet.size]
        for packet in packets:
            packet.stream = picture
            b.mux(packet)
        for n, (begin, duration, line) in enumerate(said):
            packet = av.Packet(f"{n},0,Default,,0,0,0,,{line}".replace("\n", r"\N").encode())
            packet.pts = packet.dts = round(1000 * begin)
            packet.duration, packet.time_base, packet.stream = round(1000 * duration), Fraction(1, 1000), text
            b.mux(packet)
    assert subtitles(source) == said
    for name in chain:
        wanted = RestoreOptions(**FAST)
        restore(source, tmp_path / name, model=model, degradation=ONE, options=wanted)
        source = tmp_path / name
        assert subtitles(source) == said, name
        with av.open(str(source)) as container:
            # QuickTime has the other of the two names of German.
            assert container.streams.subtitles[0].language in ("deu", "ger")


DISPLAY = (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10000000, 50)
BOXES = (  # as ISO/IEC 14496-12 has them
    b"\0\0\0 mdcv"
    + b"".join(v.to_bytes(2, "big") for v in DISPLAY[:8])
    + b"".join(v.to_bytes(4, "big") for v in DISPLAY[8:]),
    b"\0\0\0\x0cclli" + (1000).to_bytes(2, "big") + (400).to_bytes(2, "big"),
)


def hdr10(path: Path, stated: str) -> Path:
    """PQ in ten bits, with the display that it was made for in its stream or in its container only."""
    params = "log-level=none"
    if stated == "stream":
        display = "G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*DISPLAY)
        params += f":master-display={display}:max-cll=1000,400"
    plain = path.with_name("plain.mov")
    with av.open(str(plain), "w") as out:
        stream = out.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        stream.options = {"x265-params": params, "preset": "ultrafast"}
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries, context.color_range = 9, 16, 9, 1
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(pattern(3, 64, 64)[i], format="rgb24").reformat(format="yuv420p10le")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    light = Light(DISPLAY, (1000, 400)) if stated == "container" else Light()
    with av.open(str(plain)) as a, stream_with_light(a, light) as described, av.open(str(path), "w") as b:
        copy = b.add_stream_from_template(described)
        for packet in a.demux(video=0):
            if packet.size:
                packet.stream = copy
                b.mux(packet)
    return path


@pytest.mark.parametrize("stated", ["stream", "container"])
def test_mastering_and_light_levels_are_kept(tmp_path, model, caplog, stated):
    source = hdr10(tmp_path / "hdr.mp4", stated)
    assert (stated == "container") == all(box in source.read_bytes() for box in BOXES)
    facts = light_of(source)
    assert facts["MASTERING_DISPLAY_METADATA"] and facts["CONTENT_LIGHT_LEVEL"]
    for name, codec in (("a.mp4", "h264"), ("b.mp4", "h265"), ("c.mov", "h264"), ("d.mkv", "h265"), ("e.mkv", "ffv1")):
        wanted = RestoreOptions(**FAST, codec=codec)
        with caplog.at_level(logging.INFO, logger="davsr"):
            restore(source, tmp_path / name, model=model, degradation=ONE, options=wanted)
        content = (tmp_path / name).read_bytes()
        if codec == "ffv1":
            assert "mastering display and light levels, for which ffv1 has no place" in caplog.text
            continue
        assert "left out" not in caplog.text
        assert light_of(tmp_path / name) == facts and about(tmp_path / name)["frames"] == 3
        assert about(tmp_path / name)["pixels"] == "yuv420p10le"
        assert b"\x55\xd0" in content if name.endswith(".mkv") else all(box in content for box in BOXES)


def light_of(path: Path) -> dict[str, bytes]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        names = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
        found = {name: data for name, data in side_data(frame).items() if name in names}
        return {name: data[: 80 if "MASTER" in name else 8] for name, data in found.items()}
