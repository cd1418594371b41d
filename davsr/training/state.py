"""Where a run stands, and how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass
class State:
    """Where a run stands, beside its weights; every checkpoint holds it."""

    step: int = 0  # steps done
    updates: int = 0  # of them, those that changed the weights
    nonfinite: int = 0  # non-finite steps in all
    nonfinite_row: int = 0  # non-finite steps since the last finite one
    best: float = -math.inf  # validation
    best_step: int = 0


@dataclass
class Outcome:
    """How `train` ended: at which state, and by which signal if it was interrupted (0: it was not)."""

    state: State
    signal: int = 0
    checkpoint: Path | None = None
