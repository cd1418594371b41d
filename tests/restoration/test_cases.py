"""Files after public bug reports (tests/data/cases).

Each restored whole, or refused with the reason before any work.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore
from davsr.restoration.target import part_folder
from tests.videos import about, decode, duration_of, pattern, sound_of, write_video

CASES = Path(__file__).parents[1] / "data" / "cases"
FAST = {"preset": "ultrafast", "crf": 4.0, "size_patch_testing": 0, "num_frame_testing": 4, "cuts": False}
FIVE = DegradationOptions(scale=(5, 1, 1), psf="delta")  # five frames for each, of the same size
ONE = DegradationOptions(scale=(1, 1, 1), psf="delta")


@pytest.fixture(scope="module")
def model():
    return load_model(model=TRAINING_FREE)


@pytest.fixture
def through(tmp_path, model):
    def go(case, name="out.mp4", degradation=FIVE, **options):
        wanted = RestoreOptions(**{**FAST, **options})
        restore(CASES / case, tmp_path / name, model=model, degradation=degradation, options=wanted)
        return tmp_path / name

    return go


@pytest.mark.parametrize(
    ("case", "frames"),
    [
        ("time_stamps_restart.ts", 50),
        ("time_stamps_restart_3.ts", 65),
        ("open_gop_cut.ts", 28),
        ("hevc_cra.mkv", 25),
        ("x264_bframes.avi", 12),
        ("cover_art_first.mp4", 10),
        ("opaque.gif", 10),
        ("hlg_10bit.mov", 6),
        ("png_exif", 6),
    ],
)
def test_every_frame_is_restored(through, case, frames):
    told = about(through(case, rate="25" if case.startswith("png") else ""))
    assert told["frames"] == 5 * frames
    if case == "hevc_cra.mkv":  # one frame, which the standard leaves out, is missing between the others
        assert max(told["steps"]) == 2 * min(told["steps"]) == Fraction(2, 125)
    else:
        assert told["rate"] == {"opaque.gif": 50}.get(case, 125) and len(told["steps"]) == 1
    assert case != "png_exif" or told["size"] == (64, 48)


@pytest.mark.parametrize(
    ("case", "name", "reason"),
    [
        ("alpha_vp9.webm", "out.mp4", "must have no alpha channel"),
        ("png_alpha", "out", r"0000\.png must have no alpha channel"),
        ("png_gap", "out", r"0005\.png is missing"),
        ("png_and_jpg", "out", r"0000\.jpg and 0000\.png are the same frame"),
        ("truncated.mkv", "out.mp4", "truncated after frame 33; --partial"),
        ("truncated_faststart.mp4", "out.mp4", "truncated after frame 29; --partial"),
        ("progressive_then_interlaced.ts", "out.mp4", "interlaced frames from frame 39 on"),
        ("rate_240.mp4", "out.mkv", "cannot hold 1200 frames a second: Matroska counts milliseconds"),
        *[("opus.mkv", f"out{s}", r"must end in \.mp4") for s in (".avi", ".mpg", ".wmv", ".flv", ".m2ts", ".vob")],
        *[("opus.mkv", f"out{s}", r"must end in \.mp4") for s in (".3gp", ".ogv", ".png", ".webm", ".ts", ".gif")],
    ],
)
def test_what_cannot_be_delivered_is_refused_before_work(through, tmp_path, case, name, reason):
    with pytest.raises(InputError, match=reason):
        through(case, name)
    left = [path for path in tmp_path.iterdir() if path.name.endswith((".part", name))]
    assert not left and not part_folder(tmp_path / name).exists()


def test_what_is_there_of_a_truncated_file_is_restored_on_demand(through):
    assert about(through("truncated.mkv", partial=True))["frames"] == 5 * 33


def test_a_mirrored_video_is_shown_mirrored(through):
    mirrored = decode(through("mirrored.mp4", degradation=ONE)).astype(int)
    plain = decode(through("mirrored_without_matrix.mp4", "plain.mp4", degradation=ONE)).astype(int)
    assert np.abs(mirrored[:, :, ::-1] - plain).mean() < 5 < 20 < np.abs(mirrored - plain).mean()


@pytest.mark.parametrize(
    ("case", "suffix"),
    [
        ("phone_average_rate.mp4", ".mp4"),
        *[(case, suffix) for case in ("phone_jitter.mp4", "variable_rate.mp4") for suffix in (".mp4", ".mkv")],
    ],
)
def test_frames_of_phones_keep_their_times(through, case, suffix):
    """Duration to the tick, and no sound moved against the picture."""
    out = through(case, f"out{suffix}", degradation=ONE, preset="veryfast")  # frames are stored out of order
    reader, tick = VideoReader(CASES / case), Fraction(1, 1000) if suffix == ".mkv" else 0
    assert abs(duration_of(out) - (reader.pictures.end - reader.times[0]) * reader.time_base) <= tick
    with av.open(str(out)) as container:
        if suffix == ".mp4":  # as its header says it
            assert stated_duration(out) == (reader.pictures.end - reader.times[0]) * reader.time_base
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    expected = [(t - reader.times[0]) * reader.time_base for t in reader.times]
    assert max(abs(a - shown[0] - b) for a, b in zip(shown, expected, strict=True)) <= tick
    before, after = sound_of(CASES / case), sound_of(out)
    assert before[0] == after[0]
    np.testing.assert_allclose(
        [t - float(shown[0]) for t in after[1]],
        [t - float(reader.times[0] * reader.time_base) for t in before[1]],
        atol=2e-3,
    )


def stated_duration(path: Path) -> Fraction:
    """Seconds of the first track of an ISO file, as its header states them."""
    content = path.read_bytes()

    def number(box: bytes, place: int) -> int:
        start = content.index(box) + 4 + place
        return int.from_bytes(content[start : start + 4], "big")

    return Fraction(number(b"tkhd", 20), number(b"mvhd", 12))  # of boxes of version 0


def test_new_frames_lie_evenly_between_their_neighbours(through):
    reader = VideoReader(CASES / "phone_jitter.mp4")
    with av.open(str(through("phone_jitter.mp4"))) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    times = [t * reader.time_base for t in (*reader.times, reader.pictures.end)]
    even = [a + (b - a) * Fraction(k, 5) for a, b in pairwise(times) for k in range(5)]
    assert shown == even


@pytest.mark.parametrize(
    ("case", "name", "codec"),
    [
        ("truehd.mkv", "out.mp4", "aac"),
        ("truehd.mkv", "out.mkv", "truehd"),
        ("opus.mkv", "out.mov", "aac"),
        ("opus.mkv", "out.mp4", "opus"),
        ("wmav2.mkv", "out.mkv", "aac"),
        ("wmav2.mkv", "out.mp4", "aac"),
    ],
)
def test_sound_is_copied_or_encoded_but_not_lost(through, caplog, case, name, codec):
    with caplog.at_level(logging.INFO, logger="davsr"):
        out = through(case, name, degradation=ONE)
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name in (codec, f"lib{codec}")
        seconds = sum(frame.samples for frame in container.decode(stream)) / stream.rate
    with av.open(str(CASES / case)) as container:
        stream = container.streams.audio[0]
        assert abs(seconds - sum(frame.samples for frame in container.decode(stream)) / stream.rate) < 0.06
    assert ("encoded as AAC" in caplog.text) == (codec == "aac")


def test_encoded_sound_stays_where_it_was(tmp_path, model):
    """A beep at a known time, in a codec that the container does not take."""
    source = tmp_path / "beep.mkv"
    samples = np.zeros((1, 96000), np.float32)
    samples[0, 48000:50400] = np.random.default_rng(0).uniform(-0.8, 0.8, 2400)
    with av.open(str(source), "w") as out:
        video, sound = out.add_stream("libx264", rate=10), out.add_stream("libopus", rate=48000, layout="mono")
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        resampler = av.AudioResampler("flt", "mono", 48000, frame_size=960)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))
        for i, image in enumerate(pattern(20, 32, 32)):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 10)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
    restore(source, tmp_path / "out.mov", model=model, degradation=ONE, options=RestoreOptions(**FAST))
    assert abs(beep(tmp_path / "out.mov") - beep(source)) < 0.003


def beep(path: Path) -> float:
    """Seconds from the first frame to the first loud sample."""
    with av.open(str(path)) as container:
        first = min(p.pts * p.time_base for p in container.demux(container.streams.video[0]) if p.size)
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            loud = np.abs(frame.to_ndarray()).max(axis=0) > 0.2
            if loud.any():
                return float(frame.pts * frame.time_base - first) + int(loud.argmax()) / frame.sample_rate
    raise AssertionError("there is no beep")


def test_other_sound_keeps_the_finished_segments(tmp_path, model, monkeypatch):
    source = write_video(tmp_path / "in.mp4", pattern(4), sound=True)
    wanted = {"model": model, "degradation": ONE}

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr("davsr.restoration.target.Target._join", full)
        restore(source, tmp_path / "out.mp4", options=RestoreOptions(**FAST), **wanted)
    result = restore(source, tmp_path / "out.mp4", options=RestoreOptions(**FAST, audio=False), **wanted)
    assert result.continued == 4 and sound_of(tmp_path / "out.mp4") == ([], [])


@pytest.mark.skipif(
    int(av.__version__.split(".")[0]) < 18, reason="PyAV before 18 tells Matroska no rate: docs/install.md"
)
def test_matroska_states_the_exact_rate(through):
    with av.open(str(through("rate_24000_1001.mkv", "out.mkv", codec="ffv1"))) as container:
        stream = container.streams.video[0]
        # Matroska states nanoseconds; FFmpeg makes a fraction with at most 30000 of them.
        assert abs(1 / stream.average_rate - Fraction(1001, 120000)) < Fraction(1, 10**8)


def test_mp4_states_the_exact_rate(through):
    assert about(through("rate_24000_1001.mkv", "out.mp4"))["rate"] == Fraction(120000, 1001)


def test_hlg_stays_hlg_in_ten_bits(through):
    larger = DegradationOptions(scale=(1, 2, 2), psf="box")
    for codec in ("h264", "h265"):
        told = about(through("hlg_10bit.mov", f"{codec}.mp4", larger, codec=codec))
        assert told["pixels"] == "yuv420p10le" and told["matrix"] == 9
        with av.open(str(through("hlg_10bit.mov", f"again-{codec}.mov", larger, codec=codec))) as container:
            frame = next(container.decode(video=0))
            assert (int(frame.color_trc), int(frame.color_primaries)) == (18, 9)


def test_what_spoils_the_memory_of_x265_is_refused(tmp_path, model):
    source = write_video(tmp_path / "in.mp4", pattern(1))
    with pytest.raises(InputError, match="must be 64 pixels wide or more for h265, got 32"):
        restore(source, tmp_path / "o.mp4", model=model, degradation=ONE, options=RestoreOptions(**FAST, codec="h265"))
