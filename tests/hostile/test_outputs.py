"""Nothing but the named output is written, nothing that is not ours is removed, nothing that was finished is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import davsr.restoration.streaming as streaming
import davsr.restoration.target as target_module
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.cli import main
from davsr.errors import InputError
from davsr.options import RestoreOptions
from davsr.restoration.restore import restore
from davsr.restoration.target import part_folder
from tests.runs import moving_frames, write_clip
from tests.videos import pattern, write_video

FAST = {"preset": "ultrafast", "crf": 4.0, "size_patch_testing": 0, "num_frame_testing": 2, "num_frame_overlap": 0}
FREE = [
    f"--set={change}"
    for change in ("model.enhancement.kind=none", "model.hyper.kind=fixed", "model.iterations=1", "threads=1")
]


@pytest.fixture(scope="module")
def model():
    return load_model(model=TRAINING_FREE)


def run(source: Path, target: Path, model: object, **options: object):
    return restore(source, target, model=model, options=RestoreOptions(**{**FAST, **options}))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their content, links with what they name."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = (
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
    return found


def interrupted(monkeypatch: pytest.MonkeyPatch, module: object, name: str, at: int, call) -> None:
    """Let the `at`-th call of module.name end the run as a kill would: nothing that comes after it happens."""
    real, count = getattr(module, name), 0

    def failing(*args, **kwargs):
        nonlocal count
        count += 1
        if count >= at:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing)
        with pytest.raises(KeyboardInterrupt):
            call()


def test_a_folder_in_the_way_of_the_work_folder_is_left_alone(tmp_path, model) -> None:
    source = write_video(tmp_path / "in.mp4", pattern(2))
    part = part_folder(tmp_path / "out")
    part.mkdir()
    (part / "settings.json").write_text("{}")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"out\.part is in the way"):
        run(source, tmp_path / "out", model)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["out", "out.mkv"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"nonsense"])
def test_damaged_records_read_as_absent(tmp_path, model, monkeypatch, name, damage) -> None:
    source = write_video(tmp_path / "in.mkv", pattern(8), codec="ffv1")
    run(source, tmp_path / f"whole-{name}", model, codec="ffv1")
    monkeypatch.setattr(streaming, "_SEGMENT_FRAMES", 1)
    for record in ("settings.json", "plan.json", "segment-000000.json", "segment-000001.json", "piece"):
        target = tmp_path / name
        interrupted(monkeypatch, model, "forward", 4, lambda t=target: run(source, t, model, codec="ffv1"))
        piece = "00000003.png" if name == "out" else "segment-000000.mkv"
        (part_folder(target) / (piece if record == "piece" else record)).write_bytes(damage)
        result = run(source, target, model, codec="ffv1")
        assert result.continued < 30 and result.frames == 40
        if name == "out":
            whole = snapshot(tmp_path / "whole-out")
            assert snapshot(target) == whole and len(whole) == 40
        target.rename(tmp_path / f"{record}-{name}")


def test_a_finished_folder_survives_a_kill_at_every_step_of_its_move(tmp_path, model, monkeypatch) -> None:
    source, other = (
        write_video(tmp_path / "in.mp4", pattern(1)),
        write_video(tmp_path / "other.mp4", pattern(1, seed=1)),
    )
    run(source, tmp_path / "expected", model)
    expected = snapshot(tmp_path / "expected")
    run(other, tmp_path / "out", model)
    old = snapshot(tmp_path / "out")
    steps = [("os", "replace"), ("target", "remove_ours")]
    for where, name in steps:
        for at in range(1, 30):
            module = target_module.os if where == "os" else target_module
            try:
                interrupted(monkeypatch, module, name, at, lambda: run(source, tmp_path / "out", model, overwrite=True))
            except BaseException as error:  # the run came to its end: all steps were seen
                assert "DID NOT RAISE" in str(error)
                break
            now = snapshot(tmp_path / "out") if (tmp_path / "out").exists() else None
            assert now in (old, expected, None)
            kept = part_folder(tmp_path / "out") / "replaced"
            assert now is not None or snapshot(kept) == old
        result = run(source, tmp_path / "out", model, overwrite=True)
        assert result.frames == 5 and snapshot(tmp_path / "out") == expected
        run(other, tmp_path / "out", model, overwrite=True)
    assert not part_folder(tmp_path / "out").exists()


def test_two_at_once_make_one_output(tmp_path, model, monkeypatch) -> None:
    source = write_video(tmp_path / "in.mp4", pattern(4))
    seen: list[str] = []
    real = model.forward

    def second(*args, **kwargs):
        with pytest.raises(InputError, match="is being made by"):
            run(source, tmp_path / "out", model)
        seen.append("refused")
        return real(*args, **kwargs)

    monkeypatch.setattr(model, "forward", second)
    assert run(source, tmp_path / "out", model).frames == 20 and seen
    assert len(list((tmp_path / "out").iterdir())) == 20


def test_an_output_with_frames_missing_is_not_announced(tmp_path, model, monkeypatch) -> None:
    source = write_video(tmp_path / "in.mp4", pattern(6))
    real = streaming.restore_stream
    monkeypatch.setattr(streaming, "restore_stream", lambda *a, **k: list(real(*a, **k))[:-1])
    for name in ("out", "out.mkv"):
        with pytest.raises(InputError, match="of 30 frames"):
            run(source, tmp_path / name, model)
        assert not (tmp_path / name).exists()


def test_overwrite_replaces_frames_and_nothing_else(tmp_path, model) -> None:
    source = write_video(tmp_path / "in.mp4", pattern(2))
    photos = write_clip(tmp_path / "photos", moving_frames(2))
    (photos / "letter.txt").write_text("precious")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"holds more than frames \(letter\.txt\)"):
        run(source, photos, model, overwrite=True)
    assert snapshot(tmp_path) == before


def test_a_refused_run_leaves_nothing(tmp_path, monkeypatch) -> None:
    source = write_video(tmp_path / "in.mp4", pattern(2))
    frames = write_clip(tmp_path / "frames", moving_frames(3))
    (tmp_path / "there.mp4").write_bytes(b"precious")
    before = snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["restore", str(source), "there.mp4"],
        ["restore", str(source), "new/out.mp4", "--set", "restore.rate=0"],
        ["restore", str(frames), "frames/out"],
        ["restore", str(frames), "new/out.mp4"],
        ["restore", "nowhere.mp4", "new/out.mp4"],
        ["polish", str(source), "--input", str(source), "--output", "new/out.mp4"],
        ["train", "--set", "data.sources=[{path: nowhere}]", "--set", "name=a/b"],
        ["test", "--input", "nowhere"],
        ["prepare", "degrade", "--input", str(frames), "--output", str(frames)],
        ["prepare", "lmdb", "--input", "nowhere", "--output", "new/x.lmdb"],
    ):
        model = ["--model", "training-free"] if arguments[0] == "restore" else []
        assert main([*arguments, *model]) == 2, arguments
        assert snapshot(tmp_path) == before, arguments


def test_results_never_replace_their_input(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "results" / "davsr" / "a", moving_frames(2, 16, 20))
    write_clip(tmp_path / "results" / "davsr" / "b" / "deep", moving_frames(2, 16, 20))
    before = snapshot(tmp_path)
    for source in ("results/davsr", "results/davsr/a", "results/davsr/../davsr/a"):
        assert main(["test", "--input", source, *FREE]) == 2
        assert "must not be the input" in capsys.readouterr().err
        assert snapshot(tmp_path) == before


def test_results_replace_results_only(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "lq" / "a", moving_frames(2, 16, 20))
    arguments = ["test", "--input", "lq", "--name", "run", "--set=test.save=frames", "--set=test.pictures=0", *FREE]
    for name in ("a/letter.txt", "index.html"):
        precious = tmp_path / "results" / "run" / name
        precious.parent.mkdir(parents=True)
        precious.write_text("precious")
        assert main(arguments) == 2
        assert "is in the way" in capsys.readouterr().err and precious.read_text() == "precious"
        precious.unlink()
        while precious.parent != tmp_path:
            precious = precious.parent
            precious.rmdir()
    assert main(arguments) == 0 and main(arguments) == 0  # its own results it does replace


def test_tables_never_stand_beside_clips_of_another_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "lq" / "a", moving_frames(2, 16, 20))
    arguments = ["test", "--input", "lq", "--name", "run", "--set=test.save=frames", "--set=test.pictures=0", *FREE]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "results" / "run" / "metrics.json").read_text())["clips"][0]["name"] == "a"
    with monkeypatch.context() as patch:
        import davsr.evaluation.tester as tester

        patch.setattr(tester, "_conclude", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(arguments) == 130
    assert sorted(p.name for p in (tmp_path / "results" / "run").iterdir()) == ["a"]


def test_a_clip_whose_name_is_markup_stays_text_in_the_report(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "lq" / "<!--<script>", moving_frames(2, 16, 20))
    write_clip(tmp_path / "lq" / "b", moving_frames(2, 16, 20))
    arguments = ["test", "--input", "lq", "--name", "run", "--set=test.save=none", "--set=test.pictures=0", *FREE]
    assert main(arguments) == 0
    page = (tmp_path / "results" / "run" / "index.html").read_text()
    assert "<!--<script>" not in page and "\\u003c!--\\u003cscript>" in page


def test_equal_frames_gain_nothing_rather_than_nan() -> None:
    from davsr.evaluation.tables import BASELINE, ClipResult, StageScores, clip_rows

    stages = {name: StageScores([float("inf")], [1.0], [0.0]) for name in (BASELINE, "x_1")}
    rows = clip_rows([ClipResult("x", (1, 4, 4), (1, 16, 16), 0.0, 0, stages)], "ours")
    assert rows[1][-1] == "+0.00 dB / +0.0000"
    np.testing.assert_equal(len(rows), 2)
