"""Sorts unpacked packages into still pictures to train on: free licences, detail, sharp at their size, no two alike.

    apt-get download lomiri-wallpapers-16.04 redeclipse-data; dpkg -x FILE.deb DIR
    python -m benchmarks.stills DIR ... --output data/stills

Every package says in usr/share/doc/*/copyright (Debian's machine-readable form) which file has which licence; what that
does not grant by name is left out. Writes PNG files, and stills.tsv: where each comes from, its licence, how far it was
scaled down.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np

FREE = re.compile(r"(CC0|CC-BY|CC-BY-SA|public-domain|Expat|MIT|BSD|Apache)(-[0-9.]+\+?|-[23]-clause)?", re.IGNORECASE)
LEAST_SIDE = 192
LARGEST_SIDE = 2560  # of a photograph; cameras show less than one pixel's detail in a pixel
LEAST_DETAIL = 2.5  # mean difference of neighbours, of 255, in a quarter of the picture
LEAST_SHARPNESS = 0.35  # energy of the finest octave over that of the next; about 0.7 in a sharp photograph
ALIKE = 0.95  # correlation of two thumbnails
TRANSPARENT = 0.02  # share of pixels
MAPS = re.compile(  # what is not a picture: directions, masks, shares of light
    r"(normal|norm|_nm?|-nm?|_s|spec|specular|gloss|mask|glow|height|bump|disp|alpha|_ao|_pbr|icon|lut|font|minimap)\d*\.",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Still:
    """A picture that was kept: uint8 [h, w, 3], its origin, licence, and factor of its size."""

    picture: np.ndarray
    origin: str
    licence: str
    factor: float


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stills", description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, nargs="+", help="folders that `dpkg -x` filled")
    parser.add_argument(
        "--stated", nargs="*", default=[], metavar="FOLDER=LICENCE", help="pictures whose licence you know"
    )
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    kept, seen, rows = 0, np.zeros((0, 32 * 32), dtype=np.float32), []
    folders = [(package, "") for package in args.packages]
    folders += [(Path(folder), licence) for folder, _, licence in (entry.partition("=") for entry in args.stated)]
    for package, stated in folders:
        before = kept
        for still in stills(package, stated):
            thumbnail = _thumbnail(still.picture)
            if len(seen) and float((seen @ thumbnail).max()) > ALIKE:
                continue
            seen = np.vstack([seen, thumbnail])
            name = f"{package.name}_{kept:04d}.png"
            cv2.imwrite(str(args.output / name), still.picture)
            rows.append(f"{name}\t{still.origin}\t{still.licence}\t{still.factor:.3f}")
            kept += 1
        print(f"{package.name}: {kept - before} pictures", flush=True)
    table = "\n".join(["file\torigin\tlicence\tfactor", *rows])
    (args.output / "stills.tsv").write_text(table + "\n", encoding="utf-8")
    return 0


def stills(package: Path, stated: str = "") -> Iterator[Still]:
    """The pictures of an unpacked package, or all of a folder of a `stated` licence, that have something to teach."""
    grants = list(licences(package))
    for path in sorted(package.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or path.is_symlink() or MAPS.search(path.name):
            continue
        origin = path.relative_to(package).as_posix()
        licence = stated or licence_of(origin, grants)
        if not is_free(licence):
            continue
        picture = read(path)
        if picture is not None:
            sharp = sharpened_by_scaling(picture)
            if sharp is not None and detail(sharp) >= LEAST_DETAIL:
                yield Still(sharp, f"{package.name}/{origin}", licence, sharp.shape[1] / picture.shape[1])


def licences(package: Path) -> Iterator[tuple[list[str], str]]:
    """(patterns, licence) of every paragraph of the package's copyright files, in order: a later one overrules."""
    for file in sorted(package.glob("usr/share/doc/*/copyright")):
        for paragraph in re.split(r"\n\s*\n", file.read_text(encoding="utf-8", errors="replace")):
            files = re.search(r"^Files:(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
            licence = re.search(r"^License:[ \t]*(.*)", paragraph, re.MULTILINE)
            if files and licence:
                yield files[1].split(), licence[1].strip()


def licence_of(origin: str, grants: list[tuple[list[str], str]]) -> str:
    """The licence of a file at `origin`; patterns are relative to the source, which is installed at some depth."""
    parts = origin.split("/")
    places = ["/".join(parts[i:]) for i in range(len(parts))]
    found = ""
    for patterns, licence in grants:
        for pattern in patterns:
            if any(fnmatch(place, pattern) for place in places) or pattern.rsplit("/", 1)[-1] == parts[-1]:
                found = licence
    return found


def is_free(licence: str) -> bool:
    """Whether every way to read the licence is one of `FREE`, or one may be chosen."""
    choices = re.split(r"\s+or\s+", licence, flags=re.IGNORECASE)
    return any(
        all(FREE.fullmatch(part.strip().rstrip("+")) for part in re.split(r"\s+and\s+", choice, flags=re.IGNORECASE))
        for choice in choices
    )


def read(path: Path) -> np.ndarray | None:
    """uint8 [h, w, 3]; None where it is damaged, small, see-through, or a map of directions."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8 or min(picture.shape[:2]) < LEAST_SIDE:
        return None
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 4:
        if float((picture[..., 3] < 250).mean()) > TRANSPARENT:
            return None
        picture = picture[..., :3]
    blue, green, red = picture.reshape(-1, 3).mean(axis=0)
    if blue > 200 and abs(green - 128) < 20 and abs(red - 128) < 20:  # normals that point out of the surface
        return None
    return np.ascontiguousarray(picture)


def sharpened_by_scaling(picture: np.ndarray) -> np.ndarray | None:
    """The picture, smaller by as many half octaves as it takes to be sharp; None where too little is left."""
    side = max(picture.shape[:2])
    factor = min(1.0, LARGEST_SIDE / side)
    while True:
        h, w = (round(n * factor) for n in picture.shape[:2])
        if min(h, w) < LEAST_SIDE:
            return None
        small = picture if factor == 1 else cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        if sharpness(small) >= LEAST_SHARPNESS:
            return small
        factor /= 2**0.5


def sharpness(picture: np.ndarray) -> float:
    """Energy of the finest octave over that of the next one, of the brightness."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    half, quarter = cv2.pyrDown(grey), cv2.pyrDown(cv2.pyrDown(grey))
    finest = grey - cv2.pyrUp(half, dstsize=grey.shape[::-1])
    coarser = half - cv2.pyrUp(quarter, dstsize=half.shape[::-1])
    return float(finest.var() / (coarser.var() + 1e-3))


def detail(picture: np.ndarray) -> float:
    """Mean difference of neighbours, of the brightness, that a quarter of the picture's squares of 64 pixels reach."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    change = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    h, w = (max(1, n // 64) for n in change.shape)
    return float(np.quantile(cv2.resize(change, (w, h), interpolation=cv2.INTER_AREA), 0.75)) / 2


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-3)


if __name__ == "__main__":
    sys.exit(main())
