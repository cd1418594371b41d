"""The golden vectors and networks that compute them."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from davsr.checkpoints.convert import convert
from davsr.checkpoints.fit import load_into
from davsr.models.davsr import DAVSR
from davsr.options import (
    DegradationOptions,
    EnhancementOptions,
    InterpolationOptions,
    ModelOptions,
    Options,
)

FOLDER = Path(os.environ.get("DAVSR_GOLDEN", Path(__file__).parent / "data" / "golden"))


@dataclass(frozen=True)
class Case:
    """One folder of vectors and the options that make our network the published one."""

    seed: int
    channels: int
    blocks: int
    iterations: int
    beta_channel: bool
    method: str


CASES = {
    "trilinear_beta": Case(7, 16, 2, 2, True, "trilinear"),
    "slomo": Case(11, 16, 1, 1, False, "slomo"),
    "sigma_odd": Case(13, 24, 1, 1, True, "trilinear"),
}


def shapes(name: str, file: str = "state_dict_shapes.json") -> dict[str, list[int]]:
    return json.loads((FOLDER / name / file).read_text())


def vectors(name: str, file: str) -> dict[str, Tensor]:
    with np.load(FOLDER / name / f"{file}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def formula_weights(names: Mapping[str, list[int]], seed: int) -> dict[str, Tensor]:
    """The weights behind the vectors: normal numbers seeded by the parameter's name."""
    weights = {}
    for name, shape in names.items():
        if name.endswith((".mean", ".std")):
            continue  # buffers keep their values
        generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) + seed))
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.01
        weights[name] = torch.from_numpy(values)
    return weights


def options(case: Case) -> Options:
    """The published conventions, as ordinary option values."""
    return Options(
        degradation=DegradationOptions(
            phase=-2, boundary="circular", psf=str(FOLDER / "bicubic_x4_psf.npy"), psf_origin=(12, 12)
        ),
        model=ModelOptions(
            iterations=case.iterations,
            interpolation=InterpolationOptions(method=case.method, resize="bilinear_corners", centre=2.0),  # type: ignore[arg-type]  # a recorded name
            enhancement=EnhancementOptions(channels=case.channels, blocks=case.blocks, beta_channel=case.beta_channel),
        ),
    )


@cache
def network(name: str) -> DAVSR:
    """The network of a case with its formula weights, through the converters."""
    case = CASES[name]
    model = DAVSR.from_options(options(case)).eval()
    load_into(model, convert(formula_weights(shapes(name), case.seed)))
    if case.method == "slomo":
        tree = {
            "state_dictFC": formula_weights(shapes(name, "slomo_flow_shapes.json"), 11),
            "state_dictAT": formula_weights(shapes(name, "slomo_interp_shapes.json"), 12),
        }
        load_into(model, convert(tree))
    return model


def stored_part(output: Tensor, stored: Tensor) -> Tensor:
    """The rows and columns of `output` that the vectors keep: every n-th."""
    n = math.ceil(output.shape[-1] / stored.shape[-1])
    return output[..., ::n, ::n]


def assert_agrees(output: Tensor, stored: Tensor, *, largest: float, rms: float | None = None) -> None:
    """Differences relative to the standard deviation of the stored vector."""
    assert output.shape == stored.shape
    error = (output.double() - stored.double()) / stored.double().std()
    assert error.abs().max() <= largest, f"largest difference {error.abs().max():.2e}, allowed {largest:.0e}"
    if rms is not None:
        assert error.square().mean().sqrt() <= rms, (
            f"rms difference {error.square().mean().sqrt():.2e}, allowed {rms:.0e}"
        )
