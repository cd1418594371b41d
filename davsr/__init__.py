"""DAVSR: space-time video super-resolution by alternating a closed-form data step and a learned enhancement.

import davsr
model = davsr.load_model()
frames = model(lq)  # [b, t, c, h, w] -> [b, T, c, H, W]
"""

from __future__ import annotations

from typing import Any

from davsr.threads import sleep_when_idle

__version__ = "0.1.0"
__all__ = ["DAVSR", "Degradation", "load_model", "polish", "restore"]

_LAZY = {
    "DAVSR": "davsr.models.davsr",
    "Degradation": "davsr.physics.degradation",
    "load_model": "davsr.checkpoints.loading",
    "polish": "davsr.restoration.polishing",
    "restore": "davsr.restoration.restore",
}

sleep_when_idle()  # every command and every submodule comes through here, before torch


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for: `davsr --help` answers at once."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
