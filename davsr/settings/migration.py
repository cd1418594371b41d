"""Options that earlier versions called otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davsr.errors import InputError


def today(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A plain tree of options with what earlier versions called otherwise under today's names.

    The rounds along the motion were options of `model.interpolation` once.

    Raises:
        davsr.errors.InputError: an option is given under both names.
    """
    tree = dict(tree)
    model = tree.get("model")
    interpolation = model.get("interpolation") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(interpolation, Mapping):
        return tree
    moved = {
        new: interpolation[old] for old, new in (("rounds", "count"), ("channels", "channels")) if old in interpolation
    }
    if not moved:
        return tree
    left = {key: value for key, value in interpolation.items() if key not in ("rounds", "channels")}
    if moved.get("channels") and left.get("weights") is not None:  # they were the rounds', where these learned
        moved["weights"] = left.pop("weights")
    rounds = model.get("rounds") or {}
    if not isinstance(rounds, Mapping):
        raise InputError(f"options: model.rounds must be a section with keys, got {type(rounds).__name__}")
    for key in moved:
        if key in rounds:
            raise InputError(
                f"options: model.rounds.{key} is given, and again as part of model.interpolation, its old place"
            )
    tree["model"] = {**model, "interpolation": left, "rounds": {**rounds, **moved}}
    return tree
