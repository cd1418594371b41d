"""The data step's own derivative: that of its parts, twice differentiable, and few operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from davsr.ops import backend
from davsr.physics.degradation import Degradation
from davsr.physics.solvers import alpha_per_sample

DENSE = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MODELS = [
    Degradation((2, 2, 3), boundary="reflect"),
    Degradation((2, 1, 2), exposure=3.5, phase=-0.5, boundary="circular"),
    Degradation((2, 2, 2), psf=DENSE, boundary="reflect", tolerance=1e-14),  # by conjugate gradients
    Degradation((1, 2, 2), psf="gaussian", solver="fourier", boundary="reflect"),
]


def tensors(A: Degradation, low: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    high = [n * s for n, s in zip(low, A.scale, strict=True)]
    made = [torch.rand(2, 2, *size, generator=generator, dtype=torch.float64) for size in (high, low)]
    return [v.to(dtype).requires_grad_() for v in (*made, torch.tensor([0.05, 0.5]))]


def step_of_parts(A: Degradation, x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
    """The same with autograd's derivative."""
    return A._add_adjoint(x, A._solve(y - A.apply(x), alpha_per_sample(alpha, x)))


@pytest.mark.parametrize("wanted", [(0, 1, 2), (0,), (1,), (2,)], ids=str)
@pytest.mark.parametrize("A", MODELS, ids=repr)
def test_the_derivative_is_that_of_its_parts(A: Degradation, wanted: tuple[int, ...]) -> None:
    results = []
    for step in (A.data_step, lambda *given: step_of_parts(A, *given)):
        given = [v.detach().requires_grad_(i in wanted) for i, v in enumerate(tensors(A, (2, 3, 2)))]
        z = step(*given)
        grad = torch.rand(z.shape, generator=torch.Generator().manual_seed(2), dtype=z.dtype)
        results.append([z, *torch.autograd.grad(z, [given[i] for i in wanted], grad)])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("A", MODELS, ids=repr)
def test_it_can_be_differentiated_twice(A: Degradation) -> None:
    given = tensors(A, (1, 2, 2))
    assert torch.autograd.gradgradcheck(A.data_step, given, fast_mode=True)


class Counted(TorchDispatchMode):
    """How often operations run that do work: on a GPU, a launch each, or three for a camera or its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = ("view", "transpose", "expand", "detach", "alias", "empty", "is_same_size", "reshape", "t.default")
        if not any(name in str(function) for name in views):
            self.launches += 3 if "davsr.camera" in str(function) else 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("A", MODELS, ids=repr)
def test_in_one_call_it_is_what_its_parts_make(A: Degradation, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr("davsr.physics.degradation.data_step_compiled", lambda x: False)
        x, y, alpha = (v.detach() for v in tensors(A, (2, 3, 2)))
        made = [A.data_step(x, y, alpha), *A.data_step_gradient(x, alpha)]
        into = x.clone()
        made += A.data_step_kept(into, y, alpha, out=into)
        torch.testing.assert_close(made[-2], into, rtol=0, atol=0)
        results.append(made)
    torch.testing.assert_close(*results)


@pytest.mark.skipif(backend().name == "reference", reason="the ops are not compiled here")
@pytest.mark.parametrize("boundary", ["reflect", "circular"])
def test_a_gpu_waits_for_few_launches(boundary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirteen for the step, sixteen for its gradients; on the CPU alpha takes three, not one, to be looked at."""
    monkeypatch.setattr("davsr.physics.degradation.data_step_compiled", lambda x: False)  # a GPU has it in parts
    A = Degradation((5, 4, 4), boundary=boundary)
    given = tensors(A, (2, 4, 4), torch.float32)
    z = A.data_step(*given)  # makes what is kept
    torch.autograd.grad(z.sum(), given)
    with Counted() as forward, torch.no_grad():
        A.data_step(*given)
    assert forward.launches <= 15
    z, grad = A.data_step(*given), torch.ones_like(z)
    with Counted() as backward:
        torch.autograd.grad(z, given, grad)
    assert backward.launches <= 16
