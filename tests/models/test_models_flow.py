from __future__ import annotations

import os

import pytest
import skimage.data
import torch
import torch.nn.functional as F

from davsr.checkpoints.fit import load_weights
from davsr.models.flow import SPyNet, matching_cost
from davsr.models.superslomo import SuperSloMo
from davsr.models.warp import sampling_grid, warp


def test_warp_samples_bilinearly_at_p_plus_flow():
    x = torch.arange(20.0).view(1, 1, 4, 5)  # x[r, c] = 5 r + c
    flow = torch.tensor([0.25, 0.5]).view(1, 2, 1, 1).expand(1, 2, 4, 5)  # (dx, dy)
    out = warp(x, flow)
    torch.testing.assert_close(out[..., :3, :4], x[..., :3, :4] + 0.25 + 5 * 0.5)


def test_warp_outside_is_zero_or_the_border():
    x = torch.rand(1, 2, 3, 4) + 1
    flow = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    assert (warp(x, flow) == 0).all()
    torch.testing.assert_close(warp(x, flow, padding="border"), x[..., -1:].expand_as(x))


def test_warp_of_a_single_pixel_sees_its_flow():
    x = torch.ones(1, 1, 1, 1)
    assert warp(x, torch.tensor([0.25, 0.0]).view(1, 2, 1, 1)).item() == 0.75


def test_warp_equals_the_form_with_aligned_corners():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 7, 9, generator=generator, dtype=torch.float64)
    flow = torch.randn(2, 2, 7, 9, generator=generator, dtype=torch.float64) * 3
    rows, columns = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    grid = torch.stack([2 * (columns + flow[:, 0]) / 8 - 1, 2 * (rows + flow[:, 1]) / 6 - 1], dim=-1)
    for padding in ("zeros", "border"):
        expected = F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)
        torch.testing.assert_close(warp(x, flow, padding=padding), expected)


def test_coordinates_keep_float32_under_autocast():
    x = torch.arange(600.0).view(1, 1, 1, 600).bfloat16()
    flow = torch.full((1, 2, 1, 600), 0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sampling_grid(flow).dtype == torch.float32
        torch.testing.assert_close(warp(x, flow), x)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 31)])
