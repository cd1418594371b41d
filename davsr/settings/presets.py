"""The option files that come with the package.

Found by name, wherever one stands, and so are the files that they name.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from davsr.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]
# An installed wheel has them inside; in a checkout they lie beside the package.
FOLDERS = (PACKAGE / "assets" / "options", PACKAGE.parent / "options")


def shipped() -> dict[str, Path]:
    """The option files that come with the package, by name: `davsr_tiny`, `training_free`, ..."""
    return {file.stem: file for folder in FOLDERS for file in sorted(folder.glob("*/*.yml"))}


def option_file(name: str | Path) -> Path:
    """The file that -opt means: a path, the name of a shipped file, or a shipped file's path in the repository.

    Raises:
        davsr.errors.InputError: there is none, with the nearest name.
    """
    path = Path(name)
    try:
        if path.exists():
            return path
    except OSError:  # too long, or not to be looked into: who reads it says so
        return path
    known = shipped()
    found = known.get(path.name.removesuffix(".yml"))
    if found is not None and (path.parent == Path() or path.parts[-3:] == ("options", found.parent.name, found.name)):
        return found
    near = difflib.get_close_matches(path.name.removesuffix(".yml"), known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"by name there are {', '.join(known)}"
    raise InputError(f"options: file {name} does not exist; {hint}")


def with_assets(value: Any) -> Any:
    """Options with the paths below `davsr/assets/` made those of this installation, where the current folder has
    none.
    """
    if isinstance(value, dict):
        return {key: with_assets(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_assets(entry) for entry in value]
    if isinstance(value, str) and value.startswith("davsr/assets/") and not Path(value).exists():
        return str(PACKAGE.parent / value)
    return value
