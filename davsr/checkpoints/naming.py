"""Published parameter names and ours: rules of (pattern of the whole name, replacement).

The first one that matches counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SUPER_SLOMO = {"state_dictFC": "flow", "state_dictAT": "refine"}  # its two state dicts -> our two networks

_BRANCH = r"((?:backward|forward)_[12])"
_TENSOR = r"(weight|bias)"
SPYNET_RULES = (
    (r"(mean|std)", r"\1"),
    (rf"levels\.(\d+)\.(\d+)\.{_TENSOR}", r"levels.\1.\2.\3"),
    (rf"basic_module\.(\d+)\.basic_module\.(\d+)\.{_TENSOR}", r"levels.\1.\2.\3"),  # BasicSR counts the ReLUs as layers
    *((rf"basic_module\.(\d+)\.basic_module\.{n}\.conv\.{_TENSOR}", rf"levels.\1.{2 * n}.\2") for n in range(16)),
)
BLOCKS_RULES = (
    (rf"main\.0\.{_TENSOR}", r"entry.\1"),
    (rf"main\.2\.(\d+)\.(conv[12])\.{_TENSOR}", r"blocks.\1.\2.\3"),
)
RVE_RULES = (
    *((rf"spynet\.{old}", rf"flow.{new}") for old, new in SPYNET_RULES),
    (rf"feat_extract\.([02])\.{_TENSOR}", r"features.\1.\2"),
    *((rf"feat_extract\.(?:4\.)?{old}", rf"features.4.{new}") for old, new in BLOCKS_RULES),
    (rf"deform_align\.{_BRANCH}\.{_TENSOR}", r"alignment.\1.\2"),
    (rf"deform_align\.{_BRANCH}\.conv_offset\.(\d+)\.{_TENSOR}", r"alignment.\1.offset.\2.\3"),
    (rf"backbone\.{_BRANCH}\.main\.0\.{_TENSOR}", r"propagation.\1.entry.\2"),
    (rf"backbone\.{_BRANCH}\.main\.2\.(\d+)\.(conv[12])\.{_TENSOR}", r"propagation.\1.blocks.\2.\3.\4"),
    *((rf"reconstruction\.{old}", rf"reconstruction.{new}") for old, new in BLOCKS_RULES),
    (rf"upsample([12])\.upsample_conv\.{_TENSOR}", r"upsample\1.\2"),
    (rf"(conv_hr|conv_last)\.{_TENSOR}", r"\1.\2"),
)
DAVSR_RULES = (
    (rf"h\.mlp\.(\d+)\.{_TENSOR}", r"hyper.layers.\1.\2"),
    *((rf"vsr\.{old}", rf"enhance.{new}") for old, new in RVE_RULES),
)
SUPER_SLOMO_RULES = (
    (rf"(conv[123])\.{_TENSOR}", r"\1.\2"),
    *((rf"(down|up){n}\.(conv[12])\.{_TENSOR}", rf"\1.{n - 1}.\2.\3") for n in range(1, 6)),
)


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    """Our name for a published one; None where no rule knows it."""
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return None
