"""x_0: where HR frames lie in time and space, for every method, length and size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from davsr.models.dis import dis_flow
from davsr.models.interpolation import Interpolation
from davsr.options import InterpolationOptions
from davsr.physics.degradation import Degradation

GENERATOR = torch.Generator().manual_seed(0)


def interpolate(lq: torch.Tensor, degradation: Degradation, **options: object) -> torch.Tensor:
    return Interpolation(InterpolationOptions(**options))(lq, degradation)  # type: ignore[arg-type]  # a test's options


def texture(height: int, width: int) -> torch.Tensor:
    noise = torch.rand(1, 3, height // 4, width // 4, generator=GENERATOR)
    return F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)


@pytest.mark.parametrize(
    ("arguments", "centre"),
    [({}, 2.0), ({"exposure": 3}, 1.0), ({"phase": -2}, 0.0), ({"scale": (4, 2, 2)}, 1.5), ({"exposure": 2.5}, 0.75)],
)
def test_linear_is_exact_for_linear_motion_of_brightness(arguments: dict, centre: float) -> None:
    """A clip whose brightness is its time: frame p must read (p - centre) / s_t, clamped to the clip."""
    degradation = Degradation(**arguments)
    lq = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(1, 3, 3, 16, 16)
    x0 = interpolate(lq, degradation, method="linear")
    s_t, s_h, s_w = degradation.scale
    assert x0.shape == (1, 3, 3 * s_t, 16 * s_h, 16 * s_w)
    expected = ((torch.arange(3.0 * s_t) - centre) / s_t).clamp(0, 2)
    torch.testing.assert_close(x0[0, 0, :, 5, 5], expected)


def test_centre_option_and_nearest() -> None:
    lq = torch.arange(2.0).view(1, 2, 1, 1, 1).expand(1, 2, 3, 16, 16)
    x0 = interpolate(lq, Degradation(phase=-2), method="nearest", centre=2)
    assert x0[0, 0, :, 0, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("method", ["nearest", "linear", "flow"])
def test_space_has_the_geometry_of_the_operator(method: str) -> None:
    """A ramp stays the ramp that the operator maps back to the frames: half-pixel geometry, no drift."""
    degradation = Degradation((2, 4, 4))
    ramp = (torch.arange(24.0) / 24).view(1, 1, 1, 1, 24).expand(1, 2, 3, 20, 24)
    x0 = interpolate(ramp, degradation, method=method)
    y = degradation.apply(x0)
    torch.testing.assert_close(y[..., 4:-4], ramp.transpose(1, 2)[..., 4:-4], atol=1e-4, rtol=0)  # 4e-5: DIS sub-pixels


def test_trilinear_touches_the_corners() -> None:
    lq = torch.rand(1, 3, 3, 16, 16, generator=GENERATOR)
    x0 = interpolate(lq, Degradation(), method="trilinear")
    torch.testing.assert_close(x0[:, :, -1, -1, -1], lq[:, -1, :, -1, -1])
    torch.testing.assert_close(x0[:, :, 0, 0, 0], lq[:, 0, :, 0, 0])


def test_flow_follows_a_moving_texture_better_than_blending() -> None:
    """A texture shifted by 4 LR pixels a frame: frames in between must be its shifts, not double images."""
    wide = texture(64, 96)[0]
    truth = torch.stack([wide[:, :, 20 - 2 * i : 84 - 2 * i] for i in range(5)])
    degradation = Degradation((2, 1, 1), exposure=1)
    errors = {
        method: (interpolate(truth[None, ::2], degradation, method=method)[0, :, :5].transpose(0, 1) - truth)[
            :, :, 12:-12, 12:-12
        ].square().mean()
        for method in ("linear", "flow")
    }  # fmt: skip
    assert errors["flow"] < 0.1 * errors["linear"]


def test_dis_flow_points_from_reference_to_support() -> None:
    wide = texture(64, 96)
    flow = dis_flow(wide[..., 10:74], wide[..., 13:77])  # support(p - 3) = reference(p)
    torch.testing.assert_close(flow[0, 0, 8:-8, 8:-8].median(), torch.tensor(-3.0), atol=0.1, rtol=0)  # DIS: 0.02 px


@pytest.mark.parametrize("method", ["nearest", "linear", "flow", "trilinear"])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (2, 17, 23), (3, 16, 40)])
def test_any_length_and_size(method: str, frames: int, height: int, width: int) -> None:
    lq = torch.rand(2, frames, 3, height, width, generator=GENERATOR)
    x0 = interpolate(lq, Degradation(), method=method)
    assert x0.shape == (2, 3, 5 * frames, 4 * height, 4 * width)
    assert x0.isfinite().all()
    alone = interpolate(lq[1:], Degradation(), method=method)
    torch.testing.assert_close(x0[1:], alone)
