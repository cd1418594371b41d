"""Learned rounds with a derivative of their own: that of their parts; and those where more is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from davsr.models import rounds
from davsr.models.rounds import MotionPrior
from davsr.ops import backend
from davsr.physics.degradation import Degradation
from tests.models.test_fixed_rounds import SCALE, by_parts, clip

needs_extension = pytest.mark.skipif(
    not backend().name.startswith("cpu"), reason=f"no extension for CPUs: {backend().reason}"
)


def prior_of(count: int) -> MotionPrior:
    """Rounds whose learned parts, and their strengths, say something."""
    prior = MotionPrior(count, 8)
    assert prior.trust is not None and prior.detail is not None
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in (prior.trust, prior.detail):
            for parameter in module.layers.parameters():
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
        for parameter in (prior.log_steps, prior.detail.strength):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return prior


def slopes(prior: MotionPrior, operator: Degradation, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The result, and the gradients of x, y, sigma and every parameter."""
    x, y, motion = clip(dtype)
    leaves = {"x": x, "y": y, "sigma": torch.tensor([0.02, 0.1], dtype=dtype), **dict(prior.named_parameters())}
    for leaf in leaves.values():
        leaf.requires_grad_()
    out = prior(x, y, motion, operator, leaves["sigma"])
    loss = (out * torch.linspace(-1, 1, out.shape[-1], dtype=dtype)).sum()
    return {
        "out": out.detach(),
        **dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)),
    }


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one where the rounds go back as one function."""
    calls: list[int] = []
    whole = rounds.learned_rounds
    monkeypatch.setattr(rounds, "learned_rounds", lambda *given, **how: calls.append(1) or whole(*given, **how))
    return calls


@needs_extension
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_gradient_is_that_of_the_parts(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Of those in float64, from which both are as far."""
    calls = counted(monkeypatch)
    operator, prior = Degradation(SCALE), prior_of(count)
    ours = slopes(prior, operator)
    assert calls
    by_parts(monkeypatch)
    exact = slopes(prior.double(), operator, torch.float64)
    assert len(calls) == 1
    for name, right in exact.items():
        assert (ours[name] - right).norm() <= 1e-3 * right.norm(), name  # 1e-5, or 3e-4 where a ReLU turns by rounding


@needs_extension
@pytest.mark.parametrize("solver", ["fourier", "cg"])
def test_every_solver_has_the_derivative_of_its_data_step(monkeypatch: pytest.MonkeyPatch, solver) -> None:
    calls = counted(monkeypatch)
    operator, prior = Degradation(SCALE, boundary="circular", solver=solver), prior_of(2)
    ours = slopes(prior, operator)
    assert calls
    by_parts(monkeypatch)
    for name, right in slopes(prior, operator).items():
        assert (ours[name] - right).norm() <= 1e-3 * right.norm(), name  # as the solver's tolerance lets it


@needs_extension
def test_the_gradient_may_be_taken_twice_and_inputs_stay() -> None:
    operator, prior = Degradation(SCALE), prior_of(3)
    x, y, motion = clip(torch.float32)
    before = x.clone()
    out = prior(x.requires_grad_(), y, motion, operator)
    first, again = (torch.autograd.grad(out.sum(), [x, *prior.parameters()], retain_graph=True) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(x.detach(), before)


@needs_extension
def test_frozen_weights_have_no_gradient() -> None:
    operator, prior = Degradation(SCALE), prior_of(2).requires_grad_(False)
    x, y, motion = clip(torch.float32)
    out = prior(x.requires_grad_(), y, motion, operator)
    out.sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in prior.parameters())
