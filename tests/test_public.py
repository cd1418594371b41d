"""The public face: what `import davsr` offers, how fast, in which forms it takes clips, and models that travel."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import davsr
from davsr.options import DegradationOptions, EnhancementOptions, InterpolationOptions, ModelOptions
from davsr.runtime import choose_device

SMALL = ModelOptions(
    iterations=1,
    interpolation=InterpolationOptions(method="linear"),
    enhancement=EnhancementOptions(kind="frames", channels=8, blocks=1),
)


@pytest.fixture(scope="module")
def model() -> davsr.DAVSR:
    torch.manual_seed(0)
    return davsr.DAVSR(SMALL, DegradationOptions(scale=(2, 2, 2))).eval()


def test_everything_named_is_listed_there_and_documented():
    assert set(davsr.__all__) <= set(dir(davsr))
    for name in davsr.__all__:
        assert getattr(davsr, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'restor'"):
        davsr.restor  # noqa: B018


def test_importing_brings_nothing_heavy():
    code = "import sys, davsr; print([m for m in ('torch', 'numpy', 'cv2', 'av', 'yaml') if m in sys.modules], dir(davsr) != [])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[] True\n"


CLIP = np.random.default_rng(0).integers(0, 256, (1, 3, 3, 8, 10), dtype=np.uint8)


@pytest.mark.parametrize(
    "given",
    [
        torch.from_numpy(CLIP),
        torch.from_numpy(CLIP[0]),
        torch.from_numpy(CLIP[0]).float() / 255,
        CLIP,
        CLIP[0],
        CLIP[0].astype(np.float32) / 255,
        CLIP.transpose(0, 1, 3, 4, 2),
        CLIP[0].transpose(0, 2, 3, 1),
    ],
    ids=lambda given: f"{type(given).__name__}-{given.dtype}-{list(given.shape)}",
)
def test_a_clip_in_any_usual_form_gives_the_same_frames(model, given):
    with torch.inference_mode():
        expected, frames = model(torch.from_numpy(CLIP).float() / 255), model(given)
    assert torch.equal(frames, expected if given.ndim == 5 else expected[0])
    assert torch.equal(
        davsr.degrade(frames, model.degradation),
        davsr.degrade(expected, model.degradation)[0 if given.ndim == 4 else slice(None)],
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (torch.rand(3, 8, 8), r"\[t, c, h, w\].* got torch.float32 \[3, 8, 8\]"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.int64), "got torch.int64"),
        (CLIP.astype(np.int32), "got int32"),
        (CLIP[0].astype(np.float32), r"in \[0, 1\] where it is floating point, got values up to 2"),
    ],
)
def test_what_is_no_clip_is_told_what_is_wanted(model, given, why):
    with pytest.raises(davsr.InputError, match=f"DAVSR: lq must be .*{why}"):
        model(given)


def test_the_operator_shows_itself_and_is_called_like_a_function():
    A = davsr.Degradation((2, 2, 2), exposure=1.5, psf="gaussian", psf_sigma=1.2)
    assert repr(eval(repr(A), {"Degradation": davsr.Degradation})) == repr(A)
    x = torch.rand(1, 3, 4, 8, 8)
    assert torch.equal(A(x), A.apply(x)) and A.to("cpu", torch.float64) is A
    assert "<5x3 kernel>" in repr(davsr.Degradation(psf=torch.rand(5, 3)))
    noisy = [
        davsr.degrade(torch.zeros(4, 3, 8, 8), A, sigma=0.1, generator=torch.Generator().manual_seed(1)) for _ in "ab"
    ]
    assert torch.equal(*noisy) and 0.08 < noisy[0].std() < 0.12


@pytest.mark.parametrize("name", ["cuda:x", "cuda:-1", "cuda:99", "tpu", "cpu:1"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(davsr.InputError, match=f"device: {name} is not available here; use auto or one of cpu"):
        choose_device(name)


def test_one_of_several_gpus_can_be_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1) and choose_device("cuda", rank=3).index == 1
    with pytest.raises(davsr.InputError, match="cuda:0 to cuda:1"):
        choose_device("cuda:2")
