"""Checkpoint files: whole or absent, the newest few, readable without running code."""

from __future__ import annotations

import os
from typing import BinaryIO

import pytest
import torch

from davsr.checkpoints import files as checkpoint
from davsr.checkpoints.files import CheckpointFolder, load_checkpoint, save_checkpoint
from davsr.errors import InputError


def tree(step: int) -> dict:
    return {"step": step, "model": {"weight": torch.full((3,), float(step))}, "ema": None}


def test_the_newest_are_kept_and_found_by_step(tmp_path):
    folder = CheckpointFolder(tmp_path / "c", kept=2)
    assert folder.newest() is None
    for step in (500, 9_999_999, 10_000_000):
        folder.save(tree(step))
    assert [file.name for file in folder.all()] == ["step_9999999.pt", "step_10000000.pt"]
    os.utime(folder.all()[0])  # touched last, and still the older one
    newest = folder.newest()
    assert newest is not None
    torch.testing.assert_close(load_checkpoint(newest)["model"]["weight"], torch.full((3,), 1e7))
    assert load_checkpoint(newest)["format"] == "davsr-checkpoint-1"


def test_a_failed_write_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    file = tmp_path / "best.pt"
    save_checkpoint(file, tree(1))
    before = file.read_bytes()

    def fail(_: object, target: BinaryIO) -> None:
        target.write(b"half")
        raise OSError(28, "full")

    monkeypatch.setattr(checkpoint.torch, "save", fail)
    with pytest.raises(InputError, match=r"best.pt cannot be written: full"):
        save_checkpoint(file, tree(2))
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["best.pt"]


def test_what_a_killed_process_left_is_not_a_checkpoint(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(tree(7))
    (tmp_path / "step_0000009.pt.tmp").write_bytes(b"half")
    assert folder.newest() == tmp_path / "step_0000007.pt"


def test_files_that_are_not_ours_are_refused(tmp_path):
    torch.save({"params": {}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"format must be davsr-checkpoint-1, got None"):
        load_checkpoint(tmp_path / "other.pt")
    save_checkpoint(tmp_path / "half.pt", tree(1))
    (tmp_path / "half.pt").write_bytes((tmp_path / "half.pt").read_bytes()[:200])
    with pytest.raises(InputError, match=r"truncated|corrupt"):
        load_checkpoint(tmp_path / "half.pt")
    with pytest.raises(InputError, match=r"does not exist"):
        load_checkpoint(tmp_path / "none.pt")
