"""Option files that nobody would write: one sentence, at once, in little memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from davsr.errors import InputError
from davsr.options import load_options

ALIASES = "seed:\n  - &a0 [1, 1]\n" + "".join(f"  - &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}]\n" for n in range(40))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xd5\xe0{@", "must be UTF-8"),
        (b"data: {cache: !!int abc}", "not valid YAML"),
        (b"test: {rate: !!timestamp x}", "not valid YAML"),
        (b"train: {ema: 2001-99-99}", "not valid YAML"),
        (b"name: !!binary x", "not valid YAML"),
        (b"seed: " + b"9" * 5000, "not valid YAML"),
        (b"name: " + b"[" * 3000, "nested too deeply"),
        (b"train: {batch: .inf}", "train.batch must be a whole number, got inf"),
        (b"train: {batch: 1e400}", "train.batch must be a whole number"),
        (b"train: {rate: .inf}", "train.rate must be a number, got inf"),
        (b"train: {rate: -.inf}", "train.rate must be a number, got -inf"),
        (b"seed: -1", "seed must be at least 0"),
        (b"threads: 1000000", "threads must be at most"),
        (b"degradation: {scale: [1, 100000, 4]}", "degradation.scale[1] must be at most"),
        (b"model: {enhancement: {blocks: 1000000000}}", "blocks must be at most"),
        (b"x" * 900 + b": 1", "is not an option"),
        (b'"\\x1b[2J": 1', "is not an option"),
        (ALIASES.encode(), "DAVSR_OPTION_VALUES raises that"),
        (b"seed: &a [*a]", "DAVSR_OPTION_VALUES raises that"),
        (b"a: " + b" " * 2**20, "DAVSR_OPTION_BYTES raises that"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_it_is_answered_with_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "o.yml").write_bytes(content)
    with pytest.raises(InputError) as error:
        load_options(tmp_path / "o.yml")
    assert sentence in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 2100


@pytest.mark.parametrize("content", ["[" * 3000, "{a: " * 3000, "[" * 51 + "]" * 51, "- " * 3000], ids=lambda v: v[:3])
def test_too_deep_is_too_deep_however_deep_python_may_go(tmp_path: Path, content: str) -> None:
    """Type checkers and compilers raise the limit for the whole process."""
    (tmp_path / "o.yml").write_text(f"name: {content}" if content[0] != "-" else content)
    limit = sys.getrecursionlimit()
    for frames in (limit, 2**14):
        sys.setrecursionlimit(frames)
        try:
            with pytest.raises(InputError, match="nested too deeply"):
                load_options(tmp_path / "o.yml")
        finally:
            sys.setrecursionlimit(limit)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop.yml").symlink_to("loop.yml")
    for name in ("loop.yml", "n" * 300):
        with pytest.raises(InputError, match="options: "):
            load_options(tmp_path / name)
