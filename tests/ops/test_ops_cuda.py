"""A GPU computes what the CPU computes.

Every op and its gradients, strided, on another stream, of empty and large batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from davsr.checkpoints.loading import load_model
from davsr.ops import Axes, backend, camera, camera_adjoint, deform_align, flatten, fourier_division, motion_average
from davsr.physics.degradation import Degradation
from tests import golden

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
STEPS = (-2, -1, 1, 2)
Op = Callable[..., Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def align(groups: int) -> Op:
    return lambda *given: deform_align(*given, groups=groups, max_residue=10.0)


def align_inputs(b: int, c: int, groups: int, h: int, w: int) -> list[Tensor]:
    raw = normal(b, 27 * groups, h, w, seed=1)
    flows = [3 * normal(b, 2, h, w, seed=seed) for seed in (2, 3)]
    return [normal(b, c, h, w), raw, *flows, 0.1 * normal(8, c, 3, 3, seed=4), normal(8, seed=5)]


def division(x: Tensor, y: Tensor, psf: Tensor, alpha: Tensor) -> Tensor:
    spectra = [torch.fft.rfftn(v, dim=(-3, -2, -1)) for v in (x, y, psf)]
    hr = x.shape[-3:]
    z = fourier_division(*spectra, alpha.abs() + 0.1, scale=(2, 2, 2), width=hr[2])
    return torch.fft.irfftn(z, s=hr, dim=(-3, -2, -1))


def average(a: Tensor, motion: Tensor, trust: Tensor | None = None) -> Tensor:
    mean, support = motion_average(a, motion, trust, cell=(2, 3), mismatch=1.0, reach=2.0, steps=STEPS)
    return torch.cat([mean.flatten(), support.flatten()])


def average_of_frames(a: Tensor) -> Tensor:
    """Along a motion that needs no gradient."""
    return average(a, normal(2, 5, 2, 8, 21, seed=1).to(a))


def axes_of(*taps: int, circular: bool) -> Axes:
    """Of scale 3, 2, 4, with so many taps."""
    weights = tuple(tuple(normal(n, seed=n).tolist()) for n in taps)
    return Axes(weights, tuple(-(n // 2) for n in taps), (3, 2, 4), circular)


REFLECT, CIRCULAR = axes_of(3, 7, 13, circular=False), axes_of(5, 70, 9, circular=True)


def in_place(y: Tensor, x: Tensor) -> Tensor:
    """x + A^T y written over x, with the derivative of what makes new memory."""
    with torch.no_grad():
        written = camera_adjoint(y, CIRCULAR, given := x.clone(), out=given)
    made = camera_adjoint(y, CIRCULAR, x)
    torch.testing.assert_close(written, made)
    return made


def data_step(x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
    return Degradation((3, 2, 4), exposure=4.5).data_step(x, y, alpha.abs() + 0.01)


CASES: dict[str, tuple[Op, list[Tensor]]] = {
    "deform_align": (align(4), align_inputs(2, 16, 4, 9, 13)),
    "deform_align, packs of 16 bytes": (align(2), align_inputs(2, 16, 2, 9, 13)),
    "deform_align, odd channels": (align(2), align_inputs(1, 6, 2, 7, 5)),
    "deform_align, batch 33": (align(2), align_inputs(33, 8, 2, 3, 4)),
    "deform_align, batch 0": (align(2), align_inputs(0, 8, 2, 3, 4)),
    "fourier_division": (
        division,
        [normal(2, 3, 4, 6, 10), normal(2, 3, 2, 3, 5, seed=1), normal(4, 6, 10), normal(2)],
    ),
    "motion_average": (
        average,
        [normal(2, 3, 5, 8, 21), normal(2, 5, 2, 8, 21, seed=1), normal(2, 4, 5, 4, 7, seed=2)],
    ),
    "motion_average, no trust": (average, [normal(2, 3, 5, 8, 21), normal(2, 5, 2, 8, 21, seed=1)]),
    "motion_average, of frames": (average_of_frames, [normal(2, 3, 5, 8, 21)]),
    "motion_average, batch 33": (average, [normal(33, 1, 2, 4, 6), normal(33, 2, 2, 4, 6), normal(33, 4, 2, 2, 2)]),
    "camera": (lambda x, y: camera(x, REFLECT, y), [normal(2, 3, 6, 10, 28), normal(2, 3, 2, 5, 7, seed=1)]),
    "camera, no y": (lambda x: camera(x, CIRCULAR), [normal(2, 3, 6, 10, 28)]),
    "camera, batch 0": (lambda x: camera(x, REFLECT), [normal(0, 3, 6, 10, 28)]),
    "camera_adjoint": (lambda y: camera_adjoint(y, REFLECT), [normal(2, 3, 2, 5, 7)]),
    "camera_adjoint, of x": (in_place, [normal(2, 3, 2, 5, 7), normal(2, 3, 6, 10, 28, seed=1)]),
    "camera_adjoint, batch 0": (lambda y: camera_adjoint(y, REFLECT), [normal(0, 3, 2, 5, 7)]),
    "data_step": (data_step, [normal(2, 3, 6, 10, 28), normal(2, 3, 2, 5, 7, seed=1), normal(2)]),
    "flatten": (lambda x, s: flatten(x, s, flat=0.02), [normal(2, 3, 2, 7, 9), torch.tensor(0.03)]),
}


def run(op: Op, given: list[Tensor], device: str, dtype: torch.dtype, strided: bool = False) -> list[Tensor]:
    """Result and gradients, brought back to the CPU in float32."""
    leaves = []
    for v in given:
        v = v.to(device, dtype)
        if strided and v.dim() > 1:
            v = v.transpose(0, -1).contiguous().transpose(0, -1)
        leaves.append(v.detach().requires_grad_())
    out = op(*leaves)
    slopes = torch.autograd.grad(out, leaves, normal(*out.shape, seed=9).to(device, out.dtype))
    return [v.detach().float().cpu() for v in (out, *slopes)]


def test_the_kernels_are_there():
    assert backend("cuda").name == "cuda", backend("cuda")


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_the_cpu_s(name, strided):
    """In float64: what is left is the order of sums, not the places of samples, which round to another pixel at
    times.
    """
    op, given = CASES[name]
    for ours, expected in zip(
        run(op, given, "cuda", torch.float64, strided), run(op, given, "cpu", torch.float64), strict=True
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("name", [name for name in CASES if "deform" in name and "0" not in name])
def test_alignment_in_every_precision(name, dtype, bound):
    """Of the same rounded inputs: the rms over the deviation.

    A sample that rounds to another pixel shows in single places.
    """
    op, given = CASES[name]
    rounded = [v.to(dtype).float() for v in given]
    out, exact = (run(op, rounded, "cuda", d)[0] for d in (dtype, torch.float64))
    assert (out - exact).square().mean().sqrt() < bound * exact.std()


@pytest.mark.parametrize(
    "name", ["motion_average", "flatten", "fourier_division", "camera", "camera_adjoint", "data_step"]
)
def test_float32_is_near_float64(name):
    op, given = CASES[name]
    out, exact = (run(op, given, "cuda", dtype)[0] for dtype in (torch.float32, torch.float64))
    assert (out - exact).square().mean().sqrt() < 1e-5 * exact.std()


@pytest.mark.parametrize("name", CASES)
def test_another_stream(name):
    """Launched on the current stream: inputs made on it are seen, without waiting for any other."""
    op, given = CASES[name]
    expected = run(op, given, "cuda", torch.float64)[0]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # what is launched on the default stream would run before the inputs are there
        out = op(*(v.cuda().double() for v in given)).float()
    stream.synchronize()
    torch.testing.assert_close(out.cpu(), expected)


def test_more_than_2_to_the_31_numbers():
    """128 channels x 9 taps of a large frame: every index is 64 bits wide."""
    if torch.cuda.get_device_properties(0).total_memory < 24 * 2**30:
        pytest.skip("needs 24 GB of GPU memory")
    features = torch.zeros(1, 128, 1200, 1920, device="cuda", dtype=torch.float16)
    features[..., -8:, -8:] = 1
    raw = torch.zeros(1, 27 * 16, 1200, 1920, device="cuda", dtype=torch.float16)
    flow = torch.zeros(1, 2, 1200, 1920, device="cuda")
    weight = torch.ones(1, 128, 3, 3, device="cuda", dtype=torch.float16) / 1152
    with torch.inference_mode():
        out = deform_align(features, raw, flow, flow, weight, None, groups=16, max_residue=10.0)
    torch.testing.assert_close(
        out[0, 0, -3, -3].item(), 0.5, rtol=1e-2, atol=0
    )  # every tap inside, weighted by sigmoid(0)
    assert out[0, 0, :1000].abs().max() == 0


def test_the_data_step_keeps_float32():
    """Whatever torch is told about TF32: of 10 bits of mantissa there would be errors of 1e-3."""
    operator = Degradation(psf="gaussian", psf_sigma=1.2)
    x, y = normal(1, 3, 10, 64, 64), normal(1, 3, 2, 16, 16, seed=1)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        z = operator.data_step(x.cuda(), y.cuda(), 0.003)
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (True, True)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert (z.cpu() - operator.data_step(x, y, 0.003)).abs().max() < 1e-4


@pytest.mark.parametrize("name", golden.CASES)
def test_the_published_network_is_computed(name, monkeypatch):
    """Golden vectors, in float32: of convolutions in TF32, torch's default, results have 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    given = golden.vectors(name, "davsr")
    model = copy.deepcopy(golden.network(name)).cuda()
    with torch.no_grad():
        sr = model(given["lq"].cuda(), float(given.get("sigma", 0))).cpu()
    golden.assert_agrees(golden.stored_part(sr, given["sr"]), given["sr"], largest=1e-3, rms=3e-5)


def test_the_shipped_model_restores_the_same():
    model = load_model()
    lq = torch.rand(1, 3, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(lq)
        ours = model.cuda()(lq.cuda()).cpu()
    assert (ours - expected).square().mean().sqrt() < 1e-4


def test_the_sample_is_restored_on_the_gpu(tmp_path: Path):
    from davsr import restore

    sample = Path(__file__).parents[2] / "davsr" / "assets" / "sample.mp4"
    made = restore(sample, tmp_path / "out", device="cuda")
    assert made.frames == 5 * len(made.residuals) and max(made.residuals) < 0.05
