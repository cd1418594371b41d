"""The kinds of input that are mutated, by name."""

from __future__ import annotations

from tests.fuzz.base import Kind
from tests.fuzz.files import Images, Operators, OptionFiles, PSFs, Stores, Videos
from tests.fuzz.runs import Figures, Polish, Prepared, Records
from tests.fuzz.weights import Checkpoints, Converted

KINDS: dict[str, type[Kind]] = {
    "options": OptionFiles,
    "operators": Operators,
    "psf": PSFs,
    "images": Images,
    "videos": Videos,
    "stores": Stores,
    "checkpoints": Checkpoints,
    "converted": Converted,
    "polish": Polish,
    "figures": Figures,
    "records": Records,
    "prepared": Prepared,
}
