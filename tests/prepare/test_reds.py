"""REDS from its download layout to training and test: what is missing is said, and REDS4 is never trained on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.cli import main
from davsr.data.clips import open_clip, open_clips
from davsr.files import write_png
from davsr.options import load_options
from davsr.physics.degradation import Degradation
from davsr.prepare.reds import REDS4, SPLITS, check_download
from davsr.training.samples.dataset import VideoSamples

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "davsr" / "assets" / "sample.mp4"
TRAIN, VAL = ("000", "001", "002", "011", "015", "020", "239"), ("000", "029")
CLIPS = [
    *(("train", name, name) for name in TRAIN),
    ("val", "000", "240"),
    ("val", "029", "269"),
]  # split, before, after
FRAMES, SIZE = 30, "96x64"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small REDS made of a real clip, laid out as its archives unpack. Every clip is another part of the picture,
    and tells its name: its blue values modulo 16 are its place in CLIPS."""
    root = tmp_path_factory.mktemp("download")
    video = open_clip(SAMPLE)
    degradation = Degradation()
    for n, (split, name, _) in enumerate(CLIPS):
        hr = video.crop(range(n, n + FRAMES), 25 * n, 30 * n, 64, 96)
        hr[..., 2] = hr[..., 2] // 16 * 16 + n
        x = torch.from_numpy(hr).permute(3, 0, 1, 2)[None].float() / 255
        lq = degradation.apply(x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).numpy()
        for kind, frames in ((f"{split}_orig", hr), (f"{split}_blur_bicubic/X4", lq)):
            folder = root / split / kind / name
            folder.mkdir(parents=True)
            for i, frame in enumerate(frames):
                write_png(folder / f"{i:08d}.png", frame)
    return root


