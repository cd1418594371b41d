"""Entry points of torch.hub: `torch.hub.load(REPOSITORY, "davsr")`."""

from __future__ import annotations

from typing import Any

from davsr.checkpoints.loading import load_model
from davsr.models.davsr import DAVSR
from davsr.physics.degradation import Degradation

dependencies = ["torch", "numpy", "cv2", "yaml", "tqdm", "av"]


def davsr(path: str | None = None, **how: Any) -> DAVSR:
    """The shipped model, or the one of a checkpoint; see `davsr.load_model`."""
    return load_model(path, **how)


def degradation(*args: Any, **how: Any) -> Degradation:
    """The observation model y = A x + n; see `davsr.Degradation`."""
    return Degradation(*args, **how)
