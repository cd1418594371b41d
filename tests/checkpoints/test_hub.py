"""Models that travel: folders and safetensors there and back, the hub, and what wrappers do to names."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import davsr
from davsr.checkpoints.files import load_state, write_tensors
from davsr.checkpoints.hub import push_to_hub
from davsr.cli import main
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, EnhancementOptions, InterpolationOptions, ModelOptions

SMALL = ModelOptions(
    iterations=1,
    interpolation=InterpolationOptions(method="linear"),
    enhancement=EnhancementOptions(kind="frames", channels=8, blocks=1),
)
CAMERA = DegradationOptions(scale=(2, 2, 2), exposure=1.5)
SHIPPED = Path(davsr.__file__).parent / "assets" / "davsr_tiny.pt"


@pytest.fixture
def model() -> DAVSR:
    torch.manual_seed(0)
    return DAVSR(SMALL, CAMERA).eval()


def same(a: DAVSR, b: DAVSR) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return a.options_tree() == b.options_tree() and all(torch.equal(left[name], right[name]) for name in left | right)


def test_a_folder_there_and_back_with_a_card(tmp_path):
    pytest.importorskip("safetensors", reason="the extra hub is not installed")
    model = davsr.load_model()
    folder = model.save_pretrained(tmp_path / "mine")
    for where in (folder, folder / "model.safetensors"):
        again = DAVSR.from_pretrained(where)
        assert same(model, again) and again.trained == model.trained and not again.training
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: davsr\n") and "exposure 5 of 5 HR frames" in card
    header = yaml.safe_load(card.split("---\n")[1])  # what the hub reads
    assert header["pipeline_tag"] == "video-to-video" and "arxiv:2207.10765" in header["tags"]
    assert f"davsr {davsr.__version__}" in card
    changed = DAVSR.from_pretrained(folder, degradation=CAMERA)
    assert changed.degradation_options == CAMERA


def test_a_checkpoint_converts_to_safetensors_and_is_inspected(tmp_path, capsys):
    pytest.importorskip("safetensors", reason="the extra hub is not installed")
    assert main(["weights", "convert", str(SHIPPED), str(tmp_path / "w.safetensors")]) == 0
    assert main(["weights", "inspect", str(tmp_path / "w.safetensors")]) == 0
    assert "fits this network" in capsys.readouterr().out
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    with pytest.raises(davsr.InputError, match=r"torn\.safetensors is truncated"):
        davsr.load_model(tmp_path / "torn.safetensors")


def test_the_hub_is_asked_only_for_what_is_not_here(tmp_path, model, monkeypatch):
    """Against a hub of our own: repositories are folders."""
    pytest.importorskip("safetensors", reason="the extra hub is not installed")

    def download(name: str, file: str, revision: str | None) -> str:
        if not (tmp_path / name).is_dir():
            raise OSError(f"404: no {name}")
        return str(tmp_path / name / file)

    class Api:
        def create_repo(self, name: str, private: bool, exist_ok: bool) -> None:
            (tmp_path / name).mkdir(parents=True)

        def upload_folder(self, repo_id: str, folder_path: str) -> None:
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download, HfApi=Api))
    push_to_hub(model, "someone/video", tmp_path / "local")
    assert same(DAVSR.from_pretrained("someone/video"), model)
    assert "# someone/video" in (tmp_path / "someone/video/README.md").read_text()
    with pytest.raises(davsr.InputError, match="no-one/video cannot be had: 404"):
        DAVSR.from_pretrained("no-one/video")


@pytest.mark.parametrize("name", ["missing", "missing/", "./a/b", "a/b/c"])
def test_what_is_nowhere_is_told(name):
    with pytest.raises(davsr.InputError, match="no file, no folder, and no owner/name"):
        DAVSR.from_pretrained(name)


def test_packages_of_the_extra_are_named_where_they_are_missing(tmp_path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for action in (lambda: DAVSR.from_pretrained("a/b"), lambda: model.save_pretrained(tmp_path / "x")):
        with pytest.raises(davsr.InputError, match=r"pip install 'davsr\[hub\]'"):
            action()
    assert list((tmp_path / "x").iterdir()) == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {k.replace("enhance.", "enhance._orig_mod."): v for k, v in s.items()},
        lambda s: {"params_ema": s, "params": {}},
        lambda s: {
            "state_dict": {f"model.{k}": v for k, v in s.items()},
            "epoch": 3,
            "pytorch-lightning_version": "2.4",
        },
        lambda s: {"state_dict": {f"network.module.{k}": v for k, v in s.items()}, "hyper_parameters": {"lr": 0.1}},
        lambda s: {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in s.items()}},
    ],
    ids=[
        "DataParallel",
        "compile",
        "both",
        "part compiled",
        "params_ema",
        "Lightning",
        "Lightning, wrapped",
        "averaged",
    ],
)
def test_what_wrappers_add_to_names_is_taken_off(wrap, tmp_path, model):
    torch.save(wrap(model.state_dict()), tmp_path / "w.pt")
    assert same(davsr.load_model(tmp_path / "w.pt", model=SMALL, degradation=CAMERA), model)


def test_torch_hub_finds_the_entries():
    root = Path(__file__).parent.parent.parent
    hub = torch.hub.load(str(root), "davsr", source="local")
    assert same(hub, davsr.load_model())
    assert torch.hub.load(str(root), "degradation", source="local", scale=(2, 1, 1)).scale == (2, 1, 1)


def test_safetensors_of_strangers_are_read_like_their_pt(tmp_path, model):
    safetensors = pytest.importorskip("safetensors.torch", reason="the extra hub is not installed")
    safetensors.save_file(
        {f"module.{k}": v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "w.safetensors"
    )
    assert same(davsr.load_model(tmp_path / "w.safetensors", model=SMALL, degradation=CAMERA), model)
    tree = {
        "format": load_state(SHIPPED)["format"],
        "model": model.state_dict(),
        "ema": None,
        "options": {"a": 1},
        "step": 4,
    }
    write_tensors(tmp_path / "ours.safetensors", tree)
    assert load_state(tmp_path / "ours.safetensors").keys() == tree.keys()
