"""What commands read and leave: pairs to polish, figures, records and pieces of runs that were stopped, mutated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.data.clips import open_clips
from davsr.files import MARK
from davsr.options import DegradationOptions, RestoreOptions
from davsr.prepare.extract import extract_frames
from davsr.restoration.polishing import polish
from davsr.restoration.restore import restore
from davsr.training.record import Record
from tests.fuzz.base import Kind
from tests.fuzz.mutate import mutate_bytes, mutate_tree
from tests.videos import pattern, write_video


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
