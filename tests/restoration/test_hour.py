"""An hour of a phone's video: times and duration to the tick, and no sound moved against the picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from davsr.data.video import VideoReader
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore

HOUR, FRAMES, BASE = 3600, 200, Fraction(1, 90000)
RATE, SAMPLES, APART = 16000, 1024, 30  # of the sound, of one of its packets, and how many of them lie between two


def an_hour(path: Path) -> list[int]:
    """A video with a frame about every eighteen seconds and sound all along; its stamps, the last one being the end."""
    rng = np.random.default_rng(0)
    steps = rng.integers(1, 2 * HOUR * 90000 // FRAMES, FRAMES)
    steps[-1] += HOUR * 90000 - steps.sum() if steps.sum() < HOUR * 90000 else 7
    stamps = np.concatenate([[0], np.cumsum(steps)]).tolist()
    with av.open(str(path), "w", options={"movie_timescale": "90000"}) as out:
        picture: Any = out.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        picture.codec_context.time_base = BASE
        picture.codec_context.options = {"preset": "ultrafast"}
        sound: Any = out.add_stream("aac", rate=RATE, layout="mono")
        noise = av.AudioFrame.from_ndarray(
            rng.uniform(-0.1, 0.1, (1, 8 * SAMPLES)).astype(np.float32), format="fltp", layout="mono"
        )
        noise.sample_rate, noise.pts = RATE, 0
        some = [bytes(packet) for packet in [*sound.encode(noise), *sound.encode(None)]]
        for i in range(FRAMES):
            image = np.full((32, 32, 3), 40 + i % 150, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = stamps[i], BASE
            for packet in picture.encode(frame):
                packet.duration = steps[i]
                out.mux(packet)
        for packet in picture.encode(None):
            packet.duration = steps[-1]
            out.mux(packet)
        for n in range(0, HOUR * RATE // SAMPLES, APART):
            packet = av.Packet(some[n // APART % len(some)])
            packet.pts = packet.dts = n * SAMPLES
            packet.duration, packet.time_base, packet.stream = SAMPLES, Fraction(1, RATE), sound
            out.mux(packet)
    return stamps


def sound_stamps(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [p.pts * Fraction(p.time_base) for p in container.demux(container.streams.audio[0]) if p.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_hour_ends_to_the_tick_and_its_sound_does_not_drift(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    stamps = an_hour(source)
    options = RestoreOptions(preset="ultrafast", size_patch_testing=0, num_frame_testing=10, cuts=False)
    same = DegradationOptions(scale=(1, 1, 1), psf="delta")
    restore(source, target, model="training-free", degradation=same, options=options)
    before, after = VideoReader(source), VideoReader(target)
    assert before.times == stamps[:-1] and before.pictures.end == stamps[-1] and len(after) == FRAMES
    tick = 0 if suffix == ".mp4" else Fraction(1, 2000)
    shown = [t * after.time_base for t in (*after.times, after.pictures.end)]
    # Matroska's durations are of 1 ms themselves: the end of the last frame is off by its time and its duration.
    assert all(abs(a - b * BASE) <= tick for a, b in zip(shown[:-1], stamps[:-1], strict=True))
    assert abs(shown[-1] - stamps[-1] * BASE) <= 2 * tick
    sound, moved = sound_stamps(source), sound_stamps(target)
    assert len(sound) == HOUR * RATE // SAMPLES // APART
    assert max(abs(a - b) for a, b in zip(moved, sound, strict=True)) <= tick
