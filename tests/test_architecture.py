"""The house: what may import what, how many files lie where, how long they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "davsr"
# From the ground up. A room may import from itself and from the rooms before it.
ROOMS = (
    ("threads", "errors"),
    ("guards",),
    ("settings",),
    ("config", "options", "files", "pixels", "ranks", "log"),
    ("ops",),
    ("runtime",),
    ("physics",),
    ("models",),
    ("data",),
    ("checkpoints",),
    ("prepare", "restoration"),
    ("evaluation",),
    ("training",),
    ("serving",),
    ("doctor", "cli"),
)
# The command line's modules know the arguments that all commands share, and are known by name alone to it.
SHARED = {"davsr.cli": {"add_option_arguments"}}
LONGEST = 350


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[str, set[str]]]:
    """Modules of the package that a file imports at its top, each with the names taken from it."""
    found: list[tuple[str, set[str]]] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("davsr"):
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / inner.replace(".", "/")).with_suffix(".py").exists()
                is_package = (PACKAGE.parent / inner.replace(".", "/")).is_dir()
                found.append((inner, set()) if is_module or is_package else (node.module, {alias.name}))
        elif isinstance(node, ast.Import):
            found += [(alias.name, set()) for alias in node.names if alias.name.startswith("davsr")]
    return found


def level(module: str) -> int | None:
    parts = module.split(".")
    if len(parts) == 1:
        return None  # the package itself: its version
    return next((n for n, rooms in enumerate(ROOMS) if parts[1] in rooms), None)


@pytest.mark.parametrize("path", modules(), ids=lambda path: name_of(path))
def test_no_module_imports_from_a_higher_room(path: Path) -> None:
    own = name_of(path)
    if own == "davsr":
        return
    assert level(own) is not None, f"{own} lies in no room: add it to ROOMS or move it"
    for module, names in imports(path):
        if module == "davsr" or names & SHARED.get(module, set()):
            continue
        assert level(module) is not None, f"{own} imports {module}, which lies in no room"
        assert level(module) <= level(own), f"{own} imports {module}, which lies in a higher room"


def test_no_import_goes_in_a_circle() -> None:
    edges = {name_of(path): {m for m, names in imports(path) if not names & SHARED.get(m, set())} for path in modules()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module in done:
            return
        for other in sorted(edges.get(module, ())):
            visit(other, (*trail, module))
        done.add(module)

    for module in edges:
        visit(module, ())


def test_the_hall_is_small() -> None:
    hall = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(hall) <= 12, hall


def sources() -> list[Path]:
    """All Python files of the repository: package, tests, benchmarks, examples, integrations."""
    root = PACKAGE.parent
    folders = ("davsr", "tests", "benchmarks", "examples", "integrations")
    return sorted([*root.glob("*.py"), *(path for folder in folders for path in (root / folder).rglob("*.py"))])


def test_no_file_is_too_long_to_read() -> None:
    lengths = {str(p.relative_to(PACKAGE.parent)): len(p.read_text(encoding="utf-8").splitlines()) for p in sources()}
    assert {name for name in lengths if name.startswith("tests")} and not {
        p: n for p, n in lengths.items() if n > LONGEST
    }


def test_no_test_measures_time() -> None:
    """A machine that has other work must not fail a test: waits are for events (`tests/processes.py`)."""
    by_hand = {"fuzz", "kill"}  # commands that run for as long as they are told
    clock = re.compile(r"time\.(monotonic|perf_counter|time|process_time)\(")
    tests = PACKAGE.parent / "tests"
    timed = [
        p.name for p in sorted(tests.rglob("*.py")) if p.parent.name not in by_hand and clock.search(p.read_text())
    ]
    assert not timed


# Values that files hold as plain trees, of whatever YAML, JSON or a checkpoint knows: checked where they are read.
PLAIN = {"option", "parse_yaml", "to_tree", "to_yaml", "stated_tree", "with_assets", "read_json", "write_json"}
PLAIN |= {"load_strictly", "restore_optimizer"}


def test_nothing_public_takes_or_gives_anything() -> None:
    """Where parts meet, types say what: `Any` hides that one lacks what the other asks."""
    found = []

    def look(node: ast.AST, path: Path) -> None:
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, (ast.ClassDef, ast.FunctionDef)) and not inner.name.startswith("_"):
                look(inner, path)
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and inner.name not in PLAIN:
                taken = [a.annotation for a in (*inner.args.posonlyargs, *inner.args.args, *inner.args.kwonlyargs)]
                if any(isinstance(a, ast.Name) and a.id == "Any" for a in [*taken, inner.returns]):
                    found.append(f"{name_of(path)}.{inner.name}")

    for path in modules():
        look(ast.parse(path.read_text(encoding="utf-8")), path)
    assert found == ["davsr.restoration.nowhere.write"]  # a buffer of any kind, as io.RawIOBase takes it
