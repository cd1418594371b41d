"""Option files by name, from any folder, with the files that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from davsr.cli import main
from davsr.errors import InputError
from davsr.options import load_options
from davsr.settings import presets


@pytest.mark.parametrize("name", ["davsr_tiny", "davsr_tiny.yml", "options/train/davsr_tiny.yml", "training_free"])
def test_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_options(name).name == presets.option_file(name).stem


@pytest.mark.parametrize("name", sorted(presets.shipped()))
def test_what_a_shipped_file_names_of_the_package_is_there_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = load_options(name)
    paths = [s.path for s in (*options.data.sources, *options.data.validation.sources)] + [options.model.weights]
    assert all(Path(path).is_file() for path in paths if path and "davsr/assets" in path)


def test_a_file_of_the_folder_goes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("davsr_tiny").write_text("name: mine\n")
    assert load_options("davsr_tiny").name == "mine"


@pytest.mark.parametrize(
    ("name", "hint"), [("davsr_tinny", "did you mean davsr_tiny?"), ("x/davsr_tiny.yml", "does not exist")]
)
def test_a_name_that_is_none_is_told_the_nearest(name, hint):
    with pytest.raises(InputError, match=r"does not exist") as error:
        load_options(name)
    assert hint in str(error.value)


def test_the_command_takes_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["restore", "in", "out", "-opt", "video", "--dry-run"]) == 0
    assert "name: video" in capsys.readouterr().out
