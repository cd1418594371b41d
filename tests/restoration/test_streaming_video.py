"""Every kind of video that comes along: restored right, or refused with the reason."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.errors import InputError
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore
from davsr.restoration.source import open_source
from tests.videos import about, decode, duration_of, pattern, sound_of, write_video

FAST = {"preset": "ultrafast", "crf": 2.0, "size_patch_testing": 0, "num_frame_testing": 4}
SAME = DegradationOptions(
    scale=(1, 1, 1), psf="delta"
)  # one step that changes nothing: what remains is the way through


@pytest.fixture
def through(tmp_path):
    """Send a video through unchanged, or restored."""
    model = load_model(model=TRAINING_FREE)

    def go(source, name="out.mp4", degradation=SAME, **options):
        restore(
            source, tmp_path / name, model=model, degradation=degradation, options=RestoreOptions(**{**FAST, **options})
        )
        return tmp_path / name

    return go


def differ(a, b):
    """Mean absolute difference, in 8-bit levels."""
    return float(np.abs(a.astype(np.float64) - b).mean())


@pytest.mark.parametrize(("h", "w"), [(23, 31), (24, 31), (1, 1), (9, 70)])
@pytest.mark.parametrize("scale", [(1, 1, 1), (2, 4, 4), (1, 3, 3)])
def test_odd_sizes_come_out_whole(tmp_path, through, h, w, scale):
    source = write_video(tmp_path / "in.mkv", pattern(2, h, w), codec="ffv1")
    out = about(through(source, degradation=DegradationOptions(scale=scale)))
    assert out["size"] == (scale[1] * h, scale[2] * w) and out["frames"] == 2 * scale[0]
    even = scale[1] * h % 2 == 0 and scale[2] * w % 2 == 0
    assert out["pixels"] == ("yuv420p" if even else "yuv444p")


def test_one_frame_makes_a_video_of_s_t(tmp_path, through):
    source = write_video(tmp_path / "in.mp4", pattern(1))
    out = through(source, degradation=DegradationOptions())
    assert about(out)["frames"] == 5
    frames = decode(out)
    assert differ(frames[0], frames[4]) < 1  # nothing is known about motion


def test_no_sound_stays_no_sound(tmp_path, through):
    out = through(write_video(tmp_path / "in.mp4", pattern(3)))
    assert sound_of(out) == ([], [])


def test_sound_begins_where_it_did(tmp_path, through):
    """A video track that starts late, as cut files have it."""
    source = write_video(tmp_path / "in.mkv", pattern(20), 25, codec="ffv1", sound=True)
    late = tmp_path / "late.mkv"
    with av.open(str(source)) as a, av.open(str(late), "w") as b:
        copies = {s.index: b.add_stream_from_template(s) for s in a.streams}
        for packet in a.demux():
            if packet.size:
                if packet.stream.type == "video":
                    packet.pts += 200
                    packet.dts += 200
                packet.stream = copies[packet.stream.index]
                b.mux(packet)
    before = [t - 0.2 for t in sound_of(late)[1]]
    packets, after = sound_of(through(late, "out.mkv"))
    first = float(about(tmp_path / "out.mkv")["start"])
    assert packets == sound_of(late)[0]
    np.testing.assert_allclose([t - first for t in after], before, atol=0.002)  # mkv counts milliseconds


def test_frames_of_a_variable_rate_keep_their_times(tmp_path, through):
    times = [0, 1, 2, 5, 6, 7, 10, 11]
    source = write_video(tmp_path / "in.mp4", pattern(8), 30, times=times)
    out = through(source, degradation=DegradationOptions(scale=(3, 1, 1)))
    with av.open(str(out)) as container:
        shown = [frame.pts * frame.time_base * 30 for frame in container.decode(video=0)]
    for i, (a, b) in enumerate(pairwise([*times, 12])):
        assert shown[3 * i : 3 * i + 3] == [a + Fraction(k * (b - a), 3) for k in range(3)]
    assert duration_of(out) == duration_of(source) == Fraction(12, 30)
    assert about(through(source, "even.mp4", rate="24000/1001"))["rate"] == Fraction(24000, 1001)


def test_time_stamps_that_jitter_are_a_constant_rate(tmp_path):
    ms = [round(1001 * i / 24) for i in range(40)]
    source = write_video(tmp_path / "in.mkv", pattern(40), Fraction(1000), times=ms)
    assert abs(open_source(source).schedule(1).rate - Fraction(24000, 1001)) < Fraction(1, 100)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_rotated_video_is_shown_as_it_was(tmp_path, through, turn):
    source = write_video(tmp_path / "in.mp4", pattern(2, 24, 32), rotation=turn, aspect=Fraction(4, 3))
    with av.open(str(source)) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation % 360 in (turn, 360 - turn)
        upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    out = through(source)
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).rotation == 0
    shown, upright = decode(out)[0].mean(axis=2), upright.mean(axis=2)
    assert (
        differ(shown, upright) < 4 < 8 < differ(np.flip(shown), upright)
    )  # 4:4:4 became 4:2:0; upside down is far off
    assert about(out)["aspect"] == (Fraction(4, 3) if turn == 180 else Fraction(3, 4))


def test_grey_stays_grey(tmp_path, through):
    grey = np.repeat(pattern(3).mean(axis=3, keepdims=True).astype(np.uint8), 3, axis=3)
    source = write_video(tmp_path / "in.mkv", grey, pixels="gray", codec="ffv1", tags={"color_range": 2})
    out = through(source, degradation=DegradationOptions())
    with av.open(str(out)) as container:
        for frame in container.decode(video=0):
            assert set(np.unique(frame.to_ndarray(format="yuv420p")[96:])) == {128}  # chroma
    same = decode(through(source, "same.mp4"))
    assert differ(same, decode(source)) < 1.5


def test_ten_bits_stay_ten_bits(tmp_path, through):
    ramp = np.tile(np.linspace(64, 940, 512), (1, 16, 1)).round().astype(np.uint16)
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 512, 16, "yuv444p10le"
        frame = av.VideoFrame.from_ndarray(ramp[0] * 64, format="gray16le").reformat(format="yuv444p10le")
        frame.pts = 0
        out.mux([*stream.encode(frame), *stream.encode(None)])
    result = through(source, "out.mp4", crf=0.0)
    assert about(result)["pixels"] == "yuv420p10le"
    with av.open(str(source)) as a, av.open(str(result)) as b:
        before, after = (np.frombuffer(next(c.decode(video=0)).planes[0], np.uint16).astype(int) for c in (a, b))
    assert len(np.unique(before)) > 400  # 8 bits hold 220
    assert np.abs(before - after).max() <= 2  # RGB and back, and the encoder's best


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("span", [1, 2])
def test_matrix_and_range_survive(tmp_path, through, matrix, span):
    tags = {"colorspace": matrix, "color_range": span, "color_primaries": matrix, "color_trc": matrix}
    source = write_video(tmp_path / "in.mp4", pattern(2), tags=tags)
    out = through(source)
    told = about(out)
    assert (told["matrix"], told["range"]) == (matrix, span)
    a, b = (decode(path, "yuv444p") for path in (source, out))
    for plane in range(3):  # the numbers in the file, whatever a player makes of them
        assert abs(float(a[:, plane].mean()) - float(b[:, plane].mean())) < 1
    assert differ(a[:, 0], b[:, 0]) < 1.5


def test_no_tags_are_made_explicit(tmp_path, through):
    """Players take an untagged video by its height: small ones as BT.601, large ones as BT.709.

    Restoring crosses that.
    """
    source = write_video(tmp_path / "in.mp4", pattern(2))
    assert about(source)["matrix"] == 2
    assert about(through(source))["matrix"] == 6


@pytest.mark.parametrize("pixels", ["yuva420p", "bgra"])
def test_transparency_is_refused_and_an_opaque_channel_is_none(tmp_path, through, pixels):
    source = write_video(tmp_path / "in.mkv", pattern(2), pixels=pixels, codec="ffv1")
    assert about(through(source))["frames"] == 2
    glass = tmp_path / "glass.mkv"
    with av.open(str(glass), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, pixels
        frame = av.VideoFrame.from_ndarray(np.full((24, 32, 4), 200, np.uint8), format="rgba").reformat(format=pixels)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(InputError, match="must have no alpha channel"):
        through(glass, "glass.mp4")


def test_what_is_no_video_is_refused(tmp_path, through):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    for name, reason in (("text.mp4", "cannot be opened"), ("empty", "no frames"), ("absent.mp4", "does not exist")):
        with pytest.raises(InputError, match=reason):
            through(tmp_path / name)
    with pytest.raises(InputError, match=r"restore\.rate: must be a number"):
        through(write_video(tmp_path / "in.mp4", pattern(1)), rate="fast")


@pytest.mark.parametrize("bits", [8, 10])
def test_ffv1_loses_nothing(tmp_path, through, bits):
    source = write_video(tmp_path / "in.mkv", pattern(3), pixels="bgr0" if bits == 8 else "gbrp10le", codec="ffv1")
    out = through(source, "out.mkv", codec="ffv1")
    np.testing.assert_array_equal(decode(out, "rgb48le"), decode(source, "rgb48le"))
