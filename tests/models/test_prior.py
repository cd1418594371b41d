"""The seam of priors: all take the same, and the network knows none of them by name."""

import inspect
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from davsr.models.davsr import DAVSR
from davsr.models.prior import Observation, Prior
from davsr.options import EnhancementOptions, ModelOptions, RoundsOptions

KINDS = [kind for kind in get_args(get_type_hints(EnhancementOptions)["kind"]) if kind != "none"]
SMALL = {
    "channels": 8,
    "blocks": 1,
    "feature_blocks": 1,
    "reconstruction_blocks": 1,
    "hr_channels": 8,
    "groups": 2,
    "fusion_channels": 8,
    "fusion_blocks": 1,
}


class Darker(Prior):
    """What a stranger might write: it looks at all that a prior may look at."""

    def __init__(self, least_scale: int = 1) -> None:
        super().__init__()
        self.least_scale, self.seen = least_scale, []

    def forward(self, z: Tensor, beta: Tensor, alpha: Tensor, clip: Observation) -> Tensor:
        self.seen.append((beta, alpha, clip))
        return z - 0.01

    def applies(self, operator: object, sigma: float | Tensor) -> bool:
        return operator.scale[0] >= self.least_scale


@pytest.mark.parametrize("kind", KINDS)
def test_priors_take_the_same_and_keep_the_shape(kind: str):
    network = DAVSR(ModelOptions(iterations=1, enhancement=EnhancementOptions(kind=kind, **SMALL))).eval()
    assert isinstance(network.enhance, Prior)
    taken = [p.name for p in inspect.signature(network.enhance.forward).parameters.values() if p.kind != p.KEYWORD_ONLY]
    assert taken == ["z", "beta", "alpha", "clip"]
    A, lq = network.degradation, torch.rand(1, 2, 3, 8, 12)
    clip = Observation(lq, A, torch.zeros(1), network.interpolate.motion(lq, A))
    z = network.interpolate(lq, A)
    with torch.no_grad():
        x = network.enhance(z, torch.ones(1), torch.ones(1), clip)
    assert x.shape == z.shape and x.dtype == z.dtype


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_new_prior_needs_no_change_of_the_network(rounds: int):
    network = DAVSR(
        ModelOptions(iterations=2, rounds=RoundsOptions(count=rounds), enhancement=EnhancementOptions(kind="none"))
    ).eval()
    lq = torch.rand(1, 2, 3, 8, 12)
    network.enhance = prior = Darker()
    with torch.no_grad():
        _, stages = network(lq, 0.02, return_stages=True)
    made = stages.named()
    assert list(made)[-4:] == ["z_1", "x_1", "z_2", "x_2"]
    torch.testing.assert_close(made["x_2"], made["z_2"] - 0.01)
    for k, (beta, alpha, clip) in enumerate(prior.seen):
        assert torch.equal(beta, stages.beta[:, k]) and torch.equal(alpha, stages.alpha[:, k])
        assert torch.equal(clip.lq, lq) and clip.operator is network.degradation and len(clip.motion.times) == 10
        torch.testing.assert_close(clip.sigma, torch.tensor([0.02]))


def test_where_it_does_not_apply_it_is_left_out():
    network = DAVSR(ModelOptions(iterations=1, enhancement=EnhancementOptions(kind="none"))).eval()
    lq = torch.rand(1, 2, 3, 8, 12)
    with torch.no_grad():
        without = network(lq)
        network.enhance = Darker(least_scale=6)
        assert torch.equal(network(lq), without) and not network.applies(network.degradation)


def test_a_prior_without_a_body_says_so():
    with pytest.raises(NotImplementedError, match=r"Prior\.forward"):
        Prior()(torch.zeros(1), torch.zeros(1), torch.zeros(1), None)
