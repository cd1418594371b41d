from __future__ import annotations

import pytest
import torch

from davsr.models.davsr import DAVSR
from davsr.options import (
    EnhancementOptions,
    FlowNetOptions,
    HyperOptions,
    InterpolationOptions,
    ModelOptions,
    Options,
)

PRIOR = EnhancementOptions(
    channels=8, blocks=1, feature_blocks=1, reconstruction_blocks=1, hr_channels=6, groups=4,
    flow=FlowNetOptions(levels=2, channels=(4,), kernel=3),
)  # fmt: skip


def network(**changes) -> DAVSR:
    """A small network whose zero-initialised layers are drawn too."""
    torch.manual_seed(0)
    settings = {
        "iterations": 2,
        "interpolation": InterpolationOptions(method="linear"),
        "enhancement": PRIOR,
        **changes,
    }
    model = DAVSR.from_options(Options(model=ModelOptions(**settings)))
    with torch.no_grad():
        for alignment in model.enhance.alignment.values():
            alignment.offset[-1].weight.normal_(std=0.1)
        for level in model.enhance.flow.levels:
            level[-1].weight.normal_(std=0.1)
    return model


def clip(b: int, t: int, h: int = 16, w: int = 18) -> torch.Tensor:
    return torch.rand(b, t, 3, h, w, generator=torch.Generator().manual_seed(2))


def test_every_parameter_gets_a_gradient():
    model = network()
    model(clip(1, 2), 0.05).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("method", ["linear", "flow", "nearest", "trilinear"])
def test_batch_equals_its_samples(method):
    model = network(interpolation=InterpolationOptions(method=method)).eval()
    lq, sigma = clip(3, 2), torch.tensor([0.0, 0.02, 0.1])
    with torch.no_grad():
        together = model(lq, sigma)
        apart = torch.cat([model(lq[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("t", [1, 2])
def test_stages_are_the_alternation(t):
    model = network().eval()
    lq = clip(2, t)
    with torch.no_grad():
        out, stages = model(lq, 0.01, return_stages=True)
        x = stages.x0
        for k in range(2):
            z = model.degradation.data_step(x, lq.transpose(1, 2), stages.alpha[:, k])
            torch.testing.assert_close(stages.z[k], z)
            x = model.enhance(z, stages.beta[:, k])
            torch.testing.assert_close(stages.x[k], x)
    assert out.shape == (2, 5 * t, 3, 64, 72)
    torch.testing.assert_close(out, x.transpose(1, 2))


def test_beta_reaches_the_prior_and_noise_both_penalties():
    model = network(hyper=HyperOptions(beta=0.5))
    lq = clip(1, 2)
    _, quiet = model(lq, 0.0, return_stages=True)
    _, noisy = model(lq, 0.2, return_stages=True)
    torch.testing.assert_close(quiet.beta, torch.full((1, 2), 0.5), rtol=1e-5, atol=0)  # float32 bias of a softplus
    assert (quiet.alpha != noisy.alpha).all() and (quiet.beta != noisy.beta).all()


def test_autocast_keeps_the_data_step_and_the_result_in_float32():
    model = network().eval()
    lq = clip(1, 2)
    with torch.no_grad():
        _, exact = model(lq, return_stages=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out, stages = model(lq, return_stages=True)
    assert out.dtype == stages.z[1].dtype == torch.float32
    assert torch.equal(stages.alpha, exact.alpha)
    torch.testing.assert_close(stages.z[0], exact.z[0])
