"""What a kind of input is.

A case returns when the input was taken, and raises InputError when it was refused; anything else is a fault.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch

from davsr.physics.degradation import Degradation


class Kind(ABC):
    """One kind of input. Folders are fresh for every case."""

    weight = 1.0  # share of the cases, relative to the other kinds

    @abstractmethod
    def make(self, folder: Path) -> None:
        """What all cases start from, made once, before processes are forked."""

    @abstractmethod
    def run(self, rng: np.random.Generator, folder: Path) -> None:
        """One case."""


def use_operator(A: Degradation, rng: np.random.Generator) -> None:
    """Apply, adjoint and data step on the smallest clip."""
    s_t, s_h, s_w = A.scale
    if s_t * s_h * s_w > 64 * 64 * 8:  # an HR frame of many pixels for every LR one: nothing is different there
        return
    x = torch.from_numpy(rng.random((1, 1, s_t, 2 * s_h, 2 * s_w), dtype=np.float32))
    y = A.apply(x)
    A.adjoint(y)
    try:
        A.data_step(x, y, 0.24 * A.largest_eigenvalue() or 1.0)
    except RuntimeError as error:  # the solver says that it did not get there
        if "tolerance" not in str(error):
            raise
