"""The enhancement of every frame by itself."""

from __future__ import annotations

import pytest
import torch

from davsr.models.davsr import DAVSR
from davsr.models.frame_enhancement import FrameEnhancement
from davsr.options import DegradationOptions, EnhancementOptions, HyperOptions, InterpolationOptions, ModelOptions


def enhancement(beta: bool = False) -> FrameEnhancement:
    """With weights that do something."""
    torch.manual_seed(0)
    model = FrameEnhancement(EnhancementOptions(kind="frames", channels=8, blocks=2, beta_channel=beta))
    for parameter in model.last.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 9, 14), (2, 3, 2)])
def test_starts_as_the_identity_and_takes_any_size(size):
    z = torch.rand(2, 3, *size)
    fresh = FrameEnhancement(EnhancementOptions(kind="frames", channels=8, blocks=1, beta_channel=False))
    assert torch.equal(fresh(z), z)
    changed = enhancement()(z)
    assert changed.shape == z.shape and not torch.equal(changed, z)


def test_every_frame_is_by_itself_however_many_go_together(monkeypatch):
    model = enhancement(beta=True)
    z, beta = torch.rand(2, 3, 5, 12, 16), torch.tensor([0.1, 0.7])
    whole = model(z, beta)
    monkeypatch.setattr("davsr.models.frame_enhancement._PIXELS", 2 * 12 * 16)
    torch.testing.assert_close(model(z, beta), whole)
    for b in range(2):
        torch.testing.assert_close(model(z[b : b + 1, :, 3:4], beta[b : b + 1]), whole[b : b + 1, :, 3:4])


def test_a_shade_added_to_a_frame_is_added_to_the_result():
    """The network sees the deviations from the mean of a cell alone."""
    model = enhancement()
    z = torch.rand(1, 3, 2, 12, 12)
    torch.testing.assert_close(model(z + 0.2), model(z) + 0.2)


def test_every_parameter_learns():
    model = enhancement(beta=True)
    model(torch.rand(1, 3, 2, 8, 8), torch.tensor([0.3])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_is_the_prior_of_the_network():
    options = ModelOptions(
        iterations=2,
        interpolation=InterpolationOptions(method="linear"),
        hyper=HyperOptions(kind="fixed"),
        enhancement=EnhancementOptions(kind="frames", channels=4, blocks=1),
    )
    model = DAVSR(options, DegradationOptions(scale=(2, 4, 4)))
    frames, stages = model(torch.rand(1, 2, 3, 4, 5), return_stages=True)
    assert list(stages.named()) == ["x_0", "z_1", "x_1", "z_2", "x_2"]
    assert isinstance(model.enhance, FrameEnhancement) and torch.equal(frames.transpose(1, 2), stages.x[1])


def test_errors():
    with pytest.raises(ValueError, match=r"FrameEnhancement: z must be \[b, 3, T, H, W\], got \[1, 2, 3, 8, 8\]"):
        enhancement()(torch.zeros(1, 2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"FrameEnhancement: beta must be \[1\], got None"):
        enhancement(beta=True)(torch.zeros(1, 3, 3, 8, 8))
