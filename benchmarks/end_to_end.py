"""`davsr restore` of a clip of the sample at 480x270, with sound: time, memory, and where the time goes.

python -m benchmarks.end_to_end [--model FILE|training-free] [--frames 16] [--size 270 480] [--memory GB] [--tile N]
    [--codec h264]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from davsr.checkpoints.resolve import resolve
from davsr.models.davsr import DAVSR
from davsr.options import Options, RestoreOptions
from davsr.restoration import encoder, pieces, restore, target
from davsr.restoration.consistency import Consistency
from davsr.restoration.source import VideoSource
from davsr.runtime import keep_freed_memory, peak_memory

SAMPLE = Path(__file__).parent.parent / "davsr" / "assets" / "sample.mp4"
# Stage -> the calls it consists of; each is timed by itself, in the thread that makes it.
STAGES: dict[str, list[tuple[Any, str]]] = {
    "looking at the input": [(VideoSource, "open")],
    "decoding": [(VideoSource, "picture")],
    "network": [(DAVSR, "forward")],
    "16-bit frames": [(pieces.Pieces, "add")],
    "joining tiles": [(pieces.Pieces, "frame")],
    "check of y - A x": [(Consistency, "_reduced"), (Consistency, "_residual")],
    "colours": [(encoder.colour, "from_rgb")],
    "encoding": [(encoder.SegmentEncoder, "_mux"), (encoder.SegmentEncoder, "close")],
    "joining": [(target.Target, "finish")],
}

_CPU = torch.device("cpu")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="a checkpoint, or training-free; default: the shipped model")
    parser.add_argument("--frames", type=int, default=16, help="LR frames")
    parser.add_argument("--size", type=int, nargs=2, default=[270, 480], metavar=("H", "W"), help="of an LR frame")
    parser.add_argument("--memory", type=float, default=0.0, help="restore.memory, GB; 0: what is free")
    parser.add_argument("--tile", type=int, help="restore.size_patch_testing; default: auto")
    parser.add_argument("--codec", default="h264")
    args = parser.parse_args(argv)
    options = RestoreOptions(
        model=args.model,
        memory=args.memory,
        codec=args.codec,
        size_patch_testing="auto" if args.tile is None else args.tile,
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clip.mp4"
        write_clip(source, args.frames, *args.size)
        keep_freed_memory()  # as the command does
        model = resolve(Options(restore=options), device="cpu").model
        before = peak_memory(_CPU)
        with clocked() as seconds:
            began = time.perf_counter()
            made = restore.restore(source, Path(folder) / "restored.mp4", model=model, options=options, device="cpu")
            wall = time.perf_counter() - began
    height, width = made.size
    print(
        f"{args.frames} frames of {args.size[1]}x{args.size[0]} -> {made.frames} of {width}x{height}: {wall:.1f} s, "
        f"{made.frames / wall:.2f} frames a second, {1e9 * wall / made.frames / height / width:.1f} ns a pixel; "
        f"peak {1024 * peak_memory(_CPU):.0f} MiB, {1024 * before:.0f} of them before it began"
    )
    print(f"plan: {made.plan}")
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:34s}{spent:8.2f} s{spent / wall:8.1%}")
    return 0


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """Inside, every stage tells its seconds, whichever thread it runs in."""
    seconds: dict[str, float] = defaultdict(float)
    lock, kept = threading.Lock(), []

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with lock:
                    seconds[name] += time.perf_counter() - began

        return run

    for name, places in STAGES.items():
        for owner, attribute in places:
            kept.append((owner, attribute, getattr(owner, attribute)))
            setattr(owner, attribute, timed(name, kept[-1][2]))
    try:
        yield seconds
    finally:
        for owner, attribute, function in kept:
            setattr(owner, attribute, function)


def write_clip(path: Path, frames: int, height: int, width: int) -> None:
    """The sample's frames, forwards and backwards over and over, cut and resized to height x width, and a tone."""
    with av.open(str(SAMPLE)) as sample:
        images = [frame.to_ndarray(format="rgb24") for frame in sample.decode(video=0)]
    turn = [*range(len(images)), *reversed(range(1, len(images) - 1))]
    rate, samples = Fraction(24), 48000
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.options = {"crf": "10"}
        sound: Any = out.add_stream("aac", rate=samples)
        for p in range(frames):
            image = images[turn[p % len(turn)]]
            share = min(image.shape[0] / height, image.shape[1] / width)
            image = image[: round(height * share), : round(width * share)]
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode(None))
        tone = np.sin(2 * np.pi * 440 / samples * np.arange(int(frames / rate * samples)), dtype=np.float32)
        part = av.AudioFrame.from_ndarray(0.2 * tone[None], format="fltp", layout="mono")
        part.sample_rate = samples
        out.mux(sound.encode(part))
        out.mux(sound.encode(None))


if __name__ == "__main__":
    sys.exit(main())
