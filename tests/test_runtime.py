from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from davsr.runtime import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()

def take_and_free():
    parts = [torch.ones(2**24) for _ in range(2)]  # 64 MiB each, which glibc else always maps anew

faults = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    take_and_free()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))  # where the heap grew once more in between says nothing of what is kept
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs the allocator of glibc"
)
def test_memory_that_is_kept_comes_back_without_page_faults():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "return")
    }
    assert faults["keep"] < 0.1 * faults["return"] + 64
