"""The option files that ship: what is learned from, what chooses the best checkpoint, what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from davsr.data.clips import open_clips
from davsr.errors import InputError
from davsr.options import SourceOptions, load_options
from davsr.training.samples.footage import chosen
from tests.runs import moving_frames, write_clip

ROOT = Path(__file__).parent.parent.parent
TESTED = [load_options(path).test for path in sorted((ROOT / "options" / "test").glob("*.yml"))]


def shares(a: SourceOptions, b: SourceOptions) -> bool:
    """Whether two sources of clips may show the same frames."""
    if a.path != b.path or a.kind == "synthetic":
        return False
    if a.clips:
        return any(name not in a.exclude and name not in b.exclude and name in (b.clips or (name,)) for name in a.clips)
    return not (b.clips and shares(b, a) is False) and not (a.frames and b.frames and a.frames != b.frames)


@pytest.mark.parametrize("path", sorted((ROOT / "options" / "train").glob("*.yml")), ids=lambda path: path.stem)
def test_no_clip_serves_two_ends(path):
    data = load_options(path).data
    for held_out in data.validation.sources:
        assert not any(shares(held_out, source) for source in data.sources)
    for source in (*data.sources, *data.validation.sources):
        for test in TESTED:
            assert not test.truth or Path(test.truth) not in (Path(source.path), *Path(source.path).parents)
            if "REDS" in source.path:
                assert not set(test.clips) & set(source.clips) and (
                    source.clips or set(test.clips) <= set(source.exclude)
                )


def test_the_guard_sees_what_it_guards_against():
    reds, four = SourceOptions(path="a"), SourceOptions(path="a", clips=("1", "2"))
    assert shares(reds, reds) and shares(four, reds) and shares(reds, four)
    assert not shares(four, SourceOptions(path="a", exclude=("1", "2"))) and not shares(four, SourceOptions(path="b"))
    first = SourceOptions(kind="video", path="a", frames="0:30")
    assert shares(first, first) and not shares(first, SourceOptions(kind="video", path="a", frames="30:45"))


def test_a_source_is_made_of_the_clips_that_are_named(tmp_path):
    for name in ("000", "001", "002"):
        write_clip(tmp_path / name, moving_frames(1))
    clips = open_clips(tmp_path)

    def names(**options: tuple[str, ...]) -> list[str]:
        return [clip.name for clip in chosen(clips, SourceOptions(path=str(tmp_path), **options), "data.sources[0]")]

    assert names() == ["000", "001", "002"]
    assert names(clips=("002", "000")) == ["000", "002"]
    assert names(clips=("002", "000"), exclude=("000",)) == ["002"]
    with pytest.raises(InputError, match=r"data\.sources\[0\]\.clips: 003 is not in .*, which holds 000, 001, 002"):
        names(clips=("003",))
    with pytest.raises(InputError, match="holds no clip that is not excluded"):
        names(clips=("001",), exclude=("001",))
