"""Rounds with a derivative of their own: that of their parts; and those where more is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from davsr.models import rounds
from davsr.models.rounds import MotionPrior
from davsr.ops import backend
from davsr.physics.degradation import Degradation
from davsr.physics.operator import Operator
from davsr.physics.response import LinearLight

needs_extension = pytest.mark.skipif(backend().name == "reference", reason=f"no extension: {backend().reason}")
SCALE = (3, 2, 2)


def clip(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """An estimate, an observation and a motion, of two samples."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64).to(dtype)

    return uniform(2, 3, 6, 12, 20), uniform(2, 3, 2, 6, 10), 3 * uniform(2, 6, 2, 12, 20) - 1.5


def slopes(
    prior: MotionPrior, operator: Operator, wanted: str, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """The result, the first data step, and the gradients of `wanted` for both."""
    x, y, motion = clip(dtype)
    given = {"x": x, "y": y, "motion": motion, "sigma": torch.tensor([0.02, 0.1], dtype=dtype)}
    leaves = {name: given[name].requires_grad_() for name in wanted.split()}
    stages: dict[str, Tensor] = {}
    out = prior(x, y, motion, operator, given["sigma"], stages)
    loss = (out * torch.linspace(-1, 1, out.shape[-1], dtype=dtype)).sum() + stages["r_0"].square().sum()
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    return {"out": out.detach(), "first": stages["r_0"].detach(), **found}


def by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MotionPrior, "_goes_back_as_one", lambda *_: False)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one where the rounds go back as one function."""
    calls: list[int] = []
    whole = rounds.fixed_rounds
    monkeypatch.setattr(rounds, "fixed_rounds", lambda *given: calls.append(1) or whole(*given))
    return calls


@needs_extension
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("wanted", ["x", "x y"])
def test_the_gradient_is_that_of_the_parts(monkeypatch: pytest.MonkeyPatch, count: int, wanted: str) -> None:
    calls = counted(monkeypatch)
    operator, prior = Degradation(SCALE), MotionPrior(count)
    ours = slopes(prior, operator, wanted)
    assert calls
    by_parts(monkeypatch)
    torch.testing.assert_close(ours, slopes(prior, operator, wanted))
    assert len(calls) == 1


@needs_extension
def test_float32_is_near_float64() -> None:
    """1e-5 of the deviation is asked for."""
    operator, prior = Degradation(SCALE), MotionPrior(4)
    exact = slopes(prior, operator, "x y")
    for name, value in slopes(prior, operator, "x y", torch.float32).items():
        assert (value - exact[name]).square().mean().sqrt() < 1e-5 * exact[name].std(), name


@needs_extension
def test_the_derivative_is_right_and_may_be_taken_twice() -> None:
    operator, prior = Degradation(SCALE), MotionPrior(3)
    x, y, motion = (v[:1, :, ...] for v in clip())
    given = x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: prior(x, y, motion, operator), given, fast_mode=True)
    out, before = prior(x, y, motion, operator), x.detach().clone()
    first, again = (torch.autograd.grad(out.sum(), given, retain_graph=True) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize(
    "operator, channels, wanted",
    [
        (Degradation(SCALE), 0, "x motion"),
        (Degradation(SCALE), 0, "x sigma"),
        (Degradation(SCALE), 4, "x y"),
        (Degradation(SCALE), 4, "x motion"),
        (LinearLight(Degradation(SCALE)), 0, "x y"),
    ],
    ids=["motion", "sigma", "learned in float64", "learned, motion", "linear light"],
)
def test_what_else_is_asked_for_goes_by_the_parts(
    monkeypatch: pytest.MonkeyPatch, operator: Operator, channels: int, wanted: str
) -> None:
    calls = counted(monkeypatch)
    found = slopes(MotionPrior(2, channels).double(), operator, wanted)
    assert not calls
    for name in wanted.split():
        assert found[name].isfinite().all() and found[name].abs().max() > 0
