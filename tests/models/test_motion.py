"""Restoration along the motion: what it keeps, what it refuses, what it recovers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from davsr.checkpoints.loading import ALONG_MOTION
from davsr.models.davsr import DAVSR
from davsr.models.interpolation import Interpolation
from davsr.models.motion import length, motion_between
from davsr.models.rounds import FLAT, FLATTENING, MotionPrior, raised_motion
from davsr.ops import flatten
from davsr.options import InterpolationOptions, RoundsOptions, load_options
from davsr.physics.degradation import Degradation
from davsr.restoration.planning import bytes_per_pixel, default_margin, default_overlap


def moving_texture(frames: int, size: int, velocity: tuple[float, float]) -> Tensor:
    """A smooth random texture [1, 3, T, H, W] that moves by `velocity` (dx, dy) pixels a frame."""
    waves = np.random.default_rng(0).normal(0, 0.5, size=(24, 2))
    phases = np.random.default_rng(1).uniform(0, 2 * np.pi, size=(24, 3))
    t, y, x = np.meshgrid(np.arange(frames), np.arange(size), np.arange(size), indexing="ij")
    place = np.stack([x - velocity[0] * t, y - velocity[1] * t], axis=-1)
    video = np.sin((place @ waves.T)[..., None] + phases).mean(axis=-2) + 0.5
    return torch.from_numpy(video).permute(3, 0, 1, 2)[None].float()


def test_motion_between_frames_of_uniform_motion_is_that_motion():
    flow = torch.tensor([5.0, -2.5]).view(1, 1, 2, 1, 1).expand(2, 3, 2, 6, 8)
    times = np.clip((np.arange(20) - 2) / 5, 0, 3)
    motion = motion_between(times, (5, 4, 4), flow, -flow)
    expected = torch.tensor([5.0 * 4 / 5, -2.5 * 4 / 5]).view(1, 1, 2, 1, 1).expand(2, 20, 2, 24, 32)
    torch.testing.assert_close(motion, expected)


class Identity(Degradation):
    """Its data step keeps the estimate: what is left of a round is the agreement."""

    def data_step(self, x, y, alpha, *, out=None):
        return x if out is None else out.copy_(x)


def average(x: Tensor, motion: Tensor) -> Tensor:
    """The average along `motion` [b, T, 2, H, W] that one round takes of x: without flattening."""
    prior = MotionPrior(1)
    prior.log_steps[:, 2] = -torch.inf
    return prior(x, x, motion, Identity())


def test_average_along_the_motion_keeps_what_moves_so():
    x = moving_texture(7, 32, (2, -1))
    motion = torch.tensor([2.0, -1.0]).view(1, 1, 2, 1, 1).expand(1, 7, 2, 32, 32)
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(average(x, motion)[inside], x[inside], rtol=0, atol=1e-4)
    assert (average(x, torch.zeros_like(motion)) - x)[inside].abs().mean() > 0.01


def test_a_neighbour_that_does_not_match_has_no_say():
    x = torch.zeros(1, 3, 5, 16, 16)
    x[:, :, 2] = 1  # one frame unlike all others
    torch.testing.assert_close(average(x, torch.zeros(1, 5, 2, 16, 16)), x, rtol=0, atol=1e-6)


def test_flattening_lowers_total_variation_and_keeps_the_mean():
    x = torch.rand(2, 3, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    flatter = flatten(x, FLATTENING, flat=FLAT)
    variation = [z.diff(dim=3).abs().sum() + z.diff(dim=4).abs().sum() for z in (x, flatter)]
    assert variation[1] < variation[0]
    torch.testing.assert_close(flatter.mean(dim=(3, 4)), x.mean(dim=(3, 4)))
    flat = torch.full((1, 3, 1, 5, 5), 0.3)
    assert torch.equal(flatten(flat, FLATTENING, flat=FLAT), flat)


def test_rounds_along_the_motion_recover_what_the_exposure_hides():
    """Known motion: the data step alone cannot tell the five frames of an exposure apart, agreement along the motion
    does.
    """
    A = Degradation()
    x = moving_texture(25, 64, (2, -1))
    y = A.apply(x)
    motion = torch.tensor([2.0, -1.0]).view(1, 1, 2, 1, 1).expand(1, 25, 2, 64, 64)
    start = A.data_step(y.repeat_interleave(5, 2).repeat_interleave(4, 3).repeat_interleave(4, 4), y, 0.003)
    refined = MotionPrior(8)(start, y, motion, A)
    inside = (..., slice(5, -5), slice(12, -12), slice(12, -12))
    before, after = ((z - x)[inside].square().mean().sqrt() for z in (start, refined))
    assert after < 0.5 * before
    assert A.residual(refined, y).mean() < 0.01


def test_noise_makes_the_rounds_trust_the_data_less():
    A = Degradation()
    x = moving_texture(10, 32, (1, 0))
    y = A.apply(x)
    motion = torch.zeros(1, 10, 2, 32, 32)
    start = torch.full_like(x, 0.5)
    exact, noisy = (MotionPrior(2)(start, y, motion, A, torch.tensor([s])) for s in (0.0, 0.1))
    assert A.residual(noisy, y).mean() > 2 * A.residual(exact, y).mean()


def test_rounds_take_any_clip():
    options = replace(ALONG_MOTION, rounds=RoundsOptions(count=2))
    torch.manual_seed(0)
    for t, h, w in ((1, 16, 16), (2, 17, 19)):
        x = DAVSR(options)(torch.rand(2, t, 3, h, w))
        assert x.shape == (2, 5 * t, 3, 4 * h, 4 * w) and x.isfinite().all()
    for channels in (0, 2):  # one frame in, one out: no neighbours
        alone = DAVSR(replace(options, rounds=RoundsOptions(2, channels)))
        x = alone(torch.rand(1, 1, 3, 16, 17), degradation=Degradation((1, 4, 4)))
        assert x.shape == (1, 1, 3, 64, 68) and x.isfinite().all()


def test_windows_and_memory_are_planned_for_the_rounds():
    options = load_options("options/test/motion.yml")
    plain = DAVSR.from_options(load_options("options/test/training_free.yml"))
    model = DAVSR.from_options(options)
    assert default_overlap(options.degradation, model) == 4 and default_overlap(options.degradation, plain) == 2
    assert default_margin(model) == 24 and default_margin(plain) == 8
    assert bytes_per_pixel(model) > bytes_per_pixel(plain)


def learning_clip() -> tuple[Tensor, Tensor, Tensor, Degradation]:
    """x, y and exact motion of a small moving texture."""
    A = Degradation((5, 4, 4))
    x = moving_texture(10, 32, (2, -1))
    motion = torch.tensor([2.0, -1.0]).view(1, 1, 2, 1, 1).expand(1, 10, 2, 32, 32)
    return x, A.apply(x), motion, A


def test_what_rounds_learn_starts_at_the_constants():
    x, y, motion, A = learning_clip()
    start = torch.full_like(x, 0.5)
    expected = MotionPrior(3)(start, y, motion, A)
    prior = MotionPrior(3, channels=4)
    torch.testing.assert_close(prior(start, y, motion, A), expected)
    with torch.no_grad():
        torch.testing.assert_close(prior(start, y, motion, A), expected)
        for parameter in prior.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        changed = prior(start, y, motion, A)
    assert (changed - expected).abs().mean() > 1e-3
    torch.testing.assert_close(prior(start, y, motion, A), changed)  # with gradient, in other memory


@pytest.mark.parametrize("channels", [0, 4])
def test_rounds_in_groups_are_those_of_the_whole_clip(channels):
    """Of a motion in LR pixels, of parts that come one by one, and in half precision between the rounds."""
    x, y, _, A = learning_clip()
    coarse = 2 * torch.randn(1, 10, 2, 8, 8, generator=torch.Generator().manual_seed(3)) / 4
    prior = MotionPrior(3, channels=channels)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    start = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found: dict[str, Tensor] = {}
    expected = prior(start.requires_grad_(), y, coarse, A, stages=found).detach()
    first, start = found["r_0"].detach(), start.detach()
    with torch.inference_mode():
        stages: dict[str, Tensor] = {}
        torch.testing.assert_close(prior(start.clone(), y, coarse, A, stages=stages), expected)
        torch.testing.assert_close(stages["r_0"], first)
        parts = (start[:, :, part].clone() for part in (slice(0, 5), slice(5, 10)))
        torch.testing.assert_close(prior(parts, y, coarse, A), expected)
        half = prior(start.clone(), y, coarse, A, waiting=torch.float16)
        if prior.goes_in_groups(start.device):
            assert half.dtype == torch.float16
        assert (half - expected).square().mean().sqrt() < 2e-3
        fine = prior(start.clone(), y, raised_motion(coarse, A.scale), A)
        torch.testing.assert_close(fine, expected)


def test_every_weight_of_the_rounds_learns():
    x, y, motion, A = learning_clip()
    torch.manual_seed(0)
    prior = MotionPrior(2, channels=4)
    optimizer = torch.optim.Adam(prior.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = (prior(torch.full_like(x, 0.5), y, motion, A) - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_motion_lies_in_memory_as_the_ops_read_it():
    """Otherwise every op of every round would copy it first."""
    lq = torch.rand(1, 3, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    operator = Degradation((5, 4, 4))
    interpolate = Interpolation(InterpolationOptions(method="flow", flow="dis"))
    motion = interpolate.motion(lq, operator)
    estimate = interpolate(lq, operator, motion)
    assert estimate.is_contiguous() and motion.of_hr_frames(operator.scale, lq).is_contiguous()


def test_lengths_are_those_of_the_norm_with_a_slope_of_zero_where_nothing_moves():
    moves = torch.randn(2, 3, 2, 4, 5, dtype=torch.float64)
    moves[0, 0] = 0
    known = length(moves, dim=2)
    learned = length(moves.requires_grad_(), dim=2)
    torch.testing.assert_close(known, learned)
    learned.sum().backward()
    assert moves.grad is not None and moves.grad.isfinite().all() and not moves.grad[0, 0].any()
