"""Frames of folders and videos: the right ones, upright, in the right colours; what is wrong is named."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from davsr.data import video as reading
from davsr.data.clips import open_clip, open_clips
from davsr.data.container import decoded, open_container
from davsr.data.frames import list_frames, read_image, write_image
from davsr.data.video import VideoReader, VideoWriter
from davsr.errors import InputError
from davsr.restoration.source import open_source


def numbered(n: int, h: int = 48, w: int = 64) -> np.ndarray:
    """Frames [n, h, w, 3] whose number can be read back from 8 black and white bars, compressed or not."""
    frames = np.full((n, h, w, 3), 90, np.uint8)
    for i in range(n):
        for bit in range(8):
            frames[i, : h // 2, bit * w // 8 : (bit + 1) * w // 8] = 255 * (i >> bit & 1)
    frames[:, h // 2 :, : w // 2, 0] = 200
    return frames


def number(frame: np.ndarray) -> int:
    h, w = frame.shape[:2]
    return sum(1 << bit for bit in range(8) if frame[h // 4, (2 * bit + 1) * w // 16].mean() > 128)


def write_video(path: Path, frames: np.ndarray, rate: Fraction | int = 24, **options) -> Path:
    with VideoWriter(path, rate, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", numbered(120), Fraction(24000, 1001))


def test_folder_frames_come_in_numerical_order(tmp_path: Path) -> None:
    frames = numbered(12)
    for i, frame in enumerate(frames):
        write_image(tmp_path / f"f{i}.png", frame)
    (tmp_path / "notes.txt").write_text("no frame")
    clip = open_clip(tmp_path)
    assert (len(clip), clip.size, clip.rate, clip.name) == (12, (48, 64), None, tmp_path.name)
    assert [p.name for p in list_frames(tmp_path)][2] == "f2.png"
    np.testing.assert_array_equal(clip.frames(1, 11, 3), frames[1:11:3])


def test_video_frames_are_exact_in_any_order(video: Path) -> None:
    clip = open_clip(video)
    assert (len(clip), clip.size, clip.rate, clip.name) == (120, (48, 64), Fraction(24000, 1001), "clip")
    for start, stop, step in [(100, 103, 1), (0, 3, 1), (3, 6, 1), (57, 64, 3), (119, 120, 1), (2, 90, 40)]:
        assert [number(f) for f in clip.frames(start, stop, step)] == list(range(start, stop, step))


def test_a_video_that_is_read_from_front_to_back_is_decoded_once(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the first group of pictures each frame began anew: 80 times the work where that has 240 frames."""
    opened, given = [], []
    monkeypatch.setattr(reading, "open_container", lambda path: opened.append(path) or open_container(path))
    monkeypatch.setattr(
        reading, "decoded", lambda *args, **how: (given.append(frame) or frame for frame in decoded(*args, **how))
    )
    for path, frames in ((video, 120), (write_video(tmp_path / "clip.ts", numbered(60)), 60)):
        clip = open_clip(path)
        assert (len(clip), clip.size) == (frames, (48, 64))  # which opens it too
        opened.clear()
        given.clear()
        assert [number(clip.frames(i, i + 1)[0]) for i in range(frames)] == list(range(frames))
        assert len(opened) <= 3  # to look, from its start, and for its tags; whatever its length
        assert len(given) <= frames + 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_decodes_by_itself(video: Path) -> None:
    clip = open_clip(video)
    clip.frames(0, 3)
    child = os.fork()
    if child == 0:
        signal.alarm(600)  # should it wait for threads that are not there
        right = [number(frame) for frame in clip.frames(3, 50)] == list(range(3, 50))
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [number(frame) for frame in clip.frames(3, 6)] == [3, 4, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_leaves_its_parents_garbage_alone(video: Path) -> None:
    """A decoder in it has threads, which are not there to be waited for."""
    clip = open_clip(video)
    clip.frames(0, 3)
    gc.collect()
    gc.disable()  # until the child is there
    try:
        circle: list[object] = [clip]
        circle.append(circle)
        del clip, circle
        child = os.fork()
        if child == 0:
            signal.alarm(600)
            gc.collect()
            os._exit(0)
    finally:
        gc.enable()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_video_goes_to_another_process_unopened(video: Path) -> None:
    clip = open_clip(video)
    expected = clip.frames(5, 7)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip)).frames(5, 7), expected)


