"""Colours of a whole way: written to a file and read again, in every matrix, range, transfer and depth."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from davsr.data import colour
from davsr.restoration.encoder import Encoding, SegmentEncoder
from davsr.restoration.source import VideoSignal, VideoSource
from tests.data.test_colour import MATRICES, smooth

TRANSFERS = {8: (1, 6), 10: (1, 14, 16, 18), 12: (16, 18)}  # of SDR and, in deep samples, of HDR
KINDS = [("h264", 8), ("h264", 10), ("h265", 8), ("h265", 10), ("h265", 12), ("ffv1", 8), ("ffv1", 10), ("ffv1", 12)]


def written(path: Path, image: np.ndarray, encoding: Encoding, signal: VideoSignal) -> VideoSource:
    encoder = SegmentEncoder(path, image.shape, encoding, Fraction(25), signal)
    encoder.write(image)
    encoder.close()
    clip = VideoSource(path)
    clip.open()
    return clip


@pytest.mark.parametrize(("codec", "bits"), KINDS)
def test_mean_colours_and_tags_come_back(tmp_path: Path, codec: str, bits: int) -> None:
    """Within 0.25 of an 8-bit level; what is grey has no colour at all."""
    encoding, suffix = Encoding(codec, crf=4, preset="ultrafast"), ".mkv" if codec == "ffv1" else ".mov"
    for n, (matrix, span) in enumerate(product(MATRICES, (colour.LIMITED, colour.FULL))):
        transfer = TRANSFERS[bits][n % len(TRANSFERS[bits])]
        tags = {"matrix": matrix, "range": span, "transfer": transfer, "primaries": 9 if matrix == 9 else 1}
        image = np.round(smooth(64, 64, seed=n) * 65535).astype(np.uint16)
        clip = written(tmp_path / f"{n}{suffix}", image, encoding, VideoSignal(tags, bits))
        back = next(clip.read())
        off = np.abs(back.mean(axis=(0, 1)) - image.mean(axis=(0, 1))) / 257
        assert off.max() < 0.25, (matrix, span, transfer, off)
        assert codec == "ffv1" or clip.colour_tags() == tags
        grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint16)
        plain = written(tmp_path / f"grey{n}{suffix}", grey, encoding, VideoSignal(tags, bits, grey=True))
        shown = next(plain.read())
        assert (shown == shown[..., :1]).all()
        assert abs(float(shown.mean()) - float(grey.mean())) / 257 < 0.25, (matrix, span, transfer)
        if codec != "ffv1":
            with av.open(str(plain.path)) as container:
                assert colour.is_neutral(next(container.decode(video=0)))


@pytest.mark.parametrize("codec", ["h264", "h265", "ffv1"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shortest_segments_are_whole(tmp_path: Path, codec: str, count: int) -> None:
    """x265 gives the packets of one or two frames stamps of decoding from unwritten memory: one in seven failed."""
    path = tmp_path / ("s.mkv" if codec == "ffv1" else "s.mov")
    image = np.round(smooth(64, 64) * 65535).astype(np.uint16)
    for _ in range(5):
        encoder = SegmentEncoder(
            path, image.shape, Encoding(codec, preset="ultrafast"), Fraction(25), VideoSignal(colour.SDR_TAGS)
        )
        for _ in range(count):
            encoder.write(image)
        assert 0 <= encoder.close() <= 2
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert sorted(round(float(p.pts * p.time_base * 25)) for p in packets) == list(range(count))
        assert all(p.dts is None or -0.1 <= float((p.pts - p.dts) * p.time_base) <= 0.2 for p in packets)
