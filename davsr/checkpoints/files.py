"""Checkpoints: one file each, written whole or not at all, readable without running code."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from davsr.checkpoints import safe
from davsr.errors import InputError
from davsr.files import writing
from davsr.guards.limits import require_below

FORMAT = "davsr-checkpoint-1"
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_DTYPES = frozenset({*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_ROUNDS = ("interpolate.prior.", "rounds.")  # where version 2 of the network had them, and where they are
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
        davsr.errors.InputError: the disk is full or not writable; `path` is what it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {"format": FORMAT, **tree})


def write_tensors(path: Path, tree: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values whole or not at all.

    Raises:
        davsr.errors.InputError: naming the file, when it cannot be written.
    """
    try:
        with writing(path) as partial, partial.open("wb") as file:
            if path.suffix == ".safetensors":
                file.write(safe.pack(tree))
            else:
                torch.save(tree, file)
    except RuntimeError as error:  # torch's writer reports what the disk refuses as one
        raise InputError(f"{path} cannot be written: {str(error).splitlines()[0]}") from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `save_checkpoint`, on the CPU.

    Raises:
        davsr.errors.InputError: the file is missing, damaged, or not one of ours.
    """
    tree = load_state(path)
    if tree.get("format") != FORMAT:
        raise InputError(f"checkpoint {path}: format must be {FORMAT}, got {tree.get('format')!r}")
    return tree


def load_state(path: str | Path) -> dict[str, Any]:
    """The dict that a checkpoint file holds, on the CPU. No code in the file can run.

    Raises:
        davsr.errors.InputError: the file is missing, truncated, corrupt, carries code, holds no dict, or tensors that
            are not plain arrays of numbers.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"weights: file {path} does not exist")
        if path.suffix == ".safetensors":
            return safe.read(path)
        _require_plain_archive(path)
    except OSError as error:
        raise InputError(f"weights: {path} cannot be read: {error.strerror}") from None
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([A-Za-z_][\w.]*)", str(error))
        if named:
            message = f"weights: {path} carries code or objects ({named[1]}) and was not loaded; only tensors are"
        else:
            message = f"weights: {path} is corrupt or not a PyTorch checkpoint"
        raise InputError(message) from None
    except Exception:  # torch.load reports a damaged file as any of a dozen types, down to IndexError
        raise InputError(f"weights: {path} is truncated, corrupt or not a PyTorch checkpoint") from None
    if not isinstance(tree, dict):
        raise InputError(f"weights: {path} must hold a dict of tensors, got {type(tree).__name__}")
    _require_plain(tree, path)
    return _in_todays_names(tree) if tree.get("format") == FORMAT else tree


def _require_plain_archive(path: Path) -> None:
    """Raise InputError where unpacking would take more memory than the file is long.

    Torch stores tensors as they are.
    """
    size = path.stat().st_size
    require_below("CHECKPOINT_BYTES", size, f"weights: {path} has")
    if not zipfile.is_zipfile(path):
        return  # torch's older format, which holds tensors as they are
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # What zipfile raises for damaged bytes, beside its own: of versions, offsets and fields that cannot be.
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, RecursionError):
        raise InputError(f"weights: {path} is truncated, corrupt or not a PyTorch checkpoint") from None
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(
            f"weights: {path} must be as torch.save writes it, got an archive that unpacks to {unpacked} bytes"
        )


def _require_plain(tree: dict[Any, Any], path: Path) -> None:
    """Raise InputError where the tree holds a tensor that is not a plain array in memory, or names that are not
    text.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            fault = _tensor_fault(value)
            if fault:
                raise InputError(f"weights: {path} must hold plain tensors, {name} is {fault}")
        elif isinstance(value, (dict, list, tuple, set)):
            if id(value) in seen:  # the same part by another name, or itself
                continue
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in items:
                if not isinstance(key, (str, int)):
                    raise InputError(
                        f"weights: {path} must name its parts by text, got {type(key).__name__} in {name or 'it'}"
                    )
                waiting.append((f"{name}.{key}" if name else str(key), part))


def _tensor_fault(tensor: torch.Tensor) -> str:
    """What keeps a tensor from being a plain array; empty: nothing."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "sparse, quantised or nested"
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device.type}"
    if tensor.dtype not in _DTYPES:
        return f"of {str(tensor.dtype).removeprefix('torch.')}"
    held = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > held:
        return f"expanded to {list(tensor.shape)} from {held} bytes"
    return ""


def _in_todays_names(tree: dict[str, Any]) -> dict[str, Any]:
    """The same tensors in the same order, under the names that the network has for them today."""
    renamed = dict(tree)
    for weights in ("model", "ema"):
        if isinstance(tree.get(weights), dict):
            renamed[weights] = {name.replace(*_ROUNDS, 1): tensor for name, tensor in tree[weights].items()}
    return renamed
