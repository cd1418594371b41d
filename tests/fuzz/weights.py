"""Checkpoints of ours and of published namings that are mutated."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from davsr import config
from davsr.checkpoints.fit import load_strictly
from davsr.checkpoints.loading import load_model
from davsr.checkpoints.network import KEY, network_section
from davsr.cli import main
from davsr.errors import InputError
from davsr.training.optimizer import make_optimizer, restore_optimizer
from davsr.training.state import restored
from tests.fuzz.base import Kind
from tests.fuzz.mutate import mutate_bytes, mutate_tree
from tests.runs import options as small_options


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
            KEY: network_section(options),
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
        tree = dict(self.tree)
        if rng.random() < 0.3:  # as version 0.1 wrote them
            del tree[KEY]
        torch.save(mutate_tensors(rng, mutate_tree(rng, tree) if rng.random() < 0.5 else tree), file)
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
