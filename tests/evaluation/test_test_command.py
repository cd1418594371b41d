"""The command `davsr test`: wrong input, several processes, the tables that it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from davsr.cli import main
from davsr.data.clips import open_clip
from davsr.data.frames import write_image
from davsr.data.views import Degraded
from davsr.evaluation.tester import evaluate
from davsr.physics.degradation import Degradation
from tests.evaluation.sets import FREE, in_folder, moving, one_line, options, scores, write_clip


def damaged(data: Path, tmp_path: Path) -> Path:
    """The clips of gt, the last frame of clip b cut short after its header."""
    for name in "ab":
        write_clip(tmp_path / "gt" / name, open_clip(data / "gt" / name).frames(0, 20))
    last = tmp_path / "gt" / "b" / "0009.png"
    last.write_bytes(last.read_bytes()[:60])
    return tmp_path / "gt"


def test_a_damaged_frame_is_named_and_leaves_no_half_clip(data: Path, tmp_path: Path, capsys) -> None:
    folder = damaged(data, tmp_path)
    sets = [f"--set={change}" for change in FREE]
    code = in_folder(tmp_path, lambda: main(["test", "--truth", str(folder), "--name", "run", *sets]))
    assert code == 2
    assert "0009.png cannot be read" in one_line(capsys)
    assert sorted(p.name for p in (tmp_path / "results" / "run").iterdir()) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--truth", "nowhere"], "nowhere does not exist"),
        (["--truth", "empty"], "holds neither frames nor clips"),
        (["--input", "sizes"], "0000.png is 80x64, 0001.png is 80x60"),
        (
            ["--truth", "odd"],
            "12 frames of 81x66, which the scale 5x4x4 does not divide; crop it to 10 frames of 80x64",
        ),
        (["--input", "lq/b", "--truth", "gt/a"], "LQ of 2 frames of 20x16 and GT of 20 frames of 80x64 do not match"),
        (["--input", "lq", "--truth", "other"], "clip a of test.input has no clip of that name in test.truth (y, z)"),
        (["--truth", "tiny"], "clip tiny: GT must be at least 11 pixels a side to be scored, got 12x8"),
        (["--truth", "gt", "--frames", "7:9"], "selects nothing of clip a"),
        (["--truth", "gt", "--frames", "7"], "must be start:stop"),
        (["--truth", "gt", "--set", "test.clips=[c]"], "clip c is not in gt; it holds a, b"),
        (["--set", "test.num_frame_testin=3"], "did you mean test.num_frame_testing?"),
        (["--set", "test.border=two"], "test.border must be a whole number"),
        (["-opt", "twice.yml"], "border is given twice"),
        (["-opt", "none.yml"], "none.yml does not exist"),
        (["--set", "model.enhancement.kind=rve"], "model.weights must name a checkpoint"),
        (["--set", "degradation.psf=blob"], "psf"),
        (["--set", "device=cuda"], "device: cuda is not available here"),
        (["--set", "precision=float16", "--set", "device=cpu"], "precision: float16 must run on a GPU"),
    ],
)
def test_wrong_input_is_one_sentence_and_code_2(data: Path, tmp_path: Path, capsys, arguments, sentence) -> None:
    if "device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("CUDA is available here")
    for name in ("gt", "lq", "odd"):
        (tmp_path / name).symlink_to(data / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for name in "zy":
        (tmp_path / "other" / name).symlink_to(data / "gt" / "a")
    write_clip(tmp_path / "tiny", moving(5, 8, 12))
    write_clip(tmp_path / "sizes", moving(1))
    write_image(tmp_path / "sizes" / "0001.png", moving(1, 60)[0])
    (tmp_path / "twice.yml").write_text("test:\n  border: 1\n  border: 2\n")
    learned = any(a.startswith("model.iterations") for a in arguments)
    sets = [] if learned else [f"--set={change}" for change in FREE]
    assert in_folder(tmp_path, lambda: main(["test", *sets, *arguments])) == 2
    assert sentence in one_line(capsys)
    assert not (tmp_path / "results").exists()


def test_reds4_prints_the_published_rows(tmp_path: Path, capsys) -> None:
    """The shipped options on clips of the names and layout of REDS4, small."""
    for clip in ("000", "011", "015", "020", "099"):
        truth = open_clip(write_clip(tmp_path / "GT" / clip, moving(10)))
        write_clip(tmp_path / "LQ" / clip, Degraded(truth, Degradation()).frames(0, 2))
    file = Path(__file__).parents[2] / "options" / "test" / "davsr_reds4.yml"
    sets = [f"--set={change}" for change in [*FREE, "test.input=LQ", "test.truth=GT"]]
    assert in_folder(tmp_path, lambda: main(["test", "-opt", str(file), *sets])) == 0
    output = capsys.readouterr().out
    assert "29.12" in output and "EDVR + Zooming Slow-Mo" in output
    assert list(scores(tmp_path / "results" / "davsr_reds4")) == ["000", "011", "015", "020"]


def test_processes_share_the_clips(data: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "test.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    sets = [f"--set={change}" for change in FREE]
    arguments = ["--truth", str(data / "gt"), "--name", "two", *sets]
    done = subprocess.run([*torchrun, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("average") == 1
    results = evaluate(options("name=one", f"test.truth={data}/gt"), tmp_path)
    two = scores(tmp_path / "results" / "two")
    assert [(name, two[name]["stages"]["z_1"]["psnr"]) for name in two] == [
        (r.name, pytest.approx(r.mean("z_1", "psnr"))) for r in results
    ]


def test_output_restores_as_the_restore_command_does(data: Path, tmp_path: Path, capsys) -> None:
    file = str(Path(__file__).parents[2] / "options" / "test" / "video.yml")
    arguments = ["test", "-opt", file, "--set", "restore.model=training-free", "--output", str(tmp_path / "frames")]
    assert main([*arguments, "--input", str(data / "lq" / "b")]) == 0
    frames = open_clip(tmp_path / "frames")
    assert (len(frames), frames.size) == (10, (64, 80))
    assert main(arguments) == 2
    assert "--output needs --input" in capsys.readouterr().err
