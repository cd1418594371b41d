"""Checkpoints and kernels that are not what they say: one sentence before any of it is used."""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from davsr import config
from davsr.checkpoints.files import load_state
from davsr.checkpoints.fit import load_strictly
from davsr.cli import main
from davsr.data.clips import open_clips
from davsr.errors import InputError
from davsr.models.buildable import require_buildable
from davsr.options import DegradationOptions, ModelOptions, load_options
from davsr.physics.degradation import Degradation
from davsr.prepare.extract import extract_frames
from davsr.training.optimizer import make_optimizer, restore_optimizer
from davsr.training.state import restored
from tests.runs import moving_frames, options, write_clip


def trained() -> tuple[torch.nn.Module, torch.optim.Adam, dict]:
    model = torch.nn.Conv2d(3, 4, 3)
    optimizer = make_optimizer(model, options().train)
    model(torch.rand(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    return model, optimizer, copy.deepcopy(optimizer.state_dict())


def test_moments_come_back_bit_for_bit_and_in_the_parameters_layout() -> None:
    model, optimizer, stored = trained()
    model.to(memory_format=torch.channels_last)
    fresh = make_optimizer(model, options().train)
    restore_optimizer(fresh, stored, "c.pt")
    for parameter in model.parameters():
        for name, value in optimizer.state[parameter].items():
            assert torch.equal(fresh.state[parameter][name], value)
        assert fresh.state[parameter]["exp_avg"].stride() == parameter.stride()


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s["state"][0].update(exp_avg=torch.zeros(1)),
        lambda s: s["state"][0].update(exp_avg=torch.zeros(4, 3, 3, 4)),
        lambda s: s["state"][0].update(exp_avg=s["state"][0]["exp_avg"].double()),
        lambda s: s["state"][0].update(exp_avg_sq=-s["state"][0]["exp_avg_sq"] - 1),
        lambda s: s["state"][1]["exp_avg_sq"].fill_(float("nan")),
        lambda s: s["state"][0].update(step=torch.tensor(float("inf"))),
        lambda s: s["state"][0].pop("exp_avg"),
        lambda s: s["state"].update({7: s["state"][0]}),
        lambda s: s["state"].update({"0": s["state"][0]}),
        lambda s: s.update(state=None),
        lambda s: s.pop("param_groups"),
        lambda s: s["param_groups"].append(s["param_groups"][0]),
        lambda s: s["param_groups"][0].update(name="flow"),
        lambda s: s["param_groups"][0].update(params=torch.zeros(3)),
        lambda s: s["param_groups"][0].update(name=torch.zeros(2)),
    ],
)
def test_moments_that_do_not_fit_are_refused(damage) -> None:
    model, _, stored = trained()
    damage(stored)
    with pytest.raises(InputError, match=r"checkpoint c\.pt: its optimiser does not fit"):
        restore_optimizer(make_optimizer(model, options().train), stored, "c.pt")


def test_weights_that_do_not_fit_are_refused_and_nothing_is_written() -> None:
    model = torch.nn.Linear(2, 3)
    before = copy.deepcopy(model.state_dict())
    whole = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    for wrong in (
        None,
        {"weight": torch.ones(3, 2)},
        {**whole, "more": torch.ones(1)},
        {**whole, "bias": torch.ones(4)},
        {**whole, "bias": torch.ones(3).double()},
        {**whole, "bias": "text"},
        {**whole, "bias": torch.full((3,), float("nan"))},
    ):
        with pytest.raises(InputError, match=r"c\.pt"):
            load_strictly(model, wrong, "c.pt")
        assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    for wrong in ({}, {"step": -1}, {"step": 1.5}, {"step": True}):
        with pytest.raises(InputError, match="must be a number of steps or a score"):
            restored({"updates": 0, "nonfinite": 0, "nonfinite_row": 0, "best": 0.0, "best_step": 0, **wrong}, "c.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
        torch.zeros(1).expand(2**33),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3).to(torch.float8_e4m3fn),
    ],
)
def test_tensors_that_are_no_plain_arrays_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"model": {"x": tensor}}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"must hold plain tensors, model\.x is "):
        load_state(tmp_path / "c.pt")


