"""The Python examples of a Markdown file, run one after the other in one namespace: what a reader would type.

python tests/snippets.py README.md        in a folder of its own, by any installation; writes in.mp4 there
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
        "truth": torch.rand(10, 3, 64, 64),
    }


def write_clip(path: Path) -> None:
    """The video that the examples read: two small frames."""
    import numpy as np

    from davsr.data.video import VideoWriter

    rows, columns = np.mgrid[:16, :16]
    with VideoWriter(path, 24) as writer:
        for shift in (0, 2):
            grey = np.uint8(4 * (rows + columns + shift))
            writer.write(np.stack([grey] * 3, axis=2))


def run(file: Path, given: dict[str, Any]) -> int:
    """Run all Python blocks of a file; their number."""
    found = blocks(file.read_text(encoding="utf-8"), "python")
    for number, body in enumerate(found, 1):
        exec(compile(body, f"{file.name}, example {number}", "exec"), given)
    return len(found)


if __name__ == "__main__":
    write_clip(Path("in.mp4"))
    for argument in sys.argv[1:]:
        print(f"{argument}: {run(Path(argument), namespace())} examples run")
