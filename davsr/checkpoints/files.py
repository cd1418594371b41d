"""Checkpoints: one file each, written whole or not at all, readable without running code."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from davsr.checkpoints.convert import FORMAT, load_state
from davsr.errors import InputError

_NAME = re.compile(r"step_(\d+)\.pt")


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run: `step_<n>.pt`, the newest `kept` of them, and `best.pt`."""

    path: Path
    kept: int = 3

    def all(self) -> list[Path]:
        """Checkpoints from the oldest to the newest."""
        found = [(int(match[1]), file) for file in self.path.glob("step_*.pt") if (match := _NAME.fullmatch(file.name))]
        return [file for _, file in sorted(found)]

    def newest(self) -> Path | None:
        """The checkpoint to go on from."""
        files = self.all()
        return files[-1] if files else None

    def save(self, tree: dict[str, Any]) -> Path:
        """Write the checkpoint of `tree["step"]`, then remove those beyond `kept`."""
        file = self.path / f"step_{tree['step']:07d}.pt"
        save_checkpoint(file, tree)
        for old in self.all()[: -self.kept]:
            old.unlink()
        return file

    @property
    def best(self) -> Path:
        """Where the weights with the best validation lie."""
        return self.path / "best.pt"


def save_checkpoint(path: Path, tree: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values to `path`: first beside it, then moved, so that `path` is always whole.

    Raises:
        OSError: the disk is full or not writable; `path` is what it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    try:
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **tree}, file)
            file.flush()
            os.fsync(file.fileno())  # the name must not appear before the content: power may fail as well
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `save_checkpoint`, on the CPU.

    Raises:
        davsr.errors.InputError: the file is missing, damaged, or not one of ours.
    """
    tree = load_state(path)
    if tree.get("format") != FORMAT:
        raise InputError(f"checkpoint {path}: format must be {FORMAT}, got {tree.get('format')!r}")
    return tree