@pytest.fixture
def download(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(original, tmp_path / "download", copy_function=os.link)
    return tmp_path / "download"


def prepare(download: Path, output: Path, *more: str) -> int:
    small = ("--frames", str(FRAMES), "--size", SIZE)
    return main(["prepare", "reds", "--input", str(download), "--output", str(output), *small, *more])


def test_missing_clips_are_listed(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(download, tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert "train_orig must hold 240 clips, 233 are missing: 003-010, 012-014, 016-019, 021-238" in printed
    assert "val_blur_bicubic/X4 must hold 30 clips, 28 are missing: 001-028" in printed
    assert "--allow-missing goes on" in printed
    shutil.rmtree(download / "val" / "val_orig")
    assert prepare(download, tmp_path / "out") == 2
    assert (
        f"val_orig is missing: neither {download}/val/val_orig nor {download}/val_orig exists"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "holds nothing of REDS" in capsys.readouterr().err


@pytest.mark.parametrize(
    "file,damage,message",
    [
        ("train/train_orig/001/00000017.png", Path.unlink, "00000017.png is missing"),
        ("train/train_orig/001/00000029.png", Path.unlink, "00000029.png is missing"),
        ("train/train_blur_bicubic/X4/011/00000000.png", Path.unlink, "00000000.png is missing"),
        ("val/val_orig/029/00000004.png", "truncate", "00000004.png is truncated"),
        ("val/val_blur_bicubic/X4/029/00000002.png", "size", "00000002.png must be 24x16 like its clip, got 24x12"),
        ("train/train_orig/020/00000030.png", "extra", "020 must hold 30 frames, got 31"),
    ],
)
def test_damage_is_named_and_nothing_made(
    download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, damage, message: str
) -> None:
    path = download / file
    content = path.read_bytes() if path.exists() else (path.parent / "00000000.png").read_bytes()
    path.unlink(missing_ok=True)  # the tree is made of hard links: never write through one
    if damage == "truncate":
        path.write_bytes(content[:-5])
    elif damage == "size":
        write_png(path, np.zeros((12, 24, 3), np.uint8))
    elif damage == "extra":
        path.write_bytes(content)
    assert prepare(download, tmp_path / "out", "--allow-missing") == 2
    assert "has 1 faults, the first: " in (printed := capsys.readouterr().err) and message in printed
    assert not (tmp_path / "out").exists()


def test_the_splits_merge_into_270_numbers() -> None:
    names = [f"{split.first + i:03d}" for split in SPLITS for i in range(split.clips)]
    assert names == [f"{i:03d}" for i in range(270)]
    assert REDS4 == ("000", "011", "015", "020")


@pytest.mark.parametrize("link", ["symlink", "hardlink", "copy"])
def test_merged_clips_are_the_downloads(download: Path, tmp_path: Path, link: str) -> None:
    out = tmp_path / "REDS"
    assert prepare(download, out, "--allow-missing", "--link", link) == 0
    assert [c.name for c in open_clips(out / "train" / "GT")] == ["001", "002", "239", "240", "269"]
    assert [c.name for c in open_clips(out / "test" / "LQ")] == list(REDS4)
    for merged, split, name in (("001", "train", "001"), ("240", "val", "000"), ("269", "val", "029")):
        gt, lq = (open_clip(out / "train" / side / merged) for side in ("GT", "LQ"))
        assert (len(gt), gt.size, len(lq), lq.size) == (30, (64, 96), 6, (16, 24))
        there = open_clip(download / split / f"{split}_orig" / name)
        np.testing.assert_array_equal(gt.frames(0, 30), there.frames(0, 30))
    assert (out / "train" / "GT" / "240").is_symlink() == (link == "symlink")
    assert prepare(download, out, "--allow-missing", "--link", link) == 0  # complete: nothing to do
    (download / "train" / "train_orig" / "002").rename(download / "train" / "train_orig" / "003")
    (download / "train" / "train_blur_bicubic" / "X4" / "002").rename(
        download / "train" / "train_blur_bicubic" / "X4" / "003"
    )
    assert prepare(download, out, "--allow-missing", "--link", link) == 2  # other clips than it was made of


def test_a_download_without_the_archives_folders_is_found(download: Path) -> None:
    for split in ("train", "val"):
        for folder in (download / split).iterdir():
            folder.rename(download / folder.name)
        (download / split).rmdir()
    found = check_download(download, FRAMES, (64, 96), progress=False)
    assert sorted(found.clips) == ["000", "001", "002", "011", "015", "020", "239", "240", "269"]
    assert not found.faults


def train_options(out: Path, **changes: object) -> list[str]:
    small = {
        "data.patch": 32,
        "data.frames": 2,
        "data.workers": 0,
        "train.batch": 2,
        "model.iterations": 1,
        "model.enhancement": "{channels: 8, blocks: 1, feature_blocks: 1, reconstruction_blocks: 1, hr_channels: 8, groups: 2, "
        "flow: {levels: 2, channels: [8], kernel: 3}}",
        "data.sources": f"[{{kind: pairs, path: {out}/train/GT, lq_path: {out}/train/LQ, exclude: ['000','011','015','020']}}]",
        "data.validation.sources": f"[{{kind: pairs, path: {out}/test/GT, lq_path: {out}/test/LQ}}]",
        "data.validation.frames": 2,
        **changes,
    }
    return [f"{key}={value}" for key, value in small.items()]


@pytest.mark.parametrize("stored", [False, True])
def test_reds4_is_never_trained_on(original: Path, tmp_path: Path, stored: bool) -> None:
    """A hundred samples of five to nine clips: every clip that can be drawn is."""
    out = tmp_path / "REDS"
    assert prepare(original, out, "--allow-missing") == 0
    gt, lq = out / "train" / "GT", out / "train" / "LQ"
    if stored:
        pytest.importorskip("lmdb")
        gt, lq = tmp_path / "GT.lmdb", tmp_path / "LQ.lmdb"
        for side in (gt, lq):
            source = str(out / "train" / side.stem)
            assert main(["prepare", "lmdb", "--input", source, "--output", str(side)]) == 0

    def drawn(path: Path, lq_path: Path, exclude: str) -> set[str]:
        source = f"data.sources=[{{kind: pairs, path: {path}, lq_path: {lq_path}, exclude: {exclude}}}]"
        samples = VideoSamples(load_options(None, [*train_options(out), source]))
        numbers = [samples[i]["gt"][:, :, 2].remainder(16).unique().tolist() for i in range(100)]
        assert all(len(of_one_sample) == 1 for of_one_sample in numbers)
        return {CLIPS[number][2] for (number,) in numbers}

    assert drawn(gt, lq, "[]") == {"001", "002", "239", "240", "269"}
    if not stored:  # the names that the option file excludes keep them out of a folder that holds all of REDS, too
        root = original / "train"
        named = drawn(root / "train_orig", root / "train_blur_bicubic" / "X4", "['000', '011', '015', '020']")
        assert named == {"001", "002", "239"}
        assert drawn(root / "train_orig", root / "train_blur_bicubic" / "X4", "[]") & set(
            REDS4
        )  # what this would catch


def test_the_option_files_name_the_folders_that_prepare_makes() -> None:
    train = load_options(ROOT / "options" / "train" / "davsr_reds.yml")
    (source,) = train.data.sources
    assert (source.path, source.lq_path) == ("data/REDS/train/GT", "data/REDS/train/LQ")
    assert set(source.exclude) == {*REDS4, *train.data.validation.sources[0].clips}  # neither is trained on
    test = load_options(ROOT / "options" / "test" / "davsr_reds4.yml").test
    assert (test.input, test.truth, test.clips) == ("data/REDS/test/LQ", "data/REDS/test/GT", REDS4)


def test_from_download_to_training_and_test(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of docs/data.md, on the small REDS."""
    monkeypatch.chdir(tmp_path)
    out = Path("data/REDS")
    assert prepare(original, out, "--allow-missing") == 0
    assert (
        main(["prepare", "verify", "--input", str(out / "test/LQ"), "--truth", str(out / "test/GT"), "--samples", "1"])
        == 0
    )
    assert "all 4 pairs fit: phase 0, exposure 5, PSF bicubic" in capsys.readouterr().out
    sets = [
        *train_options(out),
        "data.patch=64",
        "train.iterations=3",
        "train.checkpoint_every=3",
        "train.log_every=1",
        "data.validation.every=3",
    ]
    option_file = str(ROOT / "options" / "train" / "davsr_reds.yml")
    sets = [a for s in sets for a in ("--set", s)]
    assert main(["train", "-opt", option_file, *sets]) == 0
    checkpoint = "experiments/davsr_reds/checkpoints/step_0000003.pt"
    option_file = str(ROOT / "options" / "test" / "davsr_reds4.yml")
    capsys.readouterr()
    assert main(["test", "-opt", option_file, "--set", f"model.weights={checkpoint}", "--set", "test.pictures=0"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in REDS4)
