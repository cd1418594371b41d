from __future__ import annotations

import pytest
import torch

from davsr.errors import InputError
from davsr.models.hyper import FixedHyper, HyPaNet
from davsr.physics.degradation import Degradation

STANDARD = Degradation()


@pytest.mark.parametrize(("alpha", "beta"), [(0.003, 0.1), (0.24, 1e-3), (30.0, 2.0)])
def test_starts_at_the_given_values(alpha, beta):
    torch.manual_seed(0)
    got_alpha, got_beta = HyPaNet(3, (5, 4, 4), alpha=alpha, beta=beta)(torch.zeros(2), STANDARD)
    assert got_alpha.shape == got_beta.shape == (2, 3)
    # rtol: the bias, near -6, is rounded to float32, and the softplus turns that into a relative error
    torch.testing.assert_close(got_alpha, torch.full((2, 3), alpha), rtol=1e-5, atol=0)
    torch.testing.assert_close(got_beta, torch.full((2, 3), beta), rtol=1e-5, atol=0)


def test_depends_on_noise_and_scale_by_sample():
    torch.manual_seed(0)
    model = HyPaNet(1, (5, 4, 4), alpha=0.1, beta=0.1)
    alpha, _ = model(torch.tensor([0.0, 0.2]), STANDARD)
    assert alpha[0] != alpha[1]
    other, _ = model(torch.tensor([0.0, 0.2]), Degradation((2, 4, 4)))
    assert (alpha != other).all()
    alone, _ = model(torch.tensor([0.2]), STANDARD)
    torch.testing.assert_close(alone[0], alpha[1])


def test_every_parameter_learns_from_the_start():
    torch.manual_seed(0)
    model = HyPaNet(2, (5, 4, 4), alpha=0.003, beta=0.1)
    alpha, beta = model(torch.tensor([0.05]), STANDARD)
    (alpha.sum() + beta.sum()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_autocast_does_not_lower_the_penalties():
    torch.manual_seed(0)
    model = HyPaNet(1, (5, 4, 4), alpha=0.003, beta=0.1)
    expected, _ = model(torch.zeros(1), STANDARD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alpha, _ = model(torch.zeros(1), STANDARD)
    assert torch.equal(alpha, expected)


def test_fixed_is_constant_and_has_nothing_to_learn():
    model = FixedHyper(2, alpha=0.003, beta=0.0)
    alpha, beta = model(torch.rand(3), STANDARD)
    assert torch.equal(alpha, torch.full((3, 2), 0.003 * STANDARD.largest_eigenvalue())) and torch.equal(
        beta, torch.zeros(3, 2)
    )
    assert list(model.parameters()) == []


def test_values_out_of_range_are_named():
    with pytest.raises(InputError, match=r"model\.hyper\.beta must start above 1e-06 where it is learned, got 0"):
        HyPaNet(1, (5, 4, 4), alpha=0.1, beta=0)
    with pytest.raises(InputError, match=r"model\.hyper\.alpha must be a positive number, got inf"):
        FixedHyper(1, alpha=float("inf"), beta=0.1)