def test_a_transport_stream_is_searched_from_far_enough_back(tmp_path: Path) -> None:
    """MPEG-TS is searched by decoding time: with B-frames a seek to a frame's time lands behind it."""
    path = write_video(tmp_path / "clip.ts", numbered(60))
    clip = open_clip(path)
    assert [number(clip.frames(i, i + 1)[0]) for i in (0, 45, 3, 59, 20)] == [0, 45, 3, 59, 20]


@pytest.mark.parametrize(("matrix", "range_"), [(1, 1), (6, 1), (1, 2), (6, 2)])
def test_video_colours_follow_the_tags(tmp_path: Path, matrix: int, range_: int) -> None:
    frames = np.zeros((3, 32, 32, 3), np.uint8) + np.array([200, 40, 90], np.uint8)
    tags = {"matrix": matrix, "range": range_, "transfer": 1, "primaries": 1}
    clip = VideoReader(write_video(tmp_path / "c.mp4", frames, crf=1, tags=tags))
    assert (clip.matrix, clip.colour_tags()["range"]) == (matrix, range_)
    # 2 levels: chroma is stored in 8 bits, of which one step moves a colour by up to 1.8
    assert np.abs(clip.frames(0, 3).astype(int) - frames).max() <= 2


def test_untagged_video_is_bt601_below_720_lines(tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8) + np.array([200, 40, 90], np.uint8)
    tags = {"matrix": 2, "range": 0, "transfer": 2, "primaries": 2}
    path = tmp_path / "c.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for rgb in frames:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=6, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = VideoReader(path)
    assert int(clip.first.colorspace) == tags["matrix"] and clip.matrix == 6
    assert np.abs(clip.frames(0, 2).astype(int) - frames).max() <= 4  # the default crf of the encoder


def test_grey_and_ten_bit_video_read_as_rgb(tmp_path: Path) -> None:
    for pixel_format in ("gray", "yuv420p10le"):
        path = tmp_path / f"{pixel_format}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=24)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
            for rgb in numbered(3):
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixel_format)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        frames = open_clip(path).frames(0, 3)
        assert frames.dtype == np.uint8 and [number(f) for f in frames] == [0, 1, 2]


