"""Sound in the output is what a player makes of the input: all of it, at its time, and nothing beyond it."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore
from tests.videos import pattern, sound_of, write_video

CASES = Path(__file__).parents[1] / "data" / "cases"
ONE = DegradationOptions(scale=(1, 1, 1), psf="delta")
FAST = RestoreOptions(preset="ultrafast", crf=4.0, size_patch_testing=0, num_frame_testing=4, cuts=False)


@pytest.fixture
def through(tmp_path):
    model = load_model(model=TRAINING_FREE)

    def go(source: Path, name: str) -> Path:
        restore(source, tmp_path / name, model=model, degradation=ONE, options=FAST)
        return tmp_path / name

    return go


def with_sound(path: Path, codec: str, samples: np.ndarray, format: str, layout: str) -> Path:
    """Five frames in 0.2 s, and sound of 48000 samples a second."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = out.add_stream(codec, rate=48000, layout=layout)
        sound.codec_context.format = format
        for i, image in enumerate(pattern(5)):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(samples, format=format, layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        resampler = av.AudioResampler(format, layout, 48000, frame_size=sound.codec_context.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))
    return path


def samples_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def test_sound_of_more_packets_than_milliseconds_keeps_its_pace(through):
    """TrueHD: 1200 packets a second, whose stamps Matroska repeats."""
    out = through(CASES / "truehd.mkv", "out.mkv")
    before, after = sound_of(CASES / "truehd.mkv"), sound_of(out)
    assert after[0] == before[0] and len(set(before[1])) < len(before[1])
    np.testing.assert_allclose(after[1], before[1], atol=2e-3)


def test_the_last_packet_of_sound_is_played(tmp_path, through):
    """Matroska does not state how long a packet is; an ISO file plays of the last one what it states."""
    tone = (np.sin(np.arange(9600) * 0.2) * 9000).astype(np.int16)[None]
    source = with_sound(tmp_path / "in.mkv", "alac", tone, "s16p", "mono")
    assert samples_of(source) == 9600
    assert samples_of(through(source, "out.mp4")) == 9600


def test_sound_that_fails_in_its_packets_is_encoded(tmp_path, through, caplog):
    """The header of mp4 takes PCM of many channels; what is written after it is refused."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (1, 9600 * 16)).astype(np.int16)
    source = with_sound(tmp_path / "in.mkv", "pcm_s16le", noise, "s16", "hexadecagonal")
    with caplog.at_level(logging.INFO, logger="davsr"):
        out = through(source, "out.mp4")
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert "encoded as AAC" in caplog.text
    assert sound_of(through(source, "out.mkv"))[0] == sound_of(source)[0]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_that_an_edit_leaves_out_stays_out(tmp_path, through, suffix):
    """A clip that a phone or `ffmpeg -ss 0.5 -c copy` has cut: what lies before the cut is stored, and not played."""
    whole = write_video(tmp_path / "whole.mp4", pattern(25), 25, sound=True)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as a, av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as b:
        copies = {stream.index: b.add_stream_from_template(stream) for stream in a.streams}
        for packet in a.demux():
            if packet.size:
                shift = round(Fraction(1, 2) / packet.time_base) if packet.stream.type == "audio" else 0
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copies[packet.stream.index]
                b.mux(packet)
    with av.open(str(cut)) as container:
        unheard = sum(p.is_discard for p in container.demux(audio=0) if p.size)
    out = through(cut, f"out{suffix}")
    before, after = sound_of(cut), sound_of(out)
    kept = len(after[0])
    assert unheard > 5 and after[0] == before[0][-kept:]
    with av.open(str(out)) as container:
        first = min(p.pts * p.time_base for p in container.demux(container.streams.video[0]) if p.size)
    assert first < Fraction(3, 20)  # Matroska moves what begins before 0, and all with it
    np.testing.assert_allclose([t - float(first) for t in after[1]], before[1][-kept:], atol=2e-3)
