"""The kinds of input that are mutated: what is made once, and what one case does with a mutated copy.

A case returns when the input was taken, and raises InputError when it was refused; anything else is a fault.
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from davsr import config
from davsr.checkpoints.fit import load_strictly
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.cli import main
from davsr.data.clips import open_clips
from davsr.data.frames import image_size, read_image
from davsr.data.store import Entry, StoreWriter, encode_frame
from davsr.errors import InputError
from davsr.files import MARK
from davsr.options import DegradationOptions, Options, RestoreOptions, load_options
from davsr.physics.degradation import Degradation
from davsr.prepare.extract import extract_frames
from davsr.prepare.integrity import folder_faults, require_whole
from davsr.restoration.polishing import polish
from davsr.restoration.restore import restore
from davsr.restoration.source import open_source
from davsr.training.optimizer import make_optimizer, restore_optimizer
from davsr.training.record import Record
from davsr.training.state import restored
from tests.fuzz.mutate import VALUES, mutate_bytes, mutate_tree
from tests.runs import options as small_options
from tests.videos import pattern, write_video

ROOT = Path(__file__).parents[2]


class Kind(ABC):
    """One kind of input. Folders are fresh for every case."""

    weight = 1.0  # share of the cases, relative to the other kinds

    @abstractmethod
    def make(self, folder: Path) -> None:
        """What all cases start from, made once, before processes are forked."""

    @abstractmethod
    def run(self, rng: np.random.Generator, folder: Path) -> None:
        """One case."""


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


def use_operator(A: Degradation, rng: np.random.Generator) -> None:
    """Apply, adjoint and data step on the smallest clip."""
    s_t, s_h, s_w = A.scale
    if s_t * s_h * s_w > 64 * 64 * 8:  # an HR frame of many pixels for every LR one: nothing is different there
        return
    x = torch.from_numpy(rng.random((1, 1, s_t, 2 * s_h, 2 * s_w), dtype=np.float32))
    y = A.apply(x)
    A.adjoint(y)
    try:
        A.data_step(x, y, 0.24 * A.largest_eigenvalue() or 1.0)
    except RuntimeError as error:  # the solver says that it did not get there
        if "tolerance" not in str(error):
            raise


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


class Checkpoints(Kind):
    weight = 4.0

    def make(self, folder: Path) -> None:
        from davsr.models.davsr import DAVSR

        options = small_options(model__iterations=1, model__enhancement__kind="frames")
        model = DAVSR.from_options(options)
        optimizer = make_optimizer(model, options.train)
        loss = sum(p.square().sum() for p in model.parameters())
        torch.autograd.backward(loss)
        optimizer.step()
        self.options = options
        self.tree = {
            "format": "davsr-checkpoint-1",
            "model": model.state_dict(),
            "ema": None,
            "optimizer": optimizer.state_dict(),
            "step": 1, "updates": 1, "nonfinite": 0, "nonfinite_row": 0, "best": 1.5, "best_step": 0,
            "options": config.to_tree(options),
        }  # fmt: skip
        stream = io.BytesIO()
        torch.save(self.tree, stream)
        self.content = stream.getvalue()

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        from davsr.models.davsr import DAVSR

        file = folder / "c.pt"
        if rng.random() < 0.4:
            file.write_bytes(mutate_bytes(rng, self.content))
            load_model(file)
            return
        torch.save(mutate_tensors(rng, mutate_tree(rng, self.tree) if rng.random() < 0.5 else self.tree), file)
        if rng.random() < 0.3:
            if main(["weights", "inspect", str(file), "--all"]) == 2:
                raise InputError("refused by the command")
            return
        if rng.random() < 0.6:
            load_model(file)
            return
        from davsr.checkpoints.files import load_checkpoint

        model = DAVSR.from_options(self.options)
        tree = load_checkpoint(file)
        load_strictly(model, tree.get("model"), "c.pt")
        restore_optimizer(make_optimizer(model, self.options.train), tree.get("optimizer"), "c.pt")
        restored(tree, "c.pt")


def mutate_tensors(rng: np.random.Generator, tree: Any) -> Any:
    """Some tensors of a tree with other shapes, types, values or places."""
    if isinstance(tree, torch.Tensor):
        return _other_tensor(rng, tree) if rng.random() < 0.08 else tree
    if isinstance(tree, dict):
        return {key: mutate_tensors(rng, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mutate_tensors(rng, value) for value in tree]
    return tree


def _other_tensor(rng: np.random.Generator, tensor: torch.Tensor) -> Any:
    ways = [
        lambda: tensor.flatten(),
        lambda: tensor.unsqueeze(0),
        lambda: tensor.flatten()[:0],
        lambda: torch.zeros(()),
        lambda: tensor.double(),
        lambda: tensor.half(),
        lambda: tensor.to(torch.int64),
        lambda: tensor.to(torch.complex64),
        lambda: tensor * float("nan"),
        lambda: tensor + float("inf"),
        lambda: tensor.to("meta"),
        lambda: tensor.to_sparse(),
        lambda: torch.zeros(1).expand(2**30),
        lambda: tensor.to(torch.float8_e4m3fn),
        lambda: tensor.transpose(0, -1),
        lambda: torch.nn.Parameter(tensor.float()),
        lambda: tensor.to(torch.bool),
        lambda: None,
        lambda: "text",
    ]
    try:
        return ways[int(rng.integers(len(ways)))]()
    except (RuntimeError, ValueError):
        return tensor


class Converted(Kind):
    weight = 2.0

    def make(self, folder: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        names = {}
        for level in range(2):
            for n, (a, b) in enumerate(((8, 8), (8, 2))):
                names[f"basic_module.{level}.basic_module.{n}.conv.weight"] = (b, a, 3, 3)
                names[f"basic_module.{level}.basic_module.{n}.conv.bias"] = (b,)
        flow = {name: torch.rand(shape, generator=generator) for name, shape in names.items()}
        whole = {f"generator.vsr.spynet.{name}": tensor for name, tensor in flow.items()}
        whole["generator.h.mlp.4.bias"] = torch.rand(4)
        whole["generator.vsr.deform_align.forward_1.weight"] = torch.rand(8, 16, 3, 3)
        whole["generator.vsr.feat_extract.2.weight"] = torch.rand(8, 8, 3, 3)
        whole["generator.vsr.conv_hr.weight"] = torch.rand(4, 4, 3, 3)
        whole["generator.vsr.deform_align.forward_1.conv_offset.6.weight"] = torch.rand(54, 8, 3, 3)
        slomo = {
            "state_dictFC": {"conv1.weight": torch.rand(2, 2)},
            "state_dictAT": {"down1.conv1.weight": torch.rand(2, 2)},
        }
        basic = {name.replace("generator.vsr.", ""): tensor for name, tensor in whole.items() if "mlp" not in name}
        self.trees = [flow, whole, slomo, {"params_ema": basic}, {"state_dict": whole}]

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        tree = self.trees[int(rng.integers(len(self.trees)))]
        tree = mutate_tensors(rng, mutate_tree(rng, tree) if rng.random() < 0.7 else tree)
        torch.save(tree, folder / "w.pt")
        if rng.random() < 0.5:
            load_model(folder / "w.pt")
        elif main(["weights", "convert", str(folder / "w.pt"), str(folder / "o.pt")]) == 2:
            raise InputError("refused by the command")


class Polish(Kind):
    weight = 1.0

    def make(self, folder: Path) -> None:
        self.frames = pattern(2, 16, 16)

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        scale = tuple(int(n) for n in rng.choice([1, 2, 3], size=3))
        t, h, w = (int(rng.integers(1, 3)), int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        wanted = [t * scale[0], h * scale[1], w * scale[2]]
        if rng.random() < 0.4:
            wanted[int(rng.integers(3))] += int(rng.integers(-1, 2))
        for name, (n, rows, columns) in {"lq": (t, h, w), "hr": wanted}.items():
            (folder / name).mkdir()
            for i in range(max(n, 0)):
                image = np.full((max(rows, 1), max(columns, 1), 3), 9 * i, np.uint8)
                content = cv2.imencode(".png", image)[1].tobytes()
                damaged = rng.random() < 0.15
                (folder / name / f"{i}.png").write_bytes(mutate_bytes(rng, content) if damaged else content)
        alpha = float(rng.choice([0.24, 1e-9, 1e9, 0, -1, np.nan, np.inf]))
        options = RestoreOptions(rate="25", log=False)
        physics = DegradationOptions(scale=scale)  # type: ignore[arg-type]  # three numbers
        polish(
            folder / "hr",
            folder / "lq",
            folder / "out",
            degradation=physics,
            options=options,
            alpha=alpha,
            device="cpu",
        )


class Figures(Kind):
    weight = 4.0

    def make(self, folder: Path) -> None:
        figures = {"rate": 1e-4, "psnr": 20.0, "alpha_1": 0.1, "grad_norm": 2.0}
        lines = [{"step": n, "loss": 1 / (n + 1), **figures} for n in range(30)]
        self.content = "".join(json.dumps(line) + "\n" for line in lines).encode()

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        content = self.content
        if rng.random() < 0.5:
            rows = [json.loads(line) for line in content.splitlines()]
            content = "\n".join(json.dumps(mutate_tree(rng, row)) for row in rows).encode()
        (folder / "metrics.jsonl").write_bytes(mutate_bytes(rng, content))
        record = Record(folder)
        record.rewind(int(rng.integers(0, 40)))
        record.write(41, {"loss": 0.5})
        record.draw()


class Records(Kind):
    """Restore's own records and pieces, mutated between a stop and the next start: the end is the same, or refused."""

    weight = 1.0

    def make(self, folder: Path) -> None:
        import davsr.restoration.streaming as streaming

        streaming._SEGMENT_FRAMES = 1  # so that two frames make two segments
        self.source = folder / "in"
        self.source.mkdir()
        for i, frame in enumerate(pattern(6, 8, 8)):
            cv2.imwrite(str(self.source / f"{i}.png"), frame)
        self.model = load_model(model=TRAINING_FREE)
        self._restore(folder / "out")
        self.expected = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
        real, self.part = self.model.forward, {}
        count = 0

        def stopping(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count > 2:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        self.model.forward = stopping  # type: ignore[method-assign]  # for one run
        try:
            self._restore(folder / "out2")
        except KeyboardInterrupt:
            self.part = {file.name: file.read_bytes() for file in (folder / "out2.part").iterdir()}
        self.model.forward = real  # type: ignore[method-assign]

    def _restore(self, target: Path) -> None:
        options = RestoreOptions(num_frame_testing=2, num_frame_overlap=0, size_patch_testing=0, log=False)
        restore(self.source, target, model=self.model, options=options, device="cpu")

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        part = folder / "out.part"
        part.mkdir()
        names = [name for name in sorted(self.part) if name != MARK]
        damaged = {names[int(rng.integers(len(names)))] for _ in range(int(rng.integers(1, 3)))}
        for name, content in self.part.items():
            (part / name).write_bytes(mutate_bytes(rng, content) if name in damaged else content)
        self._restore(folder / "out")
        found = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
        for name, content in found.items():
            # A frame that kept its size is not read again: that would take as long as making it.
            assert content == self.expected[name] or (name in damaged and len(content) == len(self.expected[name]))
        assert found.keys() == self.expected.keys()


class Prepared(Kind):
    weight = 1.0

    def make(self, folder: Path) -> None:
        self.source = write_video(folder / "in.mkv", pattern(3, 16, 16), 25, codec="ffv1")
        (clip,) = open_clips(self.source)
        extract_frames(clip, folder / "out", workers=1)
        self.record = (folder / "out" / "prepared.json").read_bytes()

    def run(self, rng: np.random.Generator, folder: Path) -> None:
        place = folder / ("out" if rng.random() < 0.5 else ".out.partial")
        place.mkdir()
        tree = mutate_tree(rng, json.loads(self.record)) if rng.random() < 0.5 else json.loads(self.record)
        content = json.dumps(tree).encode()
        (place / "prepared.json").write_bytes(mutate_bytes(rng, content) if rng.random() < 0.7 else content)
        if rng.random() < 0.5:
            (place / MARK).touch()
        (clip,) = open_clips(self.source)
        extract_frames(clip, folder / "out", workers=1)


KINDS: dict[str, type[Kind]] = {
    "options": OptionFiles,
    "operators": Operators,
    "psf": PSFs,
    "images": Images,
    "videos": Videos,
    "stores": Stores,
    "checkpoints": Checkpoints,
    "converted": Converted,
    "polish": Polish,
    "figures": Figures,
    "records": Records,
    "prepared": Prepared,
}
