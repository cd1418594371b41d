"""Folders that are ours carry a mark, records a checksum.

What is not whole is made again, what is not ours is left alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from davsr.errors import InputError
from davsr.files import MARK, claim, is_ours, read_json, read_record, remove_ours, write_record, write_text


def test_a_record_that_differs_in_a_bit_reads_as_absent(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    tree = {"start": 3, "values": [1.5, 2e-9], "name": "a\udcffb"}
    write_record(file, tree)
    assert read_record(file) == tree
    content = file.read_bytes()
    for i in range(len(content)):
        for damaged in (content[:i], content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]):
            file.write_bytes(damaged)
            assert read_record(file) in (None, tree)  # tree: a space became another one
    for nothing in (b"", b"null", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"9" * 10_000):
        file.write_bytes(nothing)
        assert read_record(file) is None
    assert read_json(tmp_path / "none.json") is None


def test_somebody_elses_folder_is_neither_claimed_nor_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "clip.part"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("precious")
    (tmp_path / "link").symlink_to(theirs)
    (tmp_path / "file").write_text("precious")
    for path in (theirs, tmp_path / "link", tmp_path / "file"):
        with pytest.raises(InputError, match="this program did not make it"):
            claim(path)
        remove_ours(path)
    assert (theirs / "notes.txt").read_text() == (tmp_path / "file").read_text() == "precious"


def test_ours_is_what_was_claimed_or_begun(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()  # a run ended between making and marking
    claim(tmp_path / "empty")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "x").write_text("precious")
    (tmp_path / "empty" / "link").symlink_to(victim)
    (tmp_path / "empty" / "folder").mkdir()
    (tmp_path / "empty" / "folder" / "y").write_text("ours")
    assert is_ours(tmp_path / "empty") and (tmp_path / "empty" / MARK).is_file()
    remove_ours(tmp_path / "empty")
    assert not (tmp_path / "empty").exists() and (victim / "x").read_text() == "precious"


def test_text_that_is_no_text_becomes_escapes_that_json_knows(tmp_path: Path) -> None:
    write_text(tmp_path / "t.json", json.dumps({"name": "a\udcffb"}, ensure_ascii=False))
    assert json.loads((tmp_path / "t.json").read_text()) == {"name": "a\udcffb"}
