"""The whole network under torch.compile without graph breaks, and as an exported program."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, EnhancementOptions, FlowNetOptions, InterpolationOptions, ModelOptions
from davsr.physics.degradation import Degradation
from davsr.physics.factors import _takes_reason

TINY = ModelOptions(
    iterations=1,
    interpolation=InterpolationOptions(method="linear"),  # DIS flow is OpenCV's and cannot be traced
    enhancement=EnhancementOptions(
        channels=4,
        blocks=1,
        feature_blocks=1,
        reconstruction_blocks=1,
        groups=2,
        hr_channels=4,
        flow=FlowNetOptions(2, (4,), 3),
    ),
)


@pytest.fixture(scope="module")
def network() -> DAVSR:
    torch.manual_seed(0)
    return DAVSR(TINY, DegradationOptions(scale=(3, 2, 2)))


@pytest.fixture(scope="module")
def lq() -> Tensor:
    return torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_compiled_network_and_its_gradients(network: DAVSR, lq: Tensor) -> None:
    expected = network(lq)
    expected.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    result = compiled(lq)
    result.square().mean().backward()
    torch.testing.assert_close(result, expected)
    for name, parameter in network.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name])


@pytest.mark.slow
def test_exported_network(network: DAVSR, lq: Tensor) -> None:
    with torch.no_grad():
        expected = network(lq)
        program = torch.export.export(network.eval(), (lq,))
        torch.testing.assert_close(program.module()(lq), expected)


def compiled_data_step(degradation: Degradation, fullgraph: bool) -> Callable[..., Tensor]:
    return torch.compile(lambda x, y: degradation.data_step(x, y, 0.1), fullgraph=fullgraph, backend="eager")


def test_compiling_at_new_sizes_breaks_the_graph_but_works_and_says_why() -> None:
    x, y = torch.rand(1, 3, 4, 8, 8), torch.rand(1, 3, 2, 4, 4)
    degradation = Degradation((2, 2, 2))
    torch._dynamo.reset()
    torch.testing.assert_close(compiled_data_step(degradation, False)(x, y), degradation.data_step(x, y, 0.1))
    torch._dynamo.reset()
    # torch 2.6 takes no reason and names the function instead
    why = "call the model once at the same sizes" if _takes_reason else "_keep_tensor"
    with pytest.raises(torch._dynamo.exc.Unsupported, match=why):
        compiled_data_step(Degradation((2, 2, 2)), True)(x, y)
