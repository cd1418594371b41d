"""Which code runs, and that it says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from davsr.ops import backend
from davsr.ops._extension import _BUILT_FOR, _REGISTERED


def run(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return result.stdout + result.stderr


def test_backend_names_what_runs_and_why():
    chosen = backend()
    assert chosen.name in ("cpu-avx512", "cpu-avx2", "cpu-baseline", "reference")
    assert chosen.name in str(chosen) and chosen.reason in str(chosen)
    assert backend("meta").name == "reference"


@pytest.mark.parametrize("folder", ["DAVSR_REFERENCE", "DAVSR_EXTENSION_FOLDER"])
def test_without_the_extension_everything_runs_and_says_so_once(folder, tmp_path):
    """One line at the start, and the same results from the references."""
    code = """
import logging, torch
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
from davsr.ops import backend, deform_align, deform_align_reference, log_backend
log_backend(); log_backend()
assert backend().name == "reference", backend()
torch.manual_seed(0)
given = torch.randn(1, 4, 5, 6), torch.randn(1, 54, 5, 6), torch.randn(1, 2, 5, 6), None, torch.randn(3, 4, 3, 3), None
options = {"groups": 2, "max_residue": 10.0}
assert torch.equal(deform_align(*given, **options), deform_align_reference(*given, **options))
"""
    said = run(code, **{folder: "1" if folder == "DAVSR_REFERENCE" else str(tmp_path)})
    assert said.count("ops backend: reference") == 1 and "WARNING" in said


def test_an_extension_that_does_not_load_is_named(tmp_path):
    (tmp_path / "_C.abi3.so").write_bytes(b"not a library")
    said = run("from davsr.ops import backend; print(backend())", DAVSR_EXTENSION_FOLDER=str(tmp_path))
    assert "ops backend: reference (_C.abi3.so does not load into torch" in said and "build it again" in said


@pytest.mark.skipif(backend().name == "reference", reason="no extension")
def test_levels_are_those_of_this_processor():
    levels = torch.ops.davsr.cpu_levels()
    assert levels[-2:] == ["baseline", "serial"] and backend().name == f"cpu-{levels[0]}"
    capability = torch.backends.cpu.get_cpu_capability()
    assert ("avx2" in levels) == (capability in ("AVX2", "AVX512"))


def test_the_names_that_are_looked_for_are_those_of_the_schema():
    schema = (Path(__file__).parents[2] / "csrc" / "schema.cpp").read_text(encoding="utf-8")
    assert list(_REGISTERED) == re.findall(r'"([a-z_0-9]+)\(', schema)


def built() -> Path:
    folder = Path(os.environ.get("DAVSR_EXTENSION_FOLDER", Path(__file__).parents[2] / "davsr"))
    return next(folder.glob("_C*.so"))


def test_an_extension_for_another_torch_is_not_even_opened_and_python_says_what_to_do(tmp_path):
    """It might load and crash. This one could not be loaded at all, as nothing else of it is there."""
    (tmp_path / "_C.abi3.so").write_bytes(b"\x7fELF davsr: built for torch 2.4.1+cpu\0")
    code = """
import davsr, torch
assert not torch.isnan(davsr.load_model()(torch.rand(1, 1, 3, 8, 8))).any()
davsr.load_model("training-free")
"""
    said = run(code, DAVSR_EXTENSION_FOLDER=str(tmp_path))
    version = re.escape(torch.__version__)
    assert re.fullmatch(
        rf"ops backend: reference \(_C.abi3.so was built for torch 2.4.1\+cpu, this is {version}: PyTorch's own operations "
        r"run, slower, with the same results; install torch 2.4, or build it again in davsr's sources: pip install .*\)\n",
        said,
    ), said


@pytest.mark.skipif(backend().name == "reference", reason="no extension")
def test_the_extension_says_in_its_file_for_which_torch_it_was_built():
    said = _BUILT_FOR.search(built().read_bytes())
    assert said is not None and said[1].decode() == torch.ops.davsr.built_for()


@pytest.mark.skipif(backend().name == "reference", reason="no extension")
def test_an_extension_of_another_version_is_named_and_not_used(tmp_path):
    file = built()
    other = file.read_bytes().replace(b"flatten_backward(", b"another_backward(")
    (tmp_path / file.name).write_bytes(other)
    said = run("from davsr.ops import backend; print(backend())", DAVSR_EXTENSION_FOLDER=str(tmp_path))
    assert f"ops backend: reference ({file.name} is of another davsr and lacks flatten_backward; build it again" in said
