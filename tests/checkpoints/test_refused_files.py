"""Files of weights that must be refused: with code, with other objects, damaged, of another kind."""

from __future__ import annotations

import argparse
import builtins
import errno
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from davsr.checkpoints.convert import convert
from davsr.checkpoints.files import load_state
from davsr.checkpoints.fit import load_weights
from davsr.errors import InputError
from davsr.models.flow import SPyNet


class Code:
    """Unpickling this would make a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_does_not_run(tmp_path, legacy):
    made = tmp_path / "made"
    torch.save({"params": Code(str(made))}, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        InputError, match=r"evil\.pth carries code or objects \(\w+\.mkdir\) and was not loaded"
    ) as caught:
        load_weights(SPyNet(), tmp_path / "evil.pth")
    assert not made.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_does_not_run(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Code(str(made))))
    with pytest.raises(InputError):
        load_weights(SPyNet(), tmp_path / "evil.pkl")
    assert not made.exists()


def test_objects_other_than_tensors_are_refused(tmp_path):
    torch.save({"params": {"a": argparse.Namespace()}}, tmp_path / "objects.pth")
    with pytest.raises(InputError, match=r"objects \(argparse\.Namespace\)"):
        load_state(tmp_path / "objects.pth")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files_are_refused(tmp_path, keep, legacy):
    whole = tmp_path / "whole.pth"
    torch.save({"params": SPyNet(2, (4,), 3).state_dict()}, whole, _use_new_zipfile_serialization=not legacy)
    data = whole.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"cut\.pth is (truncated, )?corrupt or not a PyTorch checkpoint") as caught:
        load_weights(SPyNet(), cut)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_not_called_corrupt(tmp_path, monkeypatch):
    torch.save({"params": {}}, tmp_path / "mine.pth")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for module, name in ((builtins, "open"), (Path, "open"), (zipfile, "ZipFile"), (zipfile, "is_zipfile")):
        monkeypatch.setattr(module, name, refuse)
    with pytest.raises(InputError, match=r"mine\.pth cannot be read: Permission denied"):
        load_state(tmp_path / "mine.pth")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("not a checkpoint\n" * 50)
    with pytest.raises(InputError, match="corrupt or not a PyTorch checkpoint"):
        load_state(tmp_path / "text.pth")
    with pytest.raises(InputError, match=r"none\.pth does not exist"):
        load_state(tmp_path / "none.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"list\.pth must hold a dict of tensors, got list"):
        load_state(tmp_path / "list.pth")
    with pytest.raises(InputError, match="none of the known namings"):
        convert({"encoder.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="none of the known namings"):
        convert({})
    with pytest.raises(InputError, match="must hold a dict of tensors by name"):
        convert({"params": {"h.mlp.0.weight": 3}})
