"""Beside other tools: each adapter in the tool itself where it is installed, and called as the tool calls it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import davsr

FOLDER = Path(__file__).parent.parent.parent / "integrations"


def test_physics_of_deepinv_agree_with_its_own_definitions():
    pytest.importorskip("deepinv", reason="deepinv is not installed")
    camera = importlib.import_module("integrations.deepinv_physics").SpaceTimeCamera
    torch.manual_seed(0)
    physics = camera(davsr.Degradation((2, 2, 2), exposure=1.5))
    x, z = torch.rand(2, 2, 3, 4, 8, 8, dtype=torch.float64)
    y = physics(x)
    assert y.shape == (2, 3, 2, 4, 4)
    assert abs(float(physics.adjointness_test(x))) < 1e-9
    torch.testing.assert_close((physics.A(x) * y).sum(), (x * physics.A_adjoint(y)).sum())
    for gamma in (0.7, torch.tensor([0.7, 3.0], dtype=torch.float64)):
        result = physics.prox_l2(z, y, gamma)
        weight = torch.as_tensor(gamma, dtype=torch.float64).view(-1, 1, 1, 1, 1)
        gradient = weight * physics.A_adjoint(physics.A(result) - y) + result - z  # zero at the minimum
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


def test_the_node_of_comfyui_restores_as_the_model_does():
    node = importlib.import_module("integrations.comfyui_davsr")
    kind = node.NODE_CLASS_MAPPINGS["DAVSRRestore"]
    fields = kind.INPUT_TYPES()
    images = torch.rand(3, 16, 16, 4, generator=torch.Generator().manual_seed(0))  # with alpha, as some loaders give
    given = {name: how[1]["default"] for name, how in fields["required"].items() if name != "images"}
    (result,) = getattr(kind(), kind.FUNCTION)(images=images, **given)
    model = davsr.load_model()
    with torch.inference_mode():
        expected = model(images[..., :3].permute(0, 3, 1, 2)).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(result, expected)
    (longer,) = kind().restore(torch.rand(8, 8, 8, 3), 2, 2, 0.5, 0.01)
    assert longer.shape == (16, 16, 16, 3) and longer.min() >= 0 and longer.max() <= 1


def test_the_function_of_vapoursynth():
    vs = pytest.importorskip("vapoursynth", reason="VapourSynth is not installed")
    restore = importlib.import_module("integrations.vapoursynth_davsr").restore
    clip = vs.core.std.BlankClip(
        width=16, height=8, length=4, format=vs.RGBS, fpsnum=24, fpsden=1, color=[0.2, 0.5, 0.8]
    )
    result = restore(clip, (2, 2, 2), step=3)
    assert (result.width, result.height, result.num_frames, result.fps) == (32, 16, 8, 48)
    for n in (0, 7):
        frame = result.get_frame(n)
        for plane, value in enumerate((0.2, 0.5, 0.8)):
            np.testing.assert_allclose(np.asarray(frame[plane]), value, atol=0.02)  # a uniform clip stays what it is
    with pytest.raises(davsr.InputError, match="RGBS"):
        restore(vs.core.std.BlankClip(format=vs.YUV420P8))


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parent.parent.parent / "integrations").glob("*.py")), ids=lambda f: f.name
)
def test_an_adapter_is_a_page(file):
    assert len(file.read_text().splitlines()) <= 150
