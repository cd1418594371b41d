"""Training data small enough to travel to a machine with a GPU: crops of the sources of an option file, as WebP frames.

    python .ci/pack.py -opt options/train/prior_clips.yml --out data/pack --megabytes 55

Two thirds are runs of frames cropped from the moving sources, those that change most of a few; one third pieces of
photographs. What is written is read like any folder of clips and any folder of photographs:
options/train/prior_pack.yml.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

from davsr.errors import InputError
from davsr.options import SourceOptions, load_options
from davsr.training.samples.footage import Footage, open_footage
from davsr.training.samples.synthetic import load_photos

PHOTO = 640
QUALITY = 95  # of WebP: 42 dB and more of what cameras and renderers make
CANDIDATES = 6
PHOTOS = 1 / 3  # of the bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-opt", required=True, help="a training option file, for its data.sources")
    parser.add_argument("--out", type=Path, default=Path("data/pack"), help="a folder that does not exist yet")
    parser.add_argument("--megabytes", type=float, default=55.0)
    parser.add_argument("--frames", type=int, default=58, help="of a clip: 15 HR frames at a stride of 4")
    parser.add_argument("--side", type=int, default=192, help="of a clip: patches of 128 have room at many places")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.out.exists():
        print(f"pack: {args.out} exists; remove it or name another --out", file=sys.stderr)
        return 2
    try:
        data = load_options(args.opt).data
        named = [(source, f"data.sources[{i}]") for i, source in enumerate(data.sources)]
        moving = [(source, path) for source, path in named if source.kind in ("video", "frames")]
        still = [(source, path) for source, path in named if source.kind == "synthetic"]
        budget = args.megabytes * 1e6
        photos = budget * PHOTOS if moving and still else budget * bool(still)
        rng = np.random.default_rng(args.seed)
        used = write_photos(still, args.out / "photos", photos, rng)
        run = args.frames, args.side
        used += write_clips(moving, args.out / "clips", budget - used, run, data.cache, rng)
        if not used:
            raise InputError(
                f"{args.opt} names no photographs and no shot of {run[0]} frames of {run[1]} pixels a side"
            )
    except InputError as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    except BaseException:
        shutil.rmtree(args.out, ignore_errors=True)
        raise
    print(f"pack: {args.out}, {used / 1e6:.1f} MB")
    return 0


def write_clips(
    sources: list[tuple[SourceOptions, str]],
    folder: Path,
    budget: float,
    run: tuple[int, int],
    cache: str,
    rng: np.random.Generator,
) -> float:
    """Clips of `run` frames and pixels a side, drawn from the sources by their weights until the bytes are used up."""
    footage = [(source.weight, clip) for source, path in sources for clip in open_footage(source, path, cache)]
    footage = [(weight, clip) for weight, clip in footage if _places(clip, run)]
    if not footage:
        return 0.0
    weights = np.array([weight for weight, _ in footage]) / sum(weight for weight, _ in footage)
    used, number, largest = 0.0, 0, 0.0
    while used + largest < budget:
        clip = footage[int(rng.choice(len(footage), p=weights))][1]
        frames = max((_crop(clip, run, rng) for _ in range(CANDIDATES)), key=_change)
        encoded = [_encode(frame) for frame in frames]
        size = float(sum(map(len, encoded)))
        if used + size > budget:
            break
        place = folder / f"{number:04d}"
        place.mkdir(parents=True)
        for i, part in enumerate(encoded):
            (place / f"{i:03d}.webp").write_bytes(part)
        used, number, largest = used + size, number + 1, max(largest, size)
    return used


def write_photos(
    sources: list[tuple[SourceOptions, str]], folder: Path, budget: float, rng: np.random.Generator
) -> float:
    """Pieces of at most `PHOTO` pixels a side of photographs in random order, each once."""
    photos = [pyramid[0] for source, path in sources for pyramid in load_photos(source, path)]
    used = 0.0
    for number in rng.permutation(len(photos)):
        photo = photos[number]
        h, w = (min(PHOTO, n) for n in photo.shape[:2])
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(photo.shape[:2], (h, w), strict=True))
        encoded = _encode(photo[top : top + h, left : left + w])
        if used + len(encoded) > budget:
            break
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.webp").write_bytes(encoded)
        used += len(encoded)
    return used


def _places(clip: Footage, run: tuple[int, int]) -> list[tuple[int, int]]:
    """Shots that hold a run; none where the frames are too small."""
    if min(clip.store.shape[1:]) < run[1]:
        return []
    return [(a, b) for a, b in clip.shots if b - a >= run[0]]


def _crop(clip: Footage, run: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    frames, side = run
    shots = _places(clip, run)
    starts = np.array([b - a - frames + 1 for a, b in shots], dtype=np.float64)
    first, stop = shots[int(rng.choice(len(shots), p=starts / starts.sum()))]
    begin = first + int(rng.integers(stop - first - frames + 1))
    top, left = (int(rng.integers(n - side + 1)) for n in clip.store.shape[1:])
    return clip.store.crop(range(begin, begin + frames), top, left, (side, side))


def _change(frames: np.ndarray) -> float:
    return float(np.abs(frames[5::5].astype(np.int16) - frames[:-5:5]).mean())


def _encode(image: np.ndarray) -> bytes:
    fits, encoded = cv2.imencode(".webp", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not fits:
        raise RuntimeError("pack: this OpenCV writes no WebP")
    return bytes(encoded)


if __name__ == "__main__":
    sys.exit(main())
