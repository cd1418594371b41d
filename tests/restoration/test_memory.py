"""Free memory as /proc and control groups tell it, on made files."""

from __future__ import annotations

import ctypes
import os
import types
from pathlib import Path

import pytest
import torch

from davsr.restoration import memory

GB = 2**30


def write(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


def statistics(inactive: int, active: int, prefix: str = "") -> str:
    return f"{prefix}anon 5\n{prefix}inactive_file {inactive}\n{prefix}active_file {active}\nshmem 7\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path / "proc", meminfo=f"MemTotal: 99 kB\nMemAvailable:    {8 * GB // 1024} kB\n")
    return tmp_path / "proc"


def in_group(proc: Path, line: str) -> None:
    write(proc / "self", cgroup=f"12:cpu,cpuacct:/other\n{line}\n")


def test_pages_of_files_are_free_in_a_container_of_version_2(proc, tmp_path):
    in_group(proc, "0::/pod/box")
    groups = tmp_path / "cgroup"
    write(groups / "pod/box", memory__max="max\n", memory__current=f"{3 * GB}\n", memory__stat=statistics(0, 0))
    write(groups / "pod", memory__max=f"{4 * GB}\n", memory__current=f"{4 * GB}\n", memory__stat=statistics(2 * GB, GB))
    assert memory.free_in_containers(proc, groups) == [3 * GB]  # of the outer group: the inner one has no limit


def test_pages_of_files_are_free_in_a_container_of_version_1(proc, tmp_path):
    in_group(proc, "4:hugetlb,memory:/docker/0123abc")  # the host's path: the container sees its own group at the root
    write(
        tmp_path / "cgroup/memory",
        memory__limit_in_bytes=f"{2 * GB}\n",
        memory__usage_in_bytes=f"{2 * GB}\n",
        memory__stat=statistics(GB, 0, "total_"),
    )
    assert memory.free_in_containers(proc, tmp_path / "cgroup") == [GB]


@pytest.mark.parametrize("line", ["0::/", "4:memory:/x", "1:name=systemd:/"])
def test_no_group_no_limit(proc, tmp_path, line):
    in_group(proc, line)
    assert memory.free_in_containers(proc, tmp_path / "none") == []


def test_the_least_counts(monkeypatch):
    monkeypatch.setattr(memory, "free_in_system", lambda: 8.0 * GB)
    monkeypatch.setattr(memory, "free_in_containers", lambda: [3.0 * GB, 5.0 * GB])
    assert memory.free_memory(torch.device("cpu")) == 3 * GB
    monkeypatch.setattr(memory, "free_in_containers", lambda: [-1.0])
    assert memory.free_memory(torch.device("cpu")) == 0


def test_linux_tells(proc):
    assert memory.free_in_system(proc) == 8 * GB


def test_windows_tells(monkeypatch, tmp_path):
    def status(reference) -> int:
        reference._obj.available = 6 * GB
        return 1

    kernel = types.SimpleNamespace(GlobalMemoryStatusEx=status)
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.delattr(os, "sysconf")
    assert memory.free_in_system(tmp_path) == 6 * GB
    assert ctypes.sizeof(memory._MemoryStatus) == 64  # as Windows has it


def test_others_count_half_of_what_is_installed(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": GB // 2048}.__getitem__)
    assert memory.free_in_system(tmp_path) == GB
    monkeypatch.delattr(os, "sysconf")
    assert memory.free_in_system(tmp_path) == 2 * GB
    assert "nothing tells how much is free" in caplog.text
