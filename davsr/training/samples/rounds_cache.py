"""Samples with what the frozen rounds along the motion make of them, computed once and kept on disk.

Rounds take several times as long as a step of what learns behind them. A run on `data.samples` samples meets each of
them many times; the first time, its rounds are computed and stored, 8 bits a value, with the motion in half precision.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from davsr import config
from davsr.checkpoints.loading import initial_model
from davsr.errors import InputError
from davsr.files import writing
from davsr.options import EnhancementOptions, HyperOptions, Options
from davsr.physics.degradation import Degradation
from davsr.pixels import to_uint8
from davsr.training.samples.dataset import VideoBatch, VideoSamples, draw_exposure, observe


class CachedRounds(Dataset[VideoBatch]):
    """`VideoSamples` that repeat after `data.samples`, each with `before`.

    x_0 of the rounds and the flows between LR frames.

    Raises:
        InputError: the options have no rounds, or rounds that learn, or a number of samples that steps do not divide.
    """

    def __init__(self, options: Options) -> None:
        data, batch = options.data, options.train.batch
        if data.samples == 0 or data.samples % batch:
            raise InputError(f"data.samples: must be a multiple of train.batch = {batch}, got {data.samples}")
        if not options.model.rounds.count:
            raise InputError("data.rounds_cache: there are no rounds to keep; set model.rounds.count")
        if options.model.rounds.channels and not options.train.interpolation_frozen:
            raise InputError("data.rounds_cache: rounds that learn change; set train.interpolation_frozen")
        self.samples, self.options = VideoSamples(options), options
        self.sources = self.samples.sources
        alone = replace(
            options.model,
            iterations=1,
            final_data_step=False,
            hyper=HyperOptions(kind="fixed"),
            enhancement=EnhancementOptions(kind="none"),
            weights=None,
        )
        self.model = initial_model(alone, options.degradation).requires_grad_(False)
        self.folder = Path(data.rounds_cache) / _key(options)

    def __getitem__(self, index: int) -> VideoBatch:
        """The sample as a batch of one."""
        number = index % self.options.data.samples
        file = self.folder / f"{number:06d}.npz"
        if not file.exists():
            self._compute(number, file)
        with np.load(file) as kept:
            return {
                "index": [index],
                "gt": torch.from_numpy(kept["gt"])[None],
                "lq": [torch.from_numpy(kept["lq"])],
                "sigma": torch.from_numpy(kept["sigma"]),
                "quality": [0],
                "before": [{name: torch.from_numpy(kept[name]) for name in ("x_0", "there", "back")}],
            }

    @torch.inference_mode()
    def _compute(self, number: int, file: Path) -> None:
        sample = self.samples[number]
        A = self._operator(number // self.options.train.batch)
        lq, _, sigma = observe(sample, A, self.options.seed, torch.device("cpu"))
        motion = self.model.interpolate.motion(lq, A)
        x = self.model.interpolate(lq, A, motion)
        assert self.model.rounds is not None and motion.there is not None and motion.back is not None
        x = self.model.rounds(x, lq.transpose(1, 2), motion.of_hr_frames(A.scale, lq), A, sigma)
        arrays = {
            "gt": sample["gt"][0].numpy(),
            "lq": to_uint8(lq)[0].numpy(),
            "sigma": sigma.numpy(),
            "x_0": to_uint8(x)[0].transpose(0, 1).contiguous().numpy(),
            "there": motion.there[0].half().numpy(),
            "back": motion.back[0].half().numpy(),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing(file) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes a name for its own option

    def _operator(self, step: int) -> Degradation:
        exposure = draw_exposure(self.options, step)
        return Degradation.from_options(
            replace(self.options.degradation, exposure=exposure or self.options.degradation.exposure)
        )


def _key(options: Options) -> str:
    """A name for all that the samples and their rounds follow from."""
    tree = config.to_tree(options)
    data = {
        key: value
        for key, value in tree["data"].items()
        if key not in ("validation", "workers", "cache", "rounds_cache")
    }
    model = {key: tree["model"][key] for key in ("interpolation", "rounds")}
    identity = [options.seed, options.train.batch, tree["degradation"], data, model]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