def test_spynet_takes_any_size(size):
    torch.manual_seed(0)
    model = SPyNet(levels=4, channels=(8, 4), kernel=3)
    with torch.no_grad():
        flow = model(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


def test_spynet_scales_each_component_by_its_axis():
    """Constant flow on the resized grid comes back in pixels of the given one."""
    model = SPyNet(levels=3, channels=(4,), kernel=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.levels[-1][-1].bias.fill_(1.0)
        flow = model(torch.rand(1, 3, 6, 9), torch.rand(1, 3, 6, 9))  # inside 8x12
    torch.testing.assert_close(flow[:, 0], torch.full((1, 6, 9), 9 / 12))
    torch.testing.assert_close(flow[:, 1], torch.full((1, 6, 9), 6 / 8))


def test_spynet_trains_from_its_start():
    torch.manual_seed(0)
    model = SPyNet(levels=3, channels=(8, 4), kernel=3)
    flow = model(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    assert flow.abs().max() < 0.5  # starts near zero
    flow.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.skipif("DAVSR_TEST_SPYNET" not in os.environ, reason="DAVSR_TEST_SPYNET names no SPyNet checkpoint")
def test_real_spynet_finds_a_known_shift():
    model = SPyNet()
    load_weights(model, os.environ["DAVSR_TEST_SPYNET"])
    photo = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None].float() / 255
    dx, dy = 3, -2
    reference = photo[..., 100:292, 150:342]
    support = photo[
        ..., 100 - dy : 292 - dy, 150 - dx : 342 - dx
    ]  # what lies at p in reference lies at p + (dx, dy) here
    with torch.no_grad():
        flow = model(reference, support)
    error = (flow - torch.tensor([dx, dy]).view(1, 2, 1, 1)).square().sum(dim=1).sqrt()
    assert error[..., 16:-16, 16:-16].mean() < 0.1


def test_super_slomo_keeps_given_frames_and_makes_those_between():
    torch.manual_seed(0)
    model = SuperSloMo().eval()
    frames = torch.rand(2, 3, 3, 33, 40)
    with torch.no_grad():
        out = model(frames, [-0.4, 0.0, 0.2, 0.8, 1.0, 1.6, 2.4])
        alone = model(frames[1:], [0.8])
    assert out.shape == (2, 7, 3, 33, 40)
    for place, j in ((0, 0), (1, 0), (4, 1), (6, 2)):
        assert torch.equal(out[:, place], frames[:, j])
    torch.testing.assert_close(out[1:, 3:4], alone)
    assert not torch.allclose(out[:, 2], out[:, 3])


def test_super_slomo_without_motion_blends_by_visibility_and_time():
    """With zero weights: no flow, visibility 1/2 for both, so the frame at t is (1 - t) I0 + t I1."""
    model = SuperSloMo()
    frames = torch.rand(1, 2, 3, 20, 24)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        out = model(frames, [0.25])
    torch.testing.assert_close(out[:, 0], 0.75 * frames[:, 0] + 0.25 * frames[:, 1])


def test_super_slomo_of_one_frame_repeats_it():
    frames = torch.rand(1, 1, 3, 16, 16)
    assert torch.equal(SuperSloMo()(frames, [-0.4, 0.0, 0.4]), frames.expand(1, 3, 3, 16, 16))


def test_matching_cost_is_least_at_the_true_shift():
    generator = torch.Generator().manual_seed(0)
    support = torch.rand(1, 3, 20, 24, generator=generator)
    for dx, dy in ((0, 0), (1, -2), (-2, 1)):
        reference = support.roll((-dy, -dx), dims=(2, 3))  # reference(p) = support(p + flow)
        cost = matching_cost(reference, support, 2)[..., 4:-4, 4:-4]
        assert cost.shape == (1, 25, 12, 16)
        assert (cost.argmin(dim=1) == (2 + dy) * 5 + 2 + dx).all()
        torch.testing.assert_close(
            matching_cost(3 * reference, 3 * support, 2)[..., 4:-4, 4:-4], cost, rtol=0.1, atol=0.1
        )


def test_levels_that_share_weights_and_pass_twice():
    torch.manual_seed(0)
    model = SPyNet(3, (4, 4), 3, matching=1, shared=True, passes=2, dilated=True)
    assert len(model.levels) == 1
    assert [layer.dilation for layer in model.levels[0] if isinstance(layer, torch.nn.Conv2d)] == [
        (1, 1),
        (2, 2),
        (1, 1),
    ]
    a, b = torch.rand(2, 3, 18, 21), torch.rand(2, 3, 18, 21)
    flows = model.coarse_to_fine(a, b)
    assert [tuple(f.shape) for f in flows] == [(2, 2, 5, 6)] * 2 + [(2, 2, 10, 12)] * 2 + [(2, 2, 20, 24)] * 2
    assert model(a, b).shape == (2, 2, 18, 21)
    model(a, b).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_with_matching_every_level_is_told_of_its_own_correction_alone():
    """The gradient of the flow in the weights of the coarse level is that of its correction, doubled in size and in
    pixels.
    """
    torch.manual_seed(0)
    model = SPyNet(2, (4,), 3, matching=1).double()
    a, b = torch.rand(1, 3, 16, 16).double(), torch.rand(1, 3, 16, 16).double()
    coarse, fine = model.coarse_to_fine(a, b)
    weight = model.levels[0][0].weight
    upward = 2 * torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
    (whole,) = torch.autograd.grad(fine.square().sum(), weight, retain_graph=True)
    (expected,) = torch.autograd.grad((upward * 2 * fine.detach()).sum(), weight)
    torch.testing.assert_close(whole, expected)
