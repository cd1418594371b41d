"""Where a run stands, and how it ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from davsr.errors import InputError
from davsr.settings.yaml_text import shown


@dataclass
class State:
    """Where a run stands, beside its weights; every checkpoint holds it."""

    step: int = 0  # steps done
    updates: int = 0  # of them, those that changed the weights
    nonfinite: int = 0  # non-finite steps in all
    nonfinite_row: int = 0  # non-finite steps since the last finite one
    best: float = -math.inf  # validation
    best_step: int = 0


def restored(tree: Mapping[str, Any], source: str) -> State:
    """The state that a checkpoint holds.

    Raises:
        InputError: a number is missing, of another type, or none that a run can be at.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(State):
        value, kind = tree.get(field.name), float if field.name == "best" else int
        if type(value) is not kind or value != value or (kind is int and not 0 <= value < 2**53):
            raise InputError(
                f"checkpoint {source}: {field.name} must be a number of steps or a score, got {shown(value)}"
            )
        values[field.name] = value
    return State(**values)


@dataclass
class Outcome:
    """How `train` ended: at which state, and by which signal if it was interrupted (0: it was not)."""

    state: State
    signal: int = 0
    checkpoint: Path | None = None
