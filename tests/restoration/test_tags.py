"""What a file says about itself goes along: chapters, tags of phones, the time code; what cannot is named."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import pytest

from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore
from tests.videos import pattern

CASES = Path(__file__).parents[1] / "data" / "cases"
FAST = {"preset": "ultrafast", "crf": 4.0, "size_patch_testing": 0, "num_frame_testing": 4, "cuts": False}
PHONE = {
    "title": "My trip",
    "com.apple.quicktime.location.ISO6709": "+37.3349-122.0090+010.000/",
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
    "com.android.version": "14",
}
needs_chapters = pytest.mark.skipif(
    not hasattr(av.stream.DataStream, "index_entries"),
    reason="PyAV before 17 tells no track of chapters by its entries",
)


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """Restores into a folder of its own, twice as many frames of the same size; gives the file and what was logged."""
    model, folder = load_model(model=TRAINING_FREE), tmp_path_factory.mktemp("made")

    def run(source: Path, name: str, caplog: pytest.LogCaptureFixture, **options: object) -> tuple[Path, str]:
        caplog.clear()
        twice = DegradationOptions(scale=(2, 1, 1), psf="delta")
        with caplog.at_level(logging.INFO, logger="davsr"):
            wanted = RestoreOptions(**{**FAST, "overwrite": True, **options})
            restore(source, folder / name, model=model, degradation=twice, options=wanted)
        return folder / name, caplog.text

    return run


def video(path: Path, tags: dict[str, str], rate: int = 24) -> Path:
    options = {"movflags": "use_metadata_tags"} if "com.android.version" in tags else {}
    with av.open(str(path), "w", options=options) as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        out.metadata.update(tags)
        for image in pattern(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {name.lower(): text for name, text in container.metadata.items()}


@needs_chapters
def test_the_track_of_quicktimes_chapters_is_not_said_to_be_left_out(through, caplog, tmp_path):
    source, said = through(CASES / "two_tracks_subtitles_chapters.mkv", "chapters.mov", caplog)
    assert "left out" not in said
    for name in ("again.mp4", "again.mov", "again.mkv"):
        made, said = through(source, name, caplog)
        assert "left out" not in said
        with av.open(str(made)) as container:
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One", "Two"]
    # Beside it measurements, as action cameras write them, under the name that their program gives them.
    measured = (made.parent / "again.mp4").read_bytes().replace(b"tx3g", b"gpmd").replace(b"sbtl", b"meta")
    (tmp_path / "gopro.mp4").write_bytes(measured)
    with av.open(str(tmp_path / "gopro.mp4")) as container:
        assert len(container.streams.data) == 2
    made, said = through(tmp_path / "gopro.mp4", "measured.mp4", caplog)
    assert "data track 3 (SubtitleHandler)" in said and said.count("data track") == 1


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".m4v", ".mkv"])
def test_what_phones_say_in_names_of_their_own_is_kept(tmp_path, through, caplog, suffix):
    source = video(tmp_path / "in.mov", PHONE)
    assert tags_of(source).items() >= {name.lower(): text for name, text in PHONE.items()}.items()
    made, said = through(source, f"phone{suffix}", caplog)
    assert tags_of(made).items() >= {name.lower(): text for name, text in PHONE.items()}.items()
    assert "left out" not in said


def test_tags_for_which_a_container_has_no_place_are_named(tmp_path, through, caplog):
    source = video(tmp_path / "in.mkv", {"title": "My trip", "odd": "1", **{f"x{i}": "1" for i in range(9)}})
    made, said = through(source, "odd.mp4", caplog)
    assert tags_of(made)["title"] == "My trip"
    assert "left out of" in said and "tags ODD, X0, X1" in said and "and 2 more" in said
    made, said = through(source, "odd.mkv", caplog)
    assert tags_of(made).keys() >= {"odd", "x8"} and "left out" not in said


def test_the_time_code_is_that_of_the_first_picture(tmp_path, through, caplog):
    """Frame 4 of a second of 24 is frame 8 of a second of 48; and the code of a frame that is not there is none."""
    source = video(tmp_path / "in.mkv", {"timecode": "01:02:03:04"})
    kept, _ = through(source, "code.mkv", caplog)
    assert tags_of(kept)["timecode"] == "01:02:03:08"
    written = int(av.__version__.split(".")[0]) >= 18  # before, PyAV writes none for packets that are encoded already
    for name in ("code.mov", "code.mp4"):
        assert code_of(through(source, name, caplog)[0]) == ("01:02:03:08" if written else None)
    slow, again = (
        code_of(through(clip, name, caplog, slow_motion=slow)[0])
        for clip, name, slow in ((source, "slow.mov", True), (kept, "code_again.mov", False))
    )
    assert (slow, again) == (("01:02:03:04", "01:02:03:16") if written else (None, None))
    late, said = through(source, "late.mov", caplog, frames="1:")
    assert code_of(late) is None and "left out of" in said and "time code" in said


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_a_time_code_that_cannot_count_so_many_frames_is_left_out_before_work(tmp_path, through, caplog, suffix):
    """Of 300 a second FFmpeg has none: that had come out when all work was done, as an invalid argument."""
    source = video(tmp_path / "in.mkv", {"timecode": "01:02:03:04"}, rate=150)
    made, said = through(source, f"fast{suffix}", caplog)
    assert code_of(made) is None and "left out of" in said and "time code" in said


def code_of(path: Path) -> str | None:
    with av.open(str(path)) as container:
        return container.streams.video[0].metadata.get("timecode")