def test_an_archive_that_inflates_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(10_000)}, tmp_path / "c.pt")
    with (
        zipfile.ZipFile(tmp_path / "c.pt") as whole,
        zipfile.ZipFile(tmp_path / "d.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for entry in whole.infolist():
            small.writestr(entry.filename, whole.read(entry))
    assert load_state(tmp_path / "c.pt")["x"].numel() == 10_000
    with pytest.raises(InputError, match=r"must be as torch\.save writes it"):
        load_state(tmp_path / "d.pt")


def test_a_conversion_does_not_replace_what_it_reads(tmp_path: Path, capsys) -> None:
    torch.save({"levels.0.0.weight": torch.zeros(2)}, tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    assert main(["weights", "convert", str(tmp_path / "c.pt"), str(tmp_path / "." / "c.pt")]) == 2
    assert "must not be the input" in capsys.readouterr().err and (tmp_path / "c.pt").read_bytes() == before


def test_options_that_describe_too_large_a_network_are_refused() -> None:
    for change in (
        "model.enhancement.blocks=1000000000",
        "model.enhancement.channels=1024",
        "model.enhancement.flow.channels=[1024, 1024, 1024, 1024]",
        "degradation.exposure=1000000000.0",
    ):
        with pytest.raises(InputError):
            more = ["model.enhancement.blocks=256"] if "channels=1024" in change else []
            require_buildable(load_options(None, [change, *more]).model)


@pytest.mark.parametrize("section", [5, "text", [1], None, float("inf")])
def test_a_section_that_is_none_is_refused(section: object) -> None:
    with pytest.raises(InputError, match="options: model must be a section with keys"):
        config.build(ModelOptions, section, "model.")  # type: ignore[arg-type]


@pytest.mark.parametrize("shots", [None, 5, [[0]], [["a", 1]], [[0, float("inf")]], [[0, float("nan")]]])
def test_a_list_of_shots_that_is_none_is_refused(tmp_path: Path, shots: object) -> None:
    (clip,) = open_clips(write_clip(tmp_path / "in", moving_frames(2, 16, 16)))
    extract_frames(clip, tmp_path / "out", workers=1)
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    (tmp_path / "out" / "prepared.json").write_text(json.dumps({**record, "shots": shots}))
    with pytest.raises(InputError, match="has lost its list of shots"):
        extract_frames(clip, tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
        np.full((3, 3), 1e300),
        np.full((3, 3), 1e-300),
        np.zeros((0, 3)),
        np.ones(3),
        np.ones((1, 2000)),
        np.ones((300, 300)),
        np.ones((3, 3), np.complex64),
        np.array([["a"]]),
    ],
)
def test_a_kernel_that_is_none_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "k.npy", array)
    with pytest.raises(InputError, match=r"degradation\.psf"):
        Degradation.from_options(DegradationOptions(psf=str(tmp_path / "k.npy")))


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", a=np.ones((3, 3)))
    np.save(tmp_path / "k.npy", np.ones((3, 3)))
    whole = (tmp_path / "k.npy").read_bytes()
    claimed = whole.replace(b"(3, 3)", b"(9999999999, 3)")
    for content in (
        b"",
        whole[:20],
        whole[:-1],
        claimed,
        (tmp_path / "z.npz").read_bytes(),
        b"\x93NUMPY\x01\x00v\x00{'descr'",
    ):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"degradation\.psf: .*x\.npy"):
            Degradation.from_options(DegradationOptions(psf=str(tmp_path / "x.npy")))


@pytest.mark.parametrize("sigma", [1e-12, 0.005, 0.01])
def test_a_very_narrow_gaussian_is_the_nearest_pixels(sigma: float) -> None:
    operator = Degradation(scale=(1, 4, 4), psf="gaussian", psf_sigma=sigma)
    assert 0 < operator.largest_eigenvalue() < 1
    assert operator.apply(torch.ones(1, 1, 1, 8, 8)).allclose(torch.ones(1, 1, 1, 2, 2))
