"""How much a file may make this package take: every bound on what a file claims, in one place.

A file is asked what it claims before memory is taken for it. Each bound may be raised, by an environment variable of
its name such as DAVSR_FRAME_PIXELS=400000000, where a real file needs more; the sentence that refuses a file names the
variable.
"""

from __future__ import annotations

import os
from typing import Literal

from davsr.errors import InputError

Bound = Literal[
    "FRAME_PIXELS",
    "IMAGE_BYTES",
    "CLIP_FRAMES",
    "OPTION_BYTES",
    "OPTION_VALUES",
    "RECORD_BYTES",
    "PSF_TAPS",
    "PARAMETERS",
    "CHECKPOINT_BYTES",
]

_DEFAULTS: dict[Bound, int] = {
    "FRAME_PIXELS": 2**26,  # of one image or video frame: 8192 x 8192
    "IMAGE_BYTES": 2**29,  # of one image file
    "CLIP_FRAMES": 2**24,  # of a clip: a week at 24 a second
    "OPTION_BYTES": 2**20,  # of a YAML file
    "OPTION_VALUES": 2**17,  # that it expands to: an alias may repeat what is long
    "RECORD_BYTES": 2**28,  # of a record of ours: plans, segments, lists of clips, metrics
    "PSF_TAPS": 2**16,  # of a point-spread function: 256 x 256
    "PARAMETERS": 2**28,  # of a network: a GiB of weights
    "CHECKPOINT_BYTES": 2**32,  # of all that a checkpoint holds, unpacked
}


def limit(bound: Bound) -> int:
    """The bound, or what its environment variable says instead.

    Raises:
        InputError: the variable is not a whole number.
    """
    given = os.environ.get(f"DAVSR_{bound}")
    if given is None:
        return _DEFAULTS[bound]
    if not (given.isascii() and given.isdecimal() and len(given) < 20):
        raise InputError(f"DAVSR_{bound}: must be a whole number, got {given!r}")
    return int(given)


def require_below(bound: Bound, value: int, what: str) -> None:
    """Raise InputError where `value` is above the bound.

    Args:
        what: what claims it, as the beginning of a sentence, such as `frame x.png has`.
    """
    most = limit(bound)
    if value > most:
        unit = bound.split("_")[-1].lower()
        raise InputError(f"{what} {value} {unit}, more than the {most} that are taken; DAVSR_{bound} raises that")
