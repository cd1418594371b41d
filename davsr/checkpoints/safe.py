"""Checkpoints as safetensors, the format of the hub.

Weights, and what else a checkpoint says as JSON in the file's metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from davsr.errors import InputError

_KEY = "davsr"  # of the metadata
_WEIGHTS = ("model", "ema")
_KEPT = ("format", "step", "network", "options")  # the rest of a checkpoint serves training alone


def pack(tree: dict[str, Any]) -> bytes:
    """A checkpoint's weights (the averaged ones, where it has them), options and step as the bytes of a safetensors
    file.

    Raises:
        InputError: the package safetensors is missing.
    """
    safetensors = _package()
    weights: dict[str, Tensor] = tree["ema"] if tree.get("ema") is not None else tree["model"]
    plain = {key: tree[key] for key in _KEPT if key in tree}
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    packed: bytes = safetensors.save(tensors, metadata={_KEY: json.dumps(plain), "format": "pt"})
    return packed


def read(path: Path) -> dict[str, Any]:
    """The dict that `davsr.checkpoints.files.load_state` gives, of a safetensors file of ours or of anyone's.

    Raises:
        InputError: the package safetensors is missing, or the file is damaged.
    """
    safetensors = _package()
    try:
        content = path.read_bytes()
        tensors: dict[str, Tensor] = safetensors.load(content)
        length = int.from_bytes(content[:8], "little")
        plain = json.loads(json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(_KEY, "null"))
    except Exception as error:  # the package has an exception type of its own beside those of a torn file
        raise InputError(f"weights: {path} is truncated, corrupt or no safetensors file ({error})") from None
    return {**plain, "model": tensors, "ema": None} if isinstance(plain, dict) else dict(tensors)


def _package() -> Any:
    try:
        import safetensors.torch
    except ModuleNotFoundError:
        raise InputError("safetensors: this needs a package that is not installed: pip install 'davsr[hub]'") from None
    return safetensors.torch
