"""The command line: quick help, lazy subcommands, resolved options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from davsr import config
from davsr.cli import COMMANDS, main
from davsr.errors import InputError
from davsr.log import logger, logging_to
from davsr.options import Options, load_options


def test_help_lists_every_command_without_loading_torch() -> None:
    code = "import sys; from davsr.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name}" in output for name in COMMANDS)
    assert output.splitlines()[-1] == "False"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_and_version_succeed(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0 and "davsr" in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["tset"])
    assert stop.value.code == 2 and "invalid choice: 'tset'" in capsys.readouterr().err


def test_dry_run_prints_options_that_load_back(tmp_path: Path, capsys) -> None:
    (tmp_path / "o.yml").write_text("name: first\ntest:\n  border: 3\n")
    arguments = ["-opt", str(tmp_path / "o.yml"), "--set", "name=second", "--input", "a #folder: x", "--dry-run"]
    assert main(["test", *arguments]) == 0
    (tmp_path / "printed.yml").write_text(capsys.readouterr().out)
    options = load_options(tmp_path / "printed.yml")
    assert (options.name, options.test.border, options.test.input) == ("second", 3, "a #folder: x")
    assert config.to_tree(options).keys() == config.to_tree(Options()).keys()


def test_doctor_names_device_and_backend(capsys) -> None:
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    for topic in ("torch", "device", "ops on cpu", "encoders", "libx264"):
        assert topic in output


def test_shipped_test_options_load() -> None:
    files = sorted((Path(__file__).parent.parent / "options" / "test").glob("*.yml"))
    assert files
    for file in files:
        load_options(file)


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import davsr.doctor

    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(davsr.doctor, "run", interrupted)
    assert main(["doctor"]) == 130 and capsys.readouterr().err == "davsr: interrupted\n"


def test_a_defect_of_ours_is_not_dressed_as_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    import davsr.doctor

    def broken(args):
        raise ValueError("a bug")

    monkeypatch.setattr(davsr.doctor, "run", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["doctor"])
    assert issubclass(InputError, ValueError)


def test_log_lines_go_to_console_and_file_and_handlers_leave(tmp_path: Path, capsys) -> None:
    before = list(logger.handlers)
    with logging_to(tmp_path / "deep" / "log.txt"):
        logger.info("good news")
        logger.warning("bad news")
    captured = capsys.readouterr()
    assert captured.out == "good news\n" and captured.err == "davsr: bad news\n"
    lines = (tmp_path / "deep" / "log.txt").read_text().splitlines()
    assert [line[-9:] for line in lines] == ["good news", " bad news"] and lines[0][:2] == "20"
    assert logger.handlers == before
