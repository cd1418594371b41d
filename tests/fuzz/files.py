"""Options, operators, kernels, images, videos and stores that are mutated."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from davsr import config
from davsr.data.clips import open_clips
from davsr.data.frames import image_size, read_image
from davsr.data.store import Entry, StoreWriter, encode_frame
from davsr.options import DegradationOptions, Options, load_options
from davsr.physics.degradation import Degradation
from davsr.prepare.integrity import folder_faults, require_whole
from davsr.restoration.source import open_source
from tests.fuzz.base import Kind, use_operator
from tests.fuzz.mutate import VALUES, mutate_bytes, mutate_tree
from tests.videos import pattern, write_video

ROOT = Path(__file__).parents[2]


class OptionFiles(Kind):
    weight = 6.0

    def make(self, folder: Path) -> None:
        files = sorted((ROOT / "options").glob("*/*.yml"))
        self.texts = [file.read_bytes() for file in files]
        self.texts.append(config.to_yaml(Options()).encode())
        self.trees = [yaml.safe_load(text) for text in self.texts]

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        number = int(rng.integers(len(self.texts)))
        if rng.random() < 0.5:
            content = mutate_bytes(rng, self.texts[number], self.texts)
        else:
            content = yaml.safe_dump(mutate_tree(rng, self.trees[number]), allow_unicode=True).encode(
                "utf-8", "replace"
            )
        (folder / "o.yml").write_bytes(content)
        overrides = []
        if rng.random() < 0.3:
            lines = self.texts[number].decode().split()
            overrides = [mutate_bytes(rng, lines[int(rng.integers(len(lines)))].encode()).decode("utf-8", "replace")]
        options = load_options(folder / "o.yml", overrides)
        assert load_options(self._written(folder, options)) == options

    @staticmethod
    def _written(folder: Path, options: Options) -> Path:
        (folder / "again.yml").write_text(config.to_yaml(options), encoding="utf-8")
        return folder / "again.yml"


class Operators(Kind):
    weight = 3.0

    def make(self, folder: Path) -> None:
        self.tree = config.to_tree(DegradationOptions())

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        tree = dict(self.tree)
        for name in rng.choice(sorted(tree), size=3):
            tree[str(name)] = _value(rng, str(name))
        use_operator(Degradation.from_options(config.build(DegradationOptions, tree, "degradation.")), rng)


def _value(rng: np.random.Generator, name: str) -> Any:
    if rng.random() < 0.3:
        return VALUES[int(rng.integers(len(VALUES)))]
    return {
        "scale": [int(n) for n in rng.choice([1, 2, 3, 4, 5, 7, 16, 64, 65], size=3)],
        "exposure": float(rng.choice([1e-12, 0.1, 1, 2.5, 7, 100, 1024, 1e9])),
        "phase": int(rng.choice([-1024, -7, -1, 0, 3, 1024])),
        "psf": str(rng.choice(["bicubic", "gaussian", "box", "delta", "blob", "none.npy"])),
        "psf_sigma": float(rng.choice([1e-12, 0.01, 1, 30, 256, 1e6])),
        "psf_origin": [int(n) for n in rng.choice([-4096, -3, 0, 2, 4096], size=2)],
        "boundary": str(rng.choice(["reflect", "circular"])),
        "solver": str(rng.choice(["auto", "separable", "fourier", "cg"])),
    }[name]


class PSFs(Kind):
    weight = 3.0

    def make(self, folder: Path) -> None:
        self.files = []
        for array in (
            np.outer(*[np.hanning(7)] * 2),
            np.random.default_rng(0).random((5, 4)),
            np.ones((3, 3), np.float32),
        ):
            stream = io.BytesIO()
            np.save(stream, array)
            self.files.append(stream.getvalue())
        stream = io.BytesIO()
        np.savez(stream, a=np.ones((3, 3)))
        self.files.append(stream.getvalue())

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        if rng.random() < 0.7:
            content = mutate_bytes(rng, self.files[int(rng.integers(len(self.files)))], self.files)
        else:
            shape = tuple(int(n) for n in rng.choice([0, 1, 2, 3, 9, 300], size=int(rng.integers(0, 4))))
            kind = str(rng.choice(["f4", "f8", "i4", "u1", "c8", "U3", "?", "f2", "M8[s]"]))
            values = np.zeros(shape, np.float64) + rng.choice([0, 1, -1, 1e-300, 1e300, np.nan, np.inf, 1e-8])
            stream = io.BytesIO()
            np.save(stream, values.astype(kind) if kind not in ("c8", "M8[s]") else np.zeros(shape, kind))
            content = stream.getvalue()
        (folder / "k.npy").write_bytes(content)
        boundary = str(rng.choice(["reflect", "circular"]))
        use_operator(Degradation.from_options(DegradationOptions(psf=str(folder / "k.npy"), boundary=boundary)), rng)


class Images(Kind):
    weight = 8.0

    def make(self, folder: Path) -> None:
        image = pattern(1, 24, 32)[0]
        self.files = []
        for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm", ".pgm"):
            shown = image[..., 0] if suffix == ".pgm" else image
            self.files.append((suffix, cv2.imencode(suffix, shown)[1].tobytes()))
        for suffix in (".png", ".tif"):
            self.files.append((suffix, cv2.imencode(suffix, image.astype(np.uint16) * 257)[1].tobytes()))
        alpha = np.dstack([image, image[..., 0]])
        self.files.append((".png", cv2.imencode(".png", alpha)[1].tobytes()))

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        suffix, content = self.files[int(rng.integers(len(self.files)))]
        others = [data for _, data in self.files]
        for number in range(2):
            (folder / f"{number}{suffix}").write_bytes(content if number else mutate_bytes(rng, content, others))
        folder_faults(folder)
        clips = open_clips(folder)
        for file in sorted(folder.iterdir()):
            size = image_size(file)
            assert read_image(file).shape[:2] == size
        clips[0].check()
        clips[0].frames(0, 2)


class Videos(Kind):
    weight = 3.0

    def make(self, folder: Path) -> None:
        self.files = []
        for name, codec, pixels in (
            ("a.mp4", "libx264", "yuv420p"), ("b.mkv", "ffv1", "yuv444p"), ("c.avi", "mpeg4", "yuv420p"),
            ("d.ts", "libx264", "yuv420p"), ("e.webm", "libvpx-vp9", "yuv420p"), ("f.mov", "libx264", "yuv420p"),
        ):  # fmt: skip
            file = write_video(folder / name, pattern(3, 24, 32), 25, codec=codec, pixels=pixels, sound=name == "a.mp4")
            self.files.append((file.suffix, file.read_bytes()))
        header = b"YUV4MPEG2 W32 H24 F25:1 Ip A1:1 C444\n"
        self.files.append((".y4m", header + (b"FRAME\n" + bytes(range(256)) * 9) * 2))

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        suffix, content = self.files[int(rng.integers(len(self.files)))]
        others = [data for _, data in self.files]
        file = folder / f"v{suffix}"
        file.write_bytes(mutate_bytes(rng, content, others))
        if rng.random() < 0.5:
            source = open_source(file)
            for _, _ in zip(range(4), source.read(0), strict=False):
                continue
            return
        (clip,) = open_clips(file)
        require_whole(clip)
        clip.frames(0, min(len(clip), 3))
        _ = clip.rate


class Stores(Kind):
    weight = 6.0

    def make(self, folder: Path) -> None:
        with StoreWriter(folder / "s.lmdb") as writer:
            for name, frames in {"a": pattern(40, 8, 8), "b": pattern(2, 40, 50)}.items():
                for i, frame in enumerate(frames):
                    writer.put(name, i, encode_frame(frame))
            writer.finish([Entry("a", 40, 8, 8, "25"), Entry("b", 2, 40, 50)])
        self.content = (folder / "s.lmdb" / "data.mdb").read_bytes()

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        (folder / "s.lmdb").mkdir()
        content = bytearray(self.content)
        if rng.random() < 0.3:
            content = bytearray(mutate_bytes(rng, self.content))
        else:
            for _ in range(int(rng.integers(1, 4))):  # where heads of pages and nodes are
                page = 4096 * int(rng.integers(len(content) // 4096))
                at = page + int(rng.choice([rng.integers(0, 160), 4095 - rng.integers(0, 500), rng.integers(0, 4096)]))
                content[at] = (
                    int(rng.integers(0, 256)) if rng.random() < 0.5 else content[at] ^ (1 << int(rng.integers(8)))
                )
        if rng.random() < 0.2:  # the list of clips, in which text may be exchanged
            at = content.find(b'{"format"')
            content[at : at + 200] = mutate_bytes(rng, bytes(content[at : at + 200]))[:200].ljust(200)
        (folder / "s.lmdb" / "data.mdb").write_bytes(content)
        for clip in open_clips(folder / "s.lmdb"):
            clip.check()
            clip.frames(0, min(len(clip), 5))
