"""The Python examples of a Markdown file, run one after the other in one namespace: what a reader would type.

python tests/snippets.py README.md        in any folder, by any installation
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for name, body in FENCE.findall(text) if name == language]


def namespace() -> dict[str, Any]:
    """What the examples take as given: videos of small size."""
    import torch

    torch.manual_seed(0)
    return {
        "torch": torch,
        "x": torch.rand(1, 3, 10, 32, 32),
        "x0": torch.rand(1, 3, 10, 32, 32),
        "lq": torch.rand(1, 2, 3, 16, 16),
    }


def run(file: Path, given: dict[str, Any]) -> int:
    """Run all Python blocks of a file; their number."""
    found = blocks(file.read_text(encoding="utf-8"), "python")
    for number, body in enumerate(found, 1):
        exec(compile(body, f"{file.name}, example {number}", "exec"), given)
    return len(found)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {run(Path(argument), namespace())} examples run")
