"""What the options of a network must fulfil together, asked by the kinds in use: others may hold anything.

It is asked before a network is built, not where options are read: until a checkpoint has had its say, which kind that
is is open.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from davsr.errors import InputError
from davsr.guards.limits import require_below
from davsr.models.trunk import CELL
from davsr.options import EnhancementOptions, FlowNetOptions, ModelOptions

_MOST_WIDTHS = 16  # convolutions of a level of the flow network
_CONVOLUTIONS = 60  # about so many of channels x channels of an RVE lie between its residual blocks


def require_buildable(options: ModelOptions) -> None:
    """Raise InputError where a network cannot be built of these options, or would be larger than the bound
    PARAMETERS.
    """
    if options.rounds.channels and not options.rounds.count:
        raise InputError(
            "model.rounds.channels must be 0 where model.rounds.count is 0: it is the width of the rounds; "
            f"got {options.rounds.channels}"
        )
    method = options.interpolation.method
    if method != "flow" and options.rounds.count:
        raise InputError(
            f"model.rounds.count must be 0 unless model.interpolation.method is flow, got {options.rounds.count}"
        )
    if method != "flow" and options.enhancement.kind == "recurrent":
        raise InputError(f"model.enhancement.kind: recurrent needs model.interpolation.method flow, got {method}")
    if options.enhancement.kind != "none":
        _PRIORS[options.enhancement.kind](options.enhancement)


def require_flow_network(options: FlowNetOptions) -> None:
    """The same of the flow network, of an `rve` or by itself."""
    path = "model.enhancement.flow."
    if options.kernel % 2 == 0:
        raise InputError(f"{path}kernel must be odd, got {options.kernel}")
    if len(options.channels) > _MOST_WIDTHS:
        raise InputError(f"{path}channels must be at most {_MOST_WIDTHS} widths, got {len(options.channels)}")
    widths = (8 + (2 * options.matching + 1) ** 2, *options.channels, 2)
    weights = options.levels * options.kernel**2 * sum(a * b for a, b in pairwise(widths))
    require_below("PARAMETERS", weights, f"{path}channels, kernel and levels make a network of about")


def _rve(options: EnhancementOptions) -> None:
    o, m, n = options, options.channels, options.hr_channels
    if o.groups % 2 or (2 * m) % o.groups:
        raise InputError(f"model.enhancement.groups must be even and divide 2 * channels = {2 * m}, got {o.groups}")
    # 3x3 convolutions: of the residual blocks, of what lies between them, of the offsets, and at full resolution.
    blocks = 2 * (4 * o.blocks + o.feature_blocks + o.reconstruction_blocks)
    weights = 9 * (m * m * (blocks + _CONVOLUTIONS) + 4 * 27 * o.groups * m + n * (4 * m + n))
    require_below("PARAMETERS", weights, "model.enhancement.channels, blocks and groups make a network of about")
    require_flow_network(o.flow)


def _of_cells(options: EnhancementOptions) -> None:
    require_below("PARAMETERS", _trunk(options), "model.enhancement.channels and blocks make a network of about")


def _recurrent(options: EnhancementOptions) -> None:
    o, m, n = options, options.channels, options.fusion_channels
    if o.alignment_groups and m % o.alignment_groups:
        raise InputError(
            f"model.enhancement.alignment_groups must be 0 or divide channels = {m}, got {o.alignment_groups}"
        )
    recurrence = 9 * m * (4 * m * o.recurrent_blocks + 6 * m + 3 * CELL**2 + 4 * o.alignment_groups)
    fusion = m * n + 9 * n * (2 * n * o.fusion_blocks + n + 9 * CELL**2)
    weights = _trunk(o) + recurrence + fusion
    require_below("PARAMETERS", weights, "model.enhancement.channels and blocks make a network of about")


def _trunk(options: EnhancementOptions) -> int:
    m = options.channels
    return 9 * m * (2 * m * options.blocks + 6 * CELL**2)


_PRIORS: dict[str, Callable[[EnhancementOptions], None]] = {
    "rve": _rve,
    "frames": _of_cells,
    "pictures": _of_cells,
    "recurrent": _recurrent,
}
