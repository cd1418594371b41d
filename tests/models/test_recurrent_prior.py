"""The recurrent prior: where it starts, what it sees, and that it stands back where it was not taught."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from davsr.checkpoints.files import FORMAT
from davsr.checkpoints.loading import load_model
from davsr.checkpoints.network import network_section
from davsr.models.davsr import DAVSR
from davsr.models.motion import Motion
from davsr.models.prior import Observation
from davsr.models.recurrent_prior import (
    HALF,
    LEARNED_SPEED,
    MOST_CORRECTION,
    UNKNOWN_SPEED,
    USUAL_DETAIL,
    Recurrence,
    RecurrentPrior,
    restore_pictures,
)
from davsr.models.trained_range import TrainedRange
from davsr.models.trunk import CELL
from davsr.models.warp import warp
from davsr.options import (
    DegradationOptions,
    EnhancementOptions,
    HyperOptions,
    InterpolationOptions,
    ModelOptions,
    Options,
    RoundsOptions,
)
from davsr.physics.degradation import Degradation

SMALL = EnhancementOptions(
    kind="recurrent", channels=8, blocks=1, recurrent_blocks=1, alignment_groups=2, fusion_channels=6, fusion_blocks=1
)
OPTIONS = ModelOptions(
    iterations=1,
    final_data_step=True,
    rounds=RoundsOptions(count=1),
    hyper=HyperOptions(kind="fixed", alpha=0.08),
    enhancement=SMALL,
)


def model(taught: bool = True, **changes: object) -> DAVSR:
    """A small model; `taught`: nothing in it is zero."""
    torch.manual_seed(0)
    network = DAVSR(replace(OPTIONS, **changes)).eval()
    if taught:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def clip(b: int = 1, t: int = 3, h: int = 12, w: int = 16) -> Tensor:
    return torch.rand(b, t, 3, h, w, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def stages(network: DAVSR, lq: Tensor, **arguments: object) -> dict[str, Tensor]:
    _, made = network(lq, return_stages=True, **arguments)
    return made.named()


def test_it_starts_as_the_rounds_where_the_trunk_knows_nothing():
    made = stages(model(taught=False), clip())
    torch.testing.assert_close(made["x_1"], made["z_1"])


def test_it_starts_with_half_of_the_trunks_detail_at_lr_times():
    network = model(taught=False)
    assert isinstance(network.enhance, RecurrentPrior)
    torch.nn.init.normal_(network.enhance.trunk.last.weight, std=0.05)
    lq = clip()
    made = stages(network, lq)
    A = network.degradation
    alpha = torch.tensor([0.08 * A.largest_eigenvalue()])
    with torch.no_grad():
        pictures = restore_pictures(lq, A, alpha, torch.zeros(1))[0]
        detail = network.enhance.trunk.detail(network.enhance.trunk(pictures))
    added = (made["x_1"] - made["z_1"])[0].transpose(0, 1)
    torch.testing.assert_close(added[2::5], HALF * detail)  # LR frame j is centred on HR frame 5j + 2
    assert added.std() > 1e-3


@pytest.mark.parametrize("shape", [(1, 1, 9, 14), (2, 2, 16, 12), (1, 4, 13, 13)])
def test_it_takes_clips_of_any_length_and_size(shape: tuple[int, int, int, int]):
    lq = clip(*shape)
    made = stages(model(), lq)
    b, t, h, w = shape
    assert list(made)[-3:] == ["z_1", "x_1", "z_2"]
    assert made["z_2"].shape == (b, 3, 5 * t, 4 * h, 4 * w) and made["z_2"].isfinite().all()
    together = model()(lq)
    for number in range(b):  # a batch is its clips
        torch.testing.assert_close(model()(lq[number : number + 1])[0], together[number], rtol=1e-4, atol=1e-5)


def test_frames_that_are_chosen_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    network = model()
    assert isinstance(network.enhance, RecurrentPrior)
    lq, A = clip(), Degradation()
    motion = network.interpolate.motion(lq, A)
    z, alpha, sigma = network.interpolate(lq, A, motion), torch.tensor([0.001]), torch.zeros(1)
    with torch.no_grad():
        whole = network.enhance(z, None, alpha, Observation(lq, A, sigma, motion))
        chosen = network.enhance(z, None, alpha, Observation(lq, A, sigma, motion), chosen=[3, 4, 11])
        monkeypatch.setattr("davsr.models.recurrent_prior.PIXELS", 2 * z.shape[3] * z.shape[4])
        in_parts = network.enhance(z, None, alpha, Observation(lq, A, sigma, motion))
    torch.testing.assert_close(chosen, whole[:, :, [3, 4, 11]])
    torch.testing.assert_close(in_parts, whole)


def test_a_shade_added_to_the_clip_is_added_to_the_result():
    network = model()
    assert isinstance(network.enhance, RecurrentPrior)
    lq, A = 0.7 * clip(), Degradation()
    motion = network.interpolate.motion(lq, A)
    z, alpha, sigma = network.interpolate(lq, A, motion), torch.tensor([0.001]), torch.zeros(1)
    with torch.no_grad():
        dark, light = (
            network.enhance(z + shade, None, alpha, Observation(lq + shade, A, sigma, motion)) for shade in (0.0, 0.2)
        )
    torch.testing.assert_close(light, dark + 0.2, rtol=0, atol=1e-5)  # 2e-6 of rounding was seen


def test_where_its_share_is_one_the_fusion_shows_the_picture_itself():
    network = model(taught=False)
    assert isinstance(network.enhance, RecurrentPrior)
    torch.nn.init.normal_(network.enhance.trunk.last.weight, std=0.05)
    torch.nn.init.ones_(network.enhance.fusion.last.bias[-(CELL**2) :])
    lq, A = clip(), network.degradation
    motion = network.interpolate.motion(lq, A)
    observed = Observation(lq, A, torch.zeros(1), motion, kept={})
    z, alpha = network.interpolate(lq, A, motion), torch.tensor([0.08 * A.largest_eigenvalue()])
    with torch.no_grad():
        enhanced = network.enhance(z, None, alpha, observed)[0].transpose(0, 1)
        detail = network.enhance.look(z, alpha, observed).fine[0, :, 3:]
    assert observed.kept is not None
    torch.testing.assert_close(enhanced[2::5], observed.kept["pictures"][0] + HALF * detail)


def test_where_motion_is_faster_than_any_it_learned_from_it_stands_back():
    network = model()
    assert isinstance(network.enhance, RecurrentPrior)
    lq, A = clip(), network.degradation
    z, alpha = network.interpolate(lq, A), torch.tensor([0.003])
    times = network.interpolate.times(lq.shape[1], A)
    added = []
    for speed in (0.0, LEARNED_SPEED, (LEARNED_SPEED + UNKNOWN_SPEED) / 2, UNKNOWN_SPEED + 1):
        flow = torch.zeros(1, 2, 2, *lq.shape[3:])
        flow[:, :, 0] = speed
        with torch.no_grad():
            x = network.enhance(z, None, alpha, Observation(lq, A, torch.zeros(1), Motion(times, flow, -flow)))
        added.append(float((x - z).abs().mean()))
    assert min(added[:3]) > 1e-3 and added[3] == 0
    assert added[2] < 0.7 * added[1]


@pytest.mark.parametrize(
    "size, given", [(0.02, 0.02), (USUAL_DETAIL, USUAL_DETAIL), (0.075, 0.075 * 1.75 / 3), (0.2, 0)]
)
def test_an_answer_larger_than_it_ever_was_is_not_given(size: float, given: float):
    network = model(taught=False)
    assert isinstance(network.enhance, RecurrentPrior)
    torch.nn.init.constant_(network.enhance.fusion.last.bias[: 3 * CELL**2], 4 * size)  # of cells: a quarter in pixels
    lq, A = clip(), network.degradation
    z, alpha = network.interpolate(lq, A), torch.tensor([0.003])
    motion = network.interpolate.motion(lq, A)
    with torch.no_grad():
        x = network.enhance(z, None, alpha, Observation(lq, A, torch.zeros(1), motion))
    torch.testing.assert_close(x - z, torch.full_like(z, given), rtol=0, atol=1e-6)


def test_weights_of_a_fusion_that_knew_no_pictures_do_what_they_did(tmp_path: Path):
    network = model(taught=False)
    assert isinstance(network.enhance, RecurrentPrior)
    fusion = network.enhance.fusion
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():
        for grown in (
            fusion.body.entry.weight[:, -3 * CELL**2 :],
            fusion.last.weight[-(CELL**2) :],
            fusion.last.bias[-(CELL**2) :],
        ):
            grown.zero_()
    state = network.state_dict()
    older = {
        **state,
        "enhance.fusion.body.entry.weight": fusion.body.entry.weight[:, : -3 * CELL**2],
        "enhance.fusion.last.weight": fusion.last.weight[: -(CELL**2)],
        "enhance.fusion.last.bias": fusion.last.bias[: -(CELL**2)],
    }
    section = {**network_section(replace(Options(), model=network.options)), "version": 3}
    torch.save({"format": FORMAT, "model": older, "network": section}, tmp_path / "older.pt")
    loaded = load_model(tmp_path / "older.pt")
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


def test_the_recurrence_carries_from_frame_to_frame_both_ways():
    network = model()
    lq = clip(t=5)
    changed = lq.clone()
    changed[:, 2] = changed[:, 2].flip(-1)
    without = model(enhancement=replace(SMALL, recurrent_blocks=0))
    for far, reaches in ((network, True), (without, False)):
        enhance, A = far.enhance, far.degradation
        assert isinstance(enhance, RecurrentPrior)
        motion = replace(
            far.interpolate.motion(lq, A), there=torch.zeros(1, 4, 2, 12, 16), back=torch.zeros(1, 4, 2, 12, 16)
        )
        z = far.interpolate(lq, A, motion)
        with torch.no_grad():
            pair = [
                enhance(z, None, torch.tensor([0.001]), Observation(y, A, torch.zeros(1), motion))
                for y in (lq, changed)
            ]
        moved = (pair[0] - pair[1]).abs().amax(dim=(0, 1, 3, 4))
        assert bool(moved[0] > 0) is reaches and bool(moved[-1] > 0) is reaches and moved[12] > 0


def constant_flow(x: float, y: float) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 12, 16)


def test_every_group_of_channels_corrects_the_flow_by_pixels_of_its_own():
    """As if each group were carried along a flow of its own; no more than so far, whatever is seen."""
    carry = Recurrence(8, 1, groups=2)
    hidden, own = clip(h=12, w=16).repeat(1, 3, 1, 1, 1)[:, :8, 0], clip(h=12, w=16).repeat(1, 3, 1, 1, 1)[:, 1:9, 1]
    flow = constant_flow(0.5, -1)
    plain = carry._carried(hidden, flow, own)
    torch.testing.assert_close(plain, warp(hidden, flow, padding="border"))  # to begin with
    assert carry.correction is not None
    for wanted, seen in (((0.25, -0.5, -0.75, 1.5), 1.0), ((9, -9, -9, 9), 100.0)):
        bound = torch.tensor(wanted).clamp(-MOST_CORRECTION, MOST_CORRECTION)
        with torch.no_grad():
            carry.correction.bias.copy_(
                (torch.tensor(wanted) / MOST_CORRECTION).clamp(-0.999999, 0.999999).atanh() * seen
            )
        moved = carry._carried(hidden, flow, own)
        for k, channels in enumerate((slice(4), slice(4, 8))):
            x, y = bound[2 * k : 2 * k + 2].tolist()
            expected = warp(hidden[:, channels], flow + constant_flow(x, y), padding="border")
            torch.testing.assert_close(moved[:, channels], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("physics", [{"scale": (5, 3, 3)}, {"scale": (9, 4, 4)}, {"psf": "delta"}, {"exposure": 0.5}])
def test_where_it_was_not_seen_to_help_the_rounds_run_alone(physics: dict, caplog: pytest.LogCaptureFixture):
    network = model()
    network.trained = TrainedRange((5, 4, 4), "bicubic", (3, 5), (0, 0.005))
    options = replace(DegradationOptions(), **physics)
    alone = model(enhancement=EnhancementOptions(kind="none"))
    A = Degradation.from_options(options)
    assert not network.applies(A)
    torch.testing.assert_close(network(clip(), degradation=A), alone(clip(), degradation=A), rtol=0, atol=1e-5)
    with caplog.at_level(logging.WARNING, logger="davsr"):
        network.trained.warn(options, 0.0, network.beyond_training(A, 0.0))
    (line,) = (record.message for record in caplog.records)
    assert line.endswith("; the rounds along the motion run without the learned prior")


def test_noise_beyond_what_it_bears_leaves_the_rounds_alone():
    network, alone, noisy = model(), model(enhancement=EnhancementOptions(kind="none")), torch.tensor([0.1])
    torch.testing.assert_close(network(clip(), noisy), alone(clip(), noisy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("physics", [{"scale": (2, 4, 4)}, {"scale": (1, 4, 4)}, {"psf": "box"}, {"exposure": 1}])
def test_where_it_was_seen_to_help_it_takes_part(physics: dict):
    A, network = Degradation.from_options(replace(DegradationOptions(), **physics)), model()
    assert network.applies(A, 0.01) and network.beyond_training(A, 0.0) == "expect less"
    made = stages(network, clip(), degradation=A)
    assert (made["x_1"] - made["z_1"]).std() > 1e-3


def test_the_spatial_part_is_what_a_does_to_a_clip_that_stands_still():
    for A in (Degradation(), Degradation((3, 2, 4), exposure=2, psf="gaussian", boundary="circular")):
        picture = torch.rand(1, 3, 1, 16, 16, dtype=torch.float64)
        video = picture.expand(-1, -1, 4 * A.scale[0], -1, -1)
        torch.testing.assert_close(A.apply(video)[:, :, 1:2], A.spatial().apply(picture))
        assert A.spatial().largest_eigenvalue() >= A.largest_eigenvalue() and A.scale[0] > 1  # A itself stays as it is
        assert A.spatial() is A.spatial()  # its bases are computed once


@pytest.mark.parametrize("scale", [(3, 4, 4), (2, 4, 4)], ids=str)
def test_taking_memory_again_changes_nothing(scale):
    network = model(rounds=RoundsOptions(count=2))
    lq, operator = clip(b=2, t=2), Degradation(scale)
    given = lq.clone()
    with torch.inference_mode():
        taken = network(lq, degradation=operator)
        kept, made = network(lq, degradation=operator, return_stages=True)
    torch.testing.assert_close(taken, kept, rtol=0, atol=1e-4)  # in groups of frames, which round otherwise: 2e-6
    assert torch.equal(lq, given)
    assert made.x[-1].data_ptr() != made.z[-1].data_ptr()
    torch.testing.assert_close(network(lq, degradation=operator), kept)  # with gradients


def test_a_start_that_is_given_stays_as_it_is():
    network, lq = model(), clip()
    operator, sigma = network.degradation, torch.zeros(1)
    with torch.inference_mode():
        start = network.start(lq, operator, sigma)
        before = start.x0.clone()
        once, again = network(lq, start=start), network(lq, start=start)
    assert torch.equal(start.x0, before) and torch.equal(once, again)


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_an_estimate_that_is_the_clip_itself_is_left_alone(method):
    options = ModelOptions(
        iterations=1,
        interpolation=InterpolationOptions(method=method),
        hyper=HyperOptions(kind="fixed", alpha=0.08),
        enhancement=EnhancementOptions(kind="none"),
    )
    lq = clip(t=1)
    given = lq.clone()
    with torch.inference_mode():
        DAVSR(options, DegradationOptions(scale=(1, 1, 1))).eval()(lq, degradation=Degradation((1, 1, 1)))
    assert torch.equal(lq, given)
