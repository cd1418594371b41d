"""What the package says that it needs is what it imports. `make package` builds and installs it for real."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from davsr import cli, doctor

ROOT = Path(__file__).parent.parent
MODULES = {package.lower(): module for module, package in cli.REQUIRED.items()}


def required() -> dict[str, str]:
    """{package: requirement} of what an installation brings, extras left out."""
    text = re.search(r"^dependencies = (\[.*?^\])", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert text is not None
    lines = ast.literal_eval(text[1])  # this much of TOML is Python, and Python 3.10 reads no TOML
    return {re.split(r"[<>=!~ ;]", line)[0].lower(): line for line in lines}


def test_requirements_txt_has_what_the_package_needs_with_the_same_bounds():
    text = (ROOT / "requirements.txt").read_text()
    there = {line.split("#")[0].strip().lower() for line in text.splitlines()}
    assert {line.lower() for line in required().values()} <= there


def test_every_requirement_has_its_lower_bound_and_its_sentence():
    assert all(">=" in line for line in required().values())
    assert set(required()) == set(MODULES)


def test_csrc_is_laid_out_by_one_version_everywhere():
    """`make lint`, which the development requirements equip, and pre-commit."""
    pinned = re.compile(r'"clang-format==([\d.]+)"')
    versions = [pinned.findall((ROOT / name).read_text()) for name in ("pyproject.toml", ".pre-commit-config.yaml")]
    assert len(versions[0]) == 1 and versions[0] == versions[1]
    assert re.search(
        r"^lint:.*\n(?:\t.*\n)*\t\$\(BIN\)/clang-format .*--Werror csrc/", (ROOT / "Makefile").read_text(), re.M
    )


def test_modules_import_at_their_top_only_what_an_installation_brings():
    """pytest, scikit-image, lmdb and the like are for development or for one feature.

    Nothing asks for them at import.
    """
    allowed = set(sys.stdlib_module_names) | set(MODULES.values()) | {"davsr", "__future__"}
    foreign = set()
    for file in (ROOT / "davsr").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign |= {(file.name, name) for name in names if name.partition(".")[0] not in allowed}
    assert not foreign


@pytest.mark.parametrize("module", ["torch", "cv2", "av"])
def test_a_package_that_is_missing_is_one_sentence(module):
    code = f"import sys; sys.modules[{module!r}] = None; from davsr.cli import main; sys.exit(main(['doctor']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert (
        result.stderr == f"davsr: this needs {(p := cli.REQUIRED[module])}, which is not installed: pip install {p}\n"
    )


def test_doctor_tells_two_packages_that_bring_the_same_module(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: "5.0" if "contrib" not in name else doctor.NOT_INSTALLED)
    told = dict(doctor.installation())["opencv"]
    assert "opencv-python and opencv-python-headless are both installed" in told
    monkeypatch.setattr(doctor, "_installed", lambda name: "5.0" if name == "opencv-python" else doctor.NOT_INSTALLED)
    assert dict(doctor.installation())["opencv"].endswith(", opencv-python")
