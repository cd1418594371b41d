"""DAVSR: space-time video super-resolution by alternating a closed-form data step and a learned enhancement.

import davsr

model = davsr.load_model()
frames = model(lq)                     # [b, t, 3, h, w] -> [b, 5 t, 3, 4 h, 4 w]
davsr.restore("in.mp4", "out.mp4")     # a video of any length

A = davsr.Degradation(scale=(5, 4, 4))  # the camera: y = A(x), A.adjoint(y), A.data_step(x, y, alpha)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the names below stand for; at run time they are imported when they are asked for
    from davsr.checkpoints.loading import load_model
    from davsr.errors import InputError
    from davsr.evaluation import metrics
    from davsr.models.davsr import DAVSR
    from davsr.options import DegradationOptions, RestoreOptions
    from davsr.physics.camera import degrade
    from davsr.physics.degradation import Degradation
    from davsr.restoration.polishing import polish
    from davsr.restoration.restore import restore

from davsr.threads import sleep_when_idle

__version__ = "0.2.0"
__all__ = [
    "DAVSR",
    "Degradation",
    "DegradationOptions",
    "InputError",
    "RestoreOptions",
    "degrade",
    "load_model",
    "metrics",
    "polish",
    "restore",
]

_MODULES = {
    "DAVSR": "davsr.models.davsr",
    "Degradation": "davsr.physics.degradation",
    "DegradationOptions": "davsr.options",
    "InputError": "davsr.errors",
    "RestoreOptions": "davsr.options",
    "degrade": "davsr.physics.camera",
    "load_model": "davsr.checkpoints.loading",
    "metrics": "davsr.evaluation",
    "polish": "davsr.restoration.polishing",
    "restore": "davsr.restoration.restore",
}

sleep_when_idle()  # every command and every submodule comes through here, before torch


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for: `davsr --help` answers at once."""
    if name in _MODULES:
        import importlib

        if name == "metrics":
            return importlib.import_module("davsr.evaluation.metrics")
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, imported or not."""
    return sorted({*globals(), *__all__})
