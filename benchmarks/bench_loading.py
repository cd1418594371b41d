"""Loading of training crops: 25 frames of 256x256 out of 720p from PNG, LMDB and video, against a plain cv2 PNG loop.

python -m benchmarks.bench_loading [--video FILE] [--quick] (or python -m benchmarks --only loading)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.measure import take_turns
from davsr.data.clips import Clip, open_clip
from davsr.data.frames import list_frames
from davsr.data.video import VideoWriter
from davsr.prepare.extract import extract_frames
from davsr.prepare.pack import pack_clips

SAMPLE = Path(__file__).parent.parent / "davsr" / "assets" / "sample.mp4"
PLAIN = "plain cv2 PNG loop"
FRAMES, SIDE = 25, 256  # of a crop
TARGET = 3.0  # times that LMDB must be faster than the plain loop


def loading(video: Path | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """Rows: kind, milliseconds for one crop, ratio to the plain loop, bytes of a frame on the disk.

    Args:
        video: 720p footage; None: the sample clip, copies of it side by side.
        quick: one small crop, to show that everything runs.
    """
    frames, side, crops = (5, 64, 1) if quick else (FRAMES, SIDE, 15)
    length = 5 if quick else 40
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = video or mosaic(folder / "mosaic.mp4", length)
        png, store = folder / "png", folder / "frames.lmdb"
        length = min(length, len(open_clip(film)))
        extract_frames(open_clip(film), png, 0, length)
        pack_clips([open_clip(png)], store)
        files = [str(file) for file in list_frames(png)]
        clips = {"PNG folder": open_clip(png), "LMDB": open_clip(store), "video": open_clip(film)}
        h, w = clips["LMDB"].size
        rng = np.random.default_rng(0)
        times: dict[str, list[float]] = {kind: [] for kind in (PLAIN, *clips)}
        for _ in range(crops):
            first = int(rng.integers(length - frames + 1))
            indices = range(first, first + frames)
            corner = int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1))
            runs = {PLAIN: plain_loop(files, indices, corner, side)}
            runs |= {kind: reader(clip, indices, corner, side) for kind, clip in clips.items()}
            results = {kind: run() for kind, run in runs.items()}
            for kind, result in results.items():
                if not np.array_equal(result, results[PLAIN]):
                    raise RuntimeError(f"loading: {kind} differs from the {PLAIN}")
            for kind, seconds in take_turns(runs, 1, torch.device("cpu")).items():
                times[kind] += seconds
        disk = {
            PLAIN: sum(Path(file).stat().st_size for file in files) / length,
            "LMDB": (store / "data.mdb").stat().st_size / length,
            "video": film.stat().st_size / len(clips["video"]),
        }
        disk["PNG folder"] = disk[PLAIN]
    plain = statistics.median(times[PLAIN])
    return [
        {
            "kind": kind,
            "size": f"{frames} x {side}x{side} of {w}x{h}",
            "seconds": statistics.median(seconds),
            "ratio": plain / statistics.median(seconds),
            "bytes_a_frame": disk[kind],
            "target": TARGET if kind == "LMDB" and not quick else None,
        }
        for kind, seconds in times.items()
    ]


def loading_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"loading, {rows[0]['size']}; ratio to the {PLAIN}",
        "  kind                  ms a crop   ratio   KB a frame",
    ]
    for row in rows:
        target = f"  (must reach {row['target']:g})" if row["target"] else ""
        lines.append(
            f"  {row['kind']:20} {1e3 * row['seconds']:10.1f} {row['ratio']:7.2f} {row['bytes_a_frame'] / 1e3:12.0f}{target}"
        )
    return "\n".join(lines)


def plain_loop(files: list[str], indices: range, corner: tuple[int, int], side: int) -> Callable[[], np.ndarray]:
    """What a data set without a library does."""
    top, left = corner

    def run() -> np.ndarray:
        out = np.empty((len(indices), side, side, 3), np.uint8)
        for n, i in enumerate(indices):
            image: Any = cv2.imread(files[i])
            out[n] = image[top : top + side, left : left + side, ::-1]
        return out

    return run


def reader(clip: Clip, indices: range, corner: tuple[int, int], side: int) -> Callable[[], np.ndarray]:
    return lambda: clip.crop(indices, *corner, side, side)


def mosaic(path: Path, length: int) -> Path:
    """A 1280x720 video of the sample clip: its picture as often as it fits, at full detail."""
    frames = open_clip(SAMPLE).frames(0, length)
    h, w = frames.shape[1:3]
    with VideoWriter(path, 30) as writer:
        for frame in frames:
            writer.write(np.tile(frame, (-(-720 // h), -(-1280 // w), 1))[:720, :1280])
    return path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_loading", description=__doc__)
    parser.add_argument("--video", type=Path, help="720p footage (default: the sample clip, side by side)")
    parser.add_argument("--quick", action="store_true", help="a small crop: shows that everything runs")
    args = parser.parse_args(argv)
    print(loading_table(loading(args.video, args.quick)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
