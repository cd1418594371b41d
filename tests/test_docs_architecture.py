"""docs/architecture.md speaks of the house as it stands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_room_is_described() -> None:
    rooms = {path.name for path in (ROOT / "davsr").iterdir() if (path / "__init__.py").exists()}
    described = set(re.findall(r"^\*\*(\w+)\.\*\*", TEXT, flags=re.MULTILINE))
    assert rooms == described - {"A"}


def test_files_and_names_that_it_speaks_of_exist() -> None:
    folders = [ROOT / name for name in ("davsr", "csrc", "tests", "benchmarks", "docs")]
    files = {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*")}
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "davsr").rglob("*.py")))
    for name in re.findall(r"`([\w./]+\.(?:py|cpp|md))`", TEXT):
        assert any(file == name or file.endswith(f"/{name}") for file in files), name
    for name in re.findall(r"`([A-Z]\w+|_?[a-z]+_[a-z_]+)`", TEXT):
        assert re.search(rf"\b{name}\b", code), name
