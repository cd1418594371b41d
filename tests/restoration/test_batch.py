"""Folders of videos, stretches of one, repeated frames, and the short ways to say a scale."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.cli import main
from davsr.data.frames import read_image
from davsr.errors import InputError
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.batch import is_folder_of_videos, targets
from davsr.restoration.restore import restore
from davsr.restoration.source import open_source
from tests.videos import about, decode, pattern, write_video

FLAGS = ["--model", "training-free", "--preset", "ultrafast", "--tile", "0", "--device", "cpu", "--psf", "delta"]


def test_each_video_of_a_folder_is_restored_and_a_bad_one_ends_nothing(tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.mp4", "b.mkv", "b.avi", "c.mov"):
        write_video(source / name, pattern(2), 25, pixels="yuv420p")
    (source / "bad.mp4").write_text("no video")
    (source / "notes.txt").write_text("no video either")
    command = ["restore", str(source), str(target), "--scale", "2", "1", "1", *FLAGS]
    assert main(command) == 2
    told = capsys.readouterr()
    assert "4 restored, 0 were there already, 1 failed" in told.out and "bad.mp4" in told.err
    made = sorted(path.name for path in target.iterdir() if path.suffix != ".log")
    assert made == ["a.mp4", "b.avi.mkv", "b.mkv", "c.mov"]
    assert all(about(target / name)["frames"] == 4 for name in made)
    (target / "a.mp4").unlink()
    (source / "bad.mp4").unlink()
    assert main(command) == 0
    assert "1 restored, 3 were there already, 0 failed" in capsys.readouterr().out


def test_a_folder_of_videos_goes_into_no_file(tmp_path, capsys):
    """No folder is made that is called clip.mp4, and a file is left as it is."""
    source = tmp_path / "in"
    source.mkdir()
    write_video(source / "a.mp4", pattern(1), 25)
    (tmp_path / "plain").write_text("mine")
    for name in ("clip.mp4", "clip.wmv", "plain"):
        assert main(["restore", str(source), str(tmp_path / name), *FLAGS]) == 2
        assert "must be a folder, as the input is a folder of videos" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "plain"]


def test_a_folder_of_frames_stays_a_clip(tmp_path):
    write_video(tmp_path / "film.mp4", pattern(1))
    assert is_folder_of_videos(tmp_path) and list(targets(tmp_path, tmp_path / "o").values()) == [
        tmp_path / "o" / "film.mp4"
    ]
    (tmp_path / "0.png").write_bytes(b"")
    assert not is_folder_of_videos(tmp_path) and not is_folder_of_videos(tmp_path / "film.mp4")


def test_a_stretch_is_what_the_frames_say(tmp_path):
    frames = pattern(12)
    source = write_video(tmp_path / "in.mp4", frames, 25, sound=True)
    model, same = load_model(model=TRAINING_FREE), DegradationOptions(scale=(1, 1, 1), psf="delta")
    for text, count in (("3:7", 4), ("10:", 2), (":5", 5)):
        options = RestoreOptions(frames=text, preset="ultrafast", crf=2, overwrite=True)
        restore(source, tmp_path / "out.mp4", model=model, degradation=same, options=options)
        assert about(tmp_path / "out.mp4")["frames"] == count and about(tmp_path / "out.mp4")["start"] == 0
    options = RestoreOptions(frames="3:7", codec="ffv1", log=False)
    restore(source, tmp_path / "out.mkv", model=model, degradation=same, options=options)
    assert np.abs(decode(tmp_path / "out.mkv").astype(int) - decode(source)[3:7]).mean() < 1
    for text, reason in (("7:3", "leaves none of the 12 frames"), ("3", "must be start:stop"), ("90:", "leaves none")):
        with pytest.raises(InputError, match=reason):
            open_source(source, options=RestoreOptions(frames=text))


def test_the_film_in_a_file_of_sixty_is_found(tmp_path, caplog):
    """3:2 pulldown: each frame of a film of 24 a second is shown three times, then twice."""
    film = pattern(12, speed=2.0)
    shown = np.concatenate([np.repeat(film[i : i + 1], 3 - i % 2, axis=0) for i in range(len(film))])
    source = write_video(tmp_path / "in.mp4", shown, 60, pixels="yuv420p")
    with caplog.at_level("INFO", logger="davsr"):
        plain = open_source(source)
    assert len(plain) == 30 and "18 of 30 frames repeat the one before; --drop-duplicates" in caplog.text
    true = open_source(source, options=RestoreOptions(drop_duplicates=True))
    assert true.kept == [i + sum(2 - j % 2 for j in range(i)) for i in range(12)]
    assert true.schedule(5).rate == 120 and true.schedule(5).steady


def test_moving_pictures_have_no_repeats(tmp_path):
    for speed in (0.05, 0.7, 3.0):
        source = write_video(tmp_path / "in.mp4", pattern(20, speed=speed), 25)
        assert open_source(source).pictures.repeated() == []


@pytest.mark.parametrize(
    ("flags", "scale"),
    [
        (["--interpolate", "3"], (3, 1, 1)),
        (["--upscale", "2"], (1, 2, 2)),
        (["--interpolate", "2", "--upscale", "3"], (2, 3, 3)),
    ],
)
def test_short_ways_to_say_a_scale(tmp_path, flags, scale):
    source = write_video(tmp_path / "in.mp4", pattern(2), 25)
    assert main(["restore", str(source), str(tmp_path / "out.mp4"), *flags, *FLAGS]) == 0
    told = about(tmp_path / "out.mp4")
    assert (told["frames"], told["size"]) == (2 * scale[0], (24 * scale[1], 32 * scale[2]))
    assert told["rate"] == Fraction(25 * scale[0])


def test_a_scale_is_said_once(tmp_path, capsys):
    source = write_video(tmp_path / "in.mp4", pattern(1), 25)
    assert (
        main(["restore", str(source), str(tmp_path / "o.mp4"), "--scale", "2", "2", "2", "--upscale", "2", *FLAGS]) == 2
    )
    assert "--scale: must be left out" in capsys.readouterr().err


def test_a_preview_shows_the_middle_and_says_how_long_the_whole_takes(tmp_path, capsys):
    source = write_video(tmp_path / "in.mp4", pattern(30), 25)
    command = ["restore", str(source), str(tmp_path / "out.mp4"), "--scale", "2", "2", "2", "--preview", *FLAGS]
    assert main(command) == 0
    assert "all 30 frames would take about 0:" in capsys.readouterr().out
    assert about(tmp_path / "out-preview.mp4")["frames"] == 20 and not (tmp_path / "out.mp4").exists()
    assert read_image(tmp_path / "out-preview.png").shape == (48, 128, 3)
    assert main(["restore", "-", str(tmp_path / "o.mp4"), "--preview", *FLAGS]) == 2
