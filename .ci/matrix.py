"""The quick tests on every Python and torch that are to be had here: `make matrix`. Writes docs/matrix.md.

    python .ci/matrix.py [--torch 2.6.0 newest] [--use NAME=PYTHON ...] [--compiler clang++] [--tests PATH ...] [--keep]

Each pair gets an environment of its own under .matrix/, with the extension built for it, and is removed again
afterwards (a torch may take 5 GB) unless --keep is given. `--use` tests an environment as it is, torch and all;
`--compiler none` leaves the extension out; `--tests` runs some of the tests instead of all that are quick. Rows of
other environments stay in the table.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".matrix"
TABLE = ROOT / "docs" / "matrix.md"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
HEAD = """# Pythons and torches

`make matrix` runs the tests that are not marked slow, or those that a row names, with each Python that is installed
and each torch that installs, with the extension built for it by the compiler that the row names, and writes this table.
A row is what was seen on that day, not a promise. What is not here is left to the hosted workflow
(`.github/workflows/checks.yml`): Python 3.10 to 3.14, torch 2.6 and the newest, clang, macOS, and Windows without a
compiler. Workers of the loader start by fork, spawn and forkserver in `tests/training/test_loader.py`.

| Python | torch | NumPy | compiler | operations | tests | day |
|---|---|---|---|---|---|---|
"""
FACTS = (
    "import platform, numpy, torch, davsr.ops as o; "
    "print(platform.python_version(), torch.__version__, numpy.__version__, o.backend().name)"
)


def interpreters() -> list[Path]:
    """One of each version: from the path, or as pyenv lays them."""
    found = []
    for version in VERSIONS:
        named = shutil.which(f"python{version}")
        laid = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        if laid or named:
            found.append(laid[-1] if laid else Path(str(named)))
    return found


def called(command: list[object], log: Path, **environment: str) -> bool:
    """Whether a command succeeds; what it says goes to the log."""
    with log.open("a") as file:
        variables = {**os.environ, **environment}
        return (
            subprocess.run([str(c) for c in command], cwd=ROOT, stdout=file, stderr=file, env=variables).returncode == 0
        )


def install(interpreter: Path, torch: str, folder: Path, log: Path) -> str:
    """An environment; returns what failed, or nothing."""
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet"]
    wanted = "torch" if torch == "newest" else f"torch=={torch}"
    steps = {
        "venv": [interpreter, "-m", "venv", folder],
        "tools": [*pip, "--upgrade", "pip", "setuptools", "wheel"],
        f"no {wanted} for it": [*pip, wanted],
        "requirements": [*pip, "-r", "requirements.txt", "lmdb", "tensorboard"],
    }
    return next((name for name, command in steps.items() if not called(command, log)), "")


def tested(python: Path, name: str, compiler: str, tests: list[str]) -> str:
    """Build the extension, run the tests; returns a row of the table."""
    log, built = WORK / f"{name}.log", WORK / f"{name}-built"
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    built_here = compiler != "none" and called(
        [python, "setup.py", "-q", "build_ext", "--build-lib", built, "--build-temp", WORK / f"{name}-objects"],
        log, DAVSR_CUDA="0", PATH=path, CXX=compiler,
    )  # fmt: skip
    variables = {"DAVSR_EXTENSION_FOLDER": str(built / "davsr"), "PATH": path, "PYTHONPATH": str(ROOT)}
    known = subprocess.run(
        [str(python), "-c", FACTS], cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    ).stdout.split()
    passed = called(
        [python, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers", *tests],
        log, **variables,
    )  # fmt: skip
    last = log.read_text().strip().splitlines()[-1].strip("= ")
    result = last if passed or "failed" in last or "error" in last else f"ended: {last}"
    facts = known or ["?", "?", "?", "?"]
    backend = facts[3] if built_here or compiler == "none" else f"{facts[3]} (not built)"
    result += f": {' '.join(tests)}" if tests else ""
    return f"| {facts[0]} | {facts[1]} | {facts[2]} | {compiler} | {backend} | {result} | {datetime.date.today()} |"


def other_rows(rows: list[str]) -> list[str]:
    """Rows of the table as it is, but for those of the same environment as one of `rows`."""
    if not TABLE.exists():
        return []
    same = [row.split("|")[1:5] for row in rows]
    known = [line for line in TABLE.read_text().splitlines() if line.startswith("| 3.")]
    return [line for line in known if line.split("|")[1:5] not in same]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", nargs="*", default=["2.6.0", "newest"])
    parser.add_argument("--use", nargs="*", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--compiler", default="g++", help="none: without the extension")
    parser.add_argument("--tests", nargs="*", default=[], metavar="PATH")
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    args = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    used = (entry.split("=", 1) for entry in args.use)
    rows = [tested(Path(python).absolute(), name, args.compiler, args.tests) for name, python in used]
    for interpreter in [] if args.use else interpreters():
        for torch in args.torch:
            name = f"{interpreter.parent.parent.name}-{torch}"
            folder = WORK / name
            failed = install(interpreter, torch, folder, WORK / f"{name}.log")
            day = datetime.date.today()
            rows.append(
                f"| {interpreter.parent.parent.name} | {torch} | | | | not installed: {failed} | {day} |"
                if failed
                else tested(folder / "bin" / "python", name, args.compiler, args.tests)
            )
            if not args.keep:
                shutil.rmtree(folder, ignore_errors=True)
            print(rows[-1], flush=True)
    TABLE.write_text(HEAD + "\n".join(sorted([*other_rows(rows), *rows])) + "\n")
    print(TABLE.read_text())
    return int(any("failed" in row or "error" in row or "ended:" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
