"""Beside other tools: each adapter in the tool itself where it is installed, and called as the tool calls it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import davsr
from davsr.ops import Backend, _extension
from davsr.options import EnhancementOptions, ModelOptions, RoundsOptions

FOLDER = Path(__file__).parent.parent.parent / "integrations"


def test_physics_of_deepinv_agree_with_its_own_definitions():
    deepinv = pytest.importorskip("deepinv", reason="deepinv is not installed")
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
    # deepinv's own conjugate gradients come to the same, and its data fidelity calls the closed form
    iterative = deepinv.physics.LinearPhysics.prox_l2(physics, z, y, 0.7, max_iter=200, tol=1e-12)
    torch.testing.assert_close(physics.prox_l2(z, y, 0.7), iterative, atol=1e-5, rtol=0)  # where they end
    fidelity = deepinv.optim.data_fidelity.L2()
    torch.testing.assert_close(fidelity.prox(z, y, physics, gamma=0.7), physics.prox_l2(z, y, 0.7))
    torch.testing.assert_close(physics.prox_l2(None, y, 0.7), physics.prox_l2(torch.zeros_like(z), y, 0.7))
    noisy = camera(physics.degradation, noise_model=deepinv.physics.GaussianNoise(0.1))(x)
    assert 0.05 < float((noisy - y).std()) < 0.15


def test_the_node_of_comfyui_restores_as_the_model_does():
    node = importlib.import_module("integrations.comfyui_davsr")
    kind = node.NODE_CLASS_MAPPINGS["DAVSRRestore"]
    assert set(node.NODE_DISPLAY_NAME_MAPPINGS) == set(node.NODE_CLASS_MAPPINGS)
    fields = kind.INPUT_TYPES()
    images = torch.rand(2, 8, 8, 4, generator=torch.Generator().manual_seed(0))  # with alpha, as some loaders give
    given = {name: how[1]["default"] for name, how in fields["required"].items() if name != "images"}
    (result,) = getattr(kind(), kind.FUNCTION)(images=images, **given)
    model = davsr.load_model()
    with torch.inference_mode():
        expected = model(images[..., :3].permute(0, 3, 1, 2)).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(result, expected)


def test_the_node_of_comfyui_joins_windows_of_a_long_batch():
    node = importlib.import_module("integrations.comfyui_davsr")
    (longer,) = node.RestoreVideo().restore(torch.rand(8, 8, 8, 3), 2, 2, 0.5, 0.01, checkpoint="training-free")
    assert longer.shape == (16, 16, 16, 3) and longer.min() >= 0 and longer.max() <= 1


def test_the_function_of_vapoursynth():
    vs = pytest.importorskip("vapoursynth", reason="VapourSynth is not installed")
    restore = importlib.import_module("integrations.vapoursynth_davsr").restore
    blank = vs.core.std.BlankClip(width=16, height=8, length=5, format=vs.RGBS, fpsnum=24, fpsden=1)
    frames = torch.rand(5, 3, 8, 16, generator=torch.Generator().manual_seed(0)).numpy()

    def fill(n, f):
        frame = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), frames[n, plane])
        return frame

    clip = blank.std.ModifyFrame(blank, fill)
    result = restore(clip, (2, 2, 2), model="training-free", step=3, context=1)
    assert (result.width, result.height, result.num_frames, result.fps) == (32, 16, 10, 48)
    model = davsr.load_model("training-free", degradation=davsr.DegradationOptions(scale=(2, 2, 2)))
    with torch.inference_mode():
        expected = [model(frames[:4])[:6], model(frames[2:])[2:]]  # the two windows with a frame of context
    for n, values in enumerate(torch.cat(expected).numpy()):
        frame = result.get_frame(n)
        np.testing.assert_allclose(np.stack([np.asarray(frame[plane]) for plane in range(3)]), values, atol=1e-6)
    with pytest.raises(davsr.InputError, match="RGBS"):
        restore(vs.core.std.BlankClip(format=vs.YUV420P8))


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_an_adapter_is_a_page(file):
    assert len(file.read_text().splitlines()) <= 150


@pytest.fixture(scope="module")
def small() -> davsr.DAVSR:
    """As the shipped one, but smaller."""
    torch.manual_seed(0)
    prior = EnhancementOptions(
        kind="recurrent", channels=8, blocks=1, recurrent_blocks=1, fusion_channels=6, fusion_blocks=1
    )
    options = ModelOptions(iterations=1, rounds=RoundsOptions(count=1), enhancement=prior)
    return davsr.DAVSR(options, davsr.DegradationOptions()).eval()


@pytest.mark.slow
def test_a_network_becomes_a_graph_that_gives_the_same_frames(small, tmp_path):
    """Saved and loaded, for motion and frames that it was not made with."""
    module = importlib.import_module("integrations.export_network")
    lq = torch.rand(1, 2, 3, 16, 16)
    torch.export.save(module.export(small, 2, (16, 16)), tmp_path / "network.pt2")
    graph = torch.export.load(tmp_path / "network.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(graph(lq, *module.motion_of(lq)), small(lq))


@pytest.mark.slow
def test_a_network_becomes_an_onnx_file_that_gives_the_same_frames(small, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    module = importlib.import_module("integrations.export_onnx")
    monkeypatch.setattr(module, "backend", lambda: Backend("cpu-avx2", "compiled kernels"))
    with pytest.raises(davsr.InputError, match="DAVSR_REFERENCE=1"):
        module.export(small, 2, (16, 16), tmp_path / "network.onnx")
    monkeypatch.setattr(module, "backend", lambda: Backend("reference", "as DAVSR_REFERENCE=1 makes it"))
    monkeypatch.setattr(_extension, "_DEVICES", ())
    module.export(small, 2, (16, 16), tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    lq = torch.rand(1, 2, 3, 16, 16)
    there, back = module.export_network.motion_of(lq)
    (frames,) = session.run(None, {"lq": lq.numpy(), "there": there.numpy(), "back": back.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(frames), small(lq), atol=1e-5, rtol=0)  # 1e-6 with the shipped one