def rotation_tagged(path: Path, target: Path) -> Path:
    """The mp4 file with the matrix of its track header set to "display turned clockwise by 90 degrees"."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes from the flags to the matrix
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


def test_rotated_video_comes_upright(tmp_path: Path, video: Path) -> None:
    clip = open_clip(rotation_tagged(video, tmp_path / "turned.mp4"))
    assert clip.size == (64, 48)
    np.testing.assert_array_equal(clip.frames(7, 9), np.rot90(open_clip(video).frames(7, 9), -1, axes=(1, 2)))


def test_single_frame_and_odd_sizes_survive_a_video(tmp_path: Path) -> None:
    clip = open_clip(write_video(tmp_path / "one.mp4", numbered(1, 47, 63), 30))
    assert (len(clip), clip.size, clip.rate) == (1, (47, 63), 30)
    assert np.abs(clip.frames(0, 1).astype(int) - numbered(1, 47, 63)).mean() < 2  # lossy coding


def test_variable_rate_has_no_rate_but_every_frame(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 9, 10, 11]
    with VideoWriter(tmp_path / "v.mp4", 24, time_base=Fraction(1, 24)) as writer:
        for frame, time in zip(numbered(8), times, strict=True):
            writer.write(frame, time)
    clip = VideoReader(tmp_path / "v.mp4")
    assert clip.rate is None
    assert [t * clip.time_base * 24 for t in clip.times] == times
    assert [number(f) for f in clip.frames(0, 8)] == list(range(8))


def test_frames_are_exact_where_time_stamps_are_swapped(tmp_path: Path, video: Path) -> None:
    path = tmp_path / "swapped.mp4"
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        assert [p.pts for p in packets] != sorted(p.pts for p in packets)  # there are B-frames to be swapped
        first = min(p.dts for p in packets)  # negative, which a container would hide
        for packet in packets:
            packet.pts = packet.dts = packet.dts - first
            packet.stream = stream
            target.mux(packet)
    clip = open_clip(path)
    for start, stop in [(70, 80), (0, 5), (119, 120)]:
        assert [number(f) for f in clip.frames(start, stop)] == list(range(start, stop))


def test_rounded_time_stamps_keep_the_rational_rate(tmp_path: Path) -> None:
    clip = open_clip(write_video(tmp_path / "v.mkv", numbered(60), Fraction(24000, 1001)))  # mkv: milliseconds
    assert clip.rate == Fraction(24000, 1001)


def test_writer_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "v.mp4", 24) as writer:
        writer.write(numbered(1)[0])
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_sixteen_bit_and_grey_images_are_rounded(tmp_path: Path) -> None:
    levels = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), levels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 1], [[0, 0, 1, 1, 255]])


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8), (".tif", np.uint16), (".webp", np.uint8)],
)
def test_an_image_that_is_not_opaque_is_refused(tmp_path: Path, suffix: str, dtype: type) -> None:
    path, white = tmp_path / f"a{suffix}", np.iinfo(dtype).max
    image = np.full((12, 16, 4), white, dtype)
    cv2.imwrite(str(path), image)
    assert read_image(path).min() == 255
    image[3:6, 3:6, 3] = white // 3
    cv2.imwrite(str(path), image)
    with pytest.raises(InputError, match="must have no alpha channel"):
        read_image(path)


def test_wrong_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing does not exist"):
        open_clip(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no frames"):
        open_clip(tmp_path)
    with pytest.raises(InputError, match="holds neither frames nor clips"):
        open_clips(tmp_path)
    write_image(tmp_path / "0.png", numbered(1)[0])
    write_image(tmp_path / "1.png", numbered(1, 40, 64)[0])
    clip = open_clip(tmp_path)
    for ask in (clip.check, lambda: clip.frames(0, 2)):
        with pytest.raises(InputError, match=r"0.png is 64x48, 1.png is 64x40"):
            ask()
    (tmp_path / "1.png").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"1.png cannot be read"):
        clip.frames(0, 2)
    with pytest.raises(InputError, match=r"single image"):
        open_clip(tmp_path / "0.png")


def test_wrong_videos_are_named(tmp_path: Path, video: Path) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 100)
    with pytest.raises(InputError, match=r"junk.mp4 cannot be opened"):
        len(open_clip(tmp_path / "junk.mp4"))
    whole = video.read_bytes()
    third = len(whole) // 3  # in the frames: the index lies at the end of the file
    (tmp_path / "broken.mp4").write_bytes(whole[:third] + b"\xff" * 300 + whole[third + 300 :])
    with pytest.raises(InputError, match=r"broken.mp4 is damaged: \d+ frames .* after frame \d+"):
        open_clip(tmp_path / "broken.mp4").frames(0, 120)


def test_clips_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("002", "010", "extra"):
        (tmp_path / name).mkdir()
        if name != "extra":
            write_image(tmp_path / name / "0.png", numbered(1)[0])
    write_video(tmp_path / "film.mp4", numbered(3))
    assert [c.name for c in open_clips(tmp_path)] == ["002", "010", "film"]
    assert [c.name for c in open_clips(tmp_path, ("film", "002"))] == ["film", "002"]
    with pytest.raises(InputError, match=r"clip 999 is not in .*002, 010, film"):
        open_clips(tmp_path, ("999",))


@pytest.mark.parametrize("take", [open_clip, open_clips, open_source])
def test_a_folder_of_photos_and_videos_is_not_guessed_at(tmp_path: Path, take) -> None:
    """As cameras leave them: one kind had been taken, and the other had not been mentioned."""
    write_video(tmp_path / "IMG_0002.MOV", numbered(3))
    write_image(tmp_path / "IMG_0001.JPG", numbered(1)[0])
    with pytest.raises(
        InputError, match=r"must hold frames or videos, got both, such as IMG_0001.JPG and IMG_0002.MOV"
    ):
        take(tmp_path)
    (tmp_path / "IMG_0002.MOV").rename(tmp_path / "._IMG_0002.MOV")  # hidden files are nobody's
    assert len(take(tmp_path)) == 1


def test_videos_in_folders_of_a_folder_are_said_to_be_left_out(tmp_path: Path, caplog) -> None:
    (tmp_path / "2023").mkdir()
    for name in ("film.mp4", "2023/summer.mp4"):
        write_video(tmp_path / name, numbered(3))
    with caplog.at_level("INFO", logger="davsr"):
        assert [clip.name for clip in open_clips(tmp_path)] == ["film"]
    assert f"the videos in folders of {tmp_path} are left out: 2023" in caplog.text
