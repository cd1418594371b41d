"""Every kind of model x precision of clip and weights x what is to be learned: right, and in the clip's dtype."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from davsr.checkpoints.loading import ALONG_MOTION, SHIPPED, TRAINING_FREE, load_model
from davsr.models.davsr import DAVSR
from davsr.models.interpolation import Interpolation
from davsr.ops import deform_align
from davsr.options import (
    EnhancementOptions,
    FlowNetOptions,
    HyperOptions,
    InterpolationOptions,
    ModelOptions,
    RoundsOptions,
)
from davsr.physics.degradation import Degradation


def tiny_rve() -> DAVSR:
    """Layers that start at zero are drawn too, so that every part has its say."""
    torch.manual_seed(0)
    prior = EnhancementOptions(
        channels=8, blocks=1, feature_blocks=1, reconstruction_blocks=1, hr_channels=6, groups=4,
        flow=FlowNetOptions(levels=2, channels=(4,), kernel=3),
    )  # fmt: skip
    model = DAVSR(ModelOptions(iterations=2, enhancement=prior))
    with torch.no_grad():
        for alignment in model.enhance.alignment.values():
            alignment.offset[-1].weight.normal_(std=0.1)
    return model


def tiny_recurrent() -> DAVSR:
    """Likewise, after one round."""
    torch.manual_seed(0)
    prior = EnhancementOptions(
        kind="recurrent", channels=8, blocks=1, recurrent_blocks=1, fusion_channels=6, fusion_blocks=1
    )
    hyper = HyperOptions(kind="fixed", alpha=0.08)
    model = DAVSR(ModelOptions(1, final_data_step=True, rounds=RoundsOptions(1), hyper=hyper, enhancement=prior))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


MODELS: dict[str, Callable[[], DAVSR]] = {
    "shipped": lambda: load_model(SHIPPED),
    "training-free": lambda: load_model(model=TRAINING_FREE),
    "rounds": lambda: load_model(model=ALONG_MOTION),
    "rve": tiny_rve,
    "recurrent": tiny_recurrent,
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Of values up to 1. What is not rounded at the end differs by what the networks' own precision does to their share of
# the result.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.float16: 1e-3}


PRECISIONS = (
    *((dtype, dtype) for dtype in DTYPES),
    (torch.float32, torch.float64),
    (torch.float32, torch.bfloat16),
    (torch.float64, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float64),
)


def clip(dtype: torch.dtype = torch.float32) -> Tensor:
    """A grating [1, 2, 3, 8, 12] that moves by half a pixel."""
    t, c, y, x = torch.meshgrid(*(torch.arange(n) for n in (2, 3, 8, 12)), indexing="ij")
    video = 0.5 + 0.3 * torch.sin(0.7 * (x - 0.5 * t) + 0.4 * y + c) + 0.1 * torch.cos(1.9 * x - y)
    return video[None].to(dtype)


def worst(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


@functools.cache
def exact(name: str, dtype: torch.dtype) -> Tensor:
    """What a model makes of the clip of this precision, computed in float64."""
    with torch.no_grad():
        return MODELS[name]().double()(clip(dtype).double())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weights, dtype", PRECISIONS, ids=str)
def test_the_result_has_the_clips_dtype_whatever_the_weights_have(name, weights, dtype):
    with torch.no_grad():
        result = MODELS[name]().to(weights)(clip(dtype))
    assert result.dtype == dtype
    assert worst(result, exact(name, dtype)) <= max(TOLERANCE[dtype], TOLERANCE[weights])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_autocast_keeps_the_dtype(name, dtype):
    model = MODELS[name]().to(dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        result = model(clip(dtype))
    assert result.dtype == dtype
    # Autocast leaves float64 alone, and lowers what convolutions of float32 see.
    assert worst(result, exact(name, dtype)) <= (1e-12 if dtype == torch.float64 else 1e-2)


def gradients(model: DAVSR, lq: Tensor, *, trainable: bool, autocast: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the result's mean square: in the input, and in the weights."""
    model.requires_grad_(trainable)
    lq = lq.clone().requires_grad_()
    context = torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext()
    with context:
        model(lq).square().mean().backward()
    assert lq.grad is not None
    return lq.grad, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16", "autocast"])
def test_the_input_has_a_gradient_whether_or_not_the_weights_learn(name, kind):
    autocast = kind == "autocast"
    dtype = torch.float32 if autocast else getattr(torch, kind)
    model = MODELS[name]().to(dtype)
    frozen, none = gradients(model, clip(dtype), trainable=False, autocast=autocast)
    learning, of_weights = gradients(model, clip(dtype), trainable=True, autocast=autocast)
    assert not none and frozen.dtype == dtype and frozen.abs().sum() > 0
    torch.testing.assert_close(frozen, learning)
    assert all(g.isfinite().all() for g in of_weights.values())
    assert set(of_weights) == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_in_the_input_is_the_derivative(name):
    """Of a frozen model, along a random direction.

    The flow by OpenCV is taken as given, and stays so for steps so small.
    """
    model = MODELS[name]().double()
    lq = clip(torch.float64)
    gradient, _ = gradients(model, lq, trainable=False, autocast=False)
    direction = torch.randn(lq.shape, dtype=lq.dtype, generator=torch.Generator().manual_seed(1))
    step = 1e-7  # at 1e-6 a unit of the shipped prior lies on the other side of its kink
    with torch.no_grad():
        ends = [model(lq + sign * step * direction).square().mean() for sign in (1, -1)]
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), (gradient * direction).sum(), rtol=1e-5, atol=1e-9)


def test_noise_has_a_gradient_through_rounds_that_do_not_learn():
    model = MODELS["rounds"]()
    sigma = torch.tensor(0.01, requires_grad=True)
    model(clip(), sigma).square().mean().backward()
    assert sigma.grad is not None and sigma.grad != 0


@pytest.mark.parametrize("method", ["slomo", "flow"])
def test_learned_interpolation_takes_every_precision(method):
    torch.manual_seed(0)
    module = Interpolation(InterpolationOptions(method=method, flow="spynet"))
    with torch.no_grad():
        exact = module.double()(clip(torch.float64), Degradation())
        for weights in DTYPES:
            result = module.to(weights)(clip(), Degradation())
            assert result.dtype == (torch.float64 if weights == torch.float64 and method == "slomo" else torch.float32)
            assert worst(result, exact) <= max(TOLERANCE[torch.float32], TOLERANCE[weights])


def test_autocast_does_not_lower_a_float64_alignment():
    torch.manual_seed(0)
    features, raw = torch.rand(1, 8, 5, 6), torch.randn(1, 54, 5, 6)
    flow, weight = torch.randn(1, 2, 5, 6), torch.randn(4, 8, 3, 3)
    given = [x.double() for x in (features, raw, flow, flow, weight)]
    exact = deform_align(*given, None, groups=2, max_residue=3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = deform_align(*given, None, groups=2, max_residue=3.0)
        mixed = deform_align(*given[:4], weight, None, groups=2, max_residue=3.0)
    assert result.dtype == torch.float64
    assert torch.equal(result, exact) and torch.equal(mixed, exact)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 12, 16), torch.zeros(1, 2, 3, 12, 16, dtype=torch.int32)])
def test_what_is_no_clip_is_refused_in_one_sentence(wrong):
    with pytest.raises(ValueError, match=r"DAVSR: lq must be floating point \[b, t, c, h, w\]"):
        MODELS["training-free"]()(wrong)
