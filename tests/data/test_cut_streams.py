"""Streams of HEVC that begin in the middle.

Every picture that can be shown, as players show it, and a sentence about them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import av
import pytest

from davsr.data.video import VideoReader
from davsr.restoration.source import VideoSource
from tests.data.test_video_kinds import number, numbered

COUNT = 30
GROUPS = {"closed": "keyint=10:bframes=3:open-gop=0", "open": "keyint=10:bframes=3:open-gop=1"}
GROUPS["refresh"] = "keyint=200:bframes=0:intra-refresh=1"  # no key picture but the first


def cut(folder: Path, groups: str, after: int) -> tuple[Path, list[int], int]:
    """A stream without its first packets; the stamps (ms) of what can be shown, and how many lack their references."""
    whole, path = folder / "whole.mkv", folder / "cut.mkv"
    with av.open(str(whole), "w") as out:
        stream: Any = out.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        params = f"log-level=none:pools=1:frame-threads=1:scenecut=0:{groups}"
        stream.codec_context.options = {"preset": "ultrafast", "x265-params": params}
        for i in range(COUNT):
            frame = av.VideoFrame.from_ndarray(numbered(i % 16), format="rgb24").reformat(format="yuv420p")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    stamps: list[int] = []
    key = None
    with av.open(str(whole)) as a, av.open(str(path), "w") as b:
        copy = b.add_stream_from_template(a.streams.video[0])
        for packet in [packet for packet in a.demux(video=0) if packet.size][after:]:
            key = packet.pts if key is None and packet.is_keyframe else key
            if key is None or packet.pts >= key or groups == GROUPS["closed"]:
                stamps.append(packet.pts)
            packet.stream = copy
            b.mux(packet)
    return path, sorted(stamps), sum(key is None or stamp < key for stamp in stamps)


@pytest.mark.parametrize("after", [0, 3, 13])
@pytest.mark.parametrize("groups", GROUPS)
def test_what_can_be_shown_of_a_cut_stream_is_there(tmp_path: Path, caplog, groups: str, after: int) -> None:
    path, stamps, unfounded = cut(tmp_path, GROUPS[groups], after)
    clip = VideoSource(path)
    with caplog.at_level(logging.INFO, logger="davsr"):
        clip.open()
    assert [round(1000 * t * clip.time_base) for t in clip.times] == [t - min(stamps) for t in stamps]
    assert clip.pictures.unfounded == unfounded and not clip.pictures.lost
    assert ("begins in the middle" in caplog.text) == (unfounded > 0)
    assert (f"--frames {unfounded}: leaves them out" in caplog.text) == (0 < unfounded < len(stamps))
    founded = [round(stamp / 40) % 16 for stamp in stamps][unfounded:]
    assert [number(frame) for frame in clip.frames(unfounded, len(stamps))] == founded
    linear = clip.frames(0, len(stamps))
    sought = VideoReader(path)
    for i in (len(stamps) - 1, unfounded // 2, len(stamps) // 2, 0):  # by seeking, to the same pictures
        assert (sought.frames(i, i + 1)[0] == linear[i]).all()
