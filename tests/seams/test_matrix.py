"""What joins features: every flag and every choice of the options x every kind of model x every command.

The table is made from the parsers and from `davsr/options.py`, so a new flag or choice is tested the day it is added.
Each case is right, with all frames there, or answered in one sentence with exit code 2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.checkpoints.files import FORMAT
from davsr.checkpoints.network import KEY, network_section
from davsr.data.clips import open_clip
from davsr.data.frames import write_image
from davsr.models.davsr import DAVSR
from davsr.options import Options, load_options
from davsr.restoration.flags import stated_options
from davsr.settings.yaml_text import parse_yaml
from tests.seams.matrix import choices_of, flags_of, parser_of, run

SCALE = (5, 4, 4)  # of the defaults
SIZE = (3, 12, 16)  # LR frames, rows, columns
RVE = (
    "{kind: rve, channels: 8, blocks: 1, feature_blocks: 1, reconstruction_blocks: 1, hr_channels: 4, groups: 2, "
    "flow: {levels: 2, channels: [8], kernel: 3}}"
)
MODELS = ("shipped", "training-free", "rounds", "rve")
TOGETHER = [  # short ways that go with each other
    ["--deblur", "--upscale", "2"],
    ["--interpolate", "2", "--upscale", "4"],
    ["--deblur", "--exposure", "2.5", "--psf", "gaussian"],
]
APART = {  # and those that contradict each other, with what is said
    "--scale 2 2 2 --upscale 2": "--scale: must be left out where --upscale say it",
    "--scale 5 1 1 --deblur --upscale 2": "--scale: must be left out where --deblur and --upscale say it",
    "--deblur --interpolate 2": "--deblur: must be left out with --interpolate",
    "--interpolate 0": "--interpolate: must be at least 1, got 0",
    "--deblur --upscale -2": "--upscale: must be at least 1, got -2",
    "--scale 1 2 2 --set restore.deblur=true": "restore.deblur: must have several moments of an exposure",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lq/ of a moving texture, hr/ of its size after restoration, john's.npy, and a small trained RVE."""
    root = tmp_path_factory.mktemp("matrix")
    t, h, w = SIZE
    y, x = np.mgrid[0 : h * SCALE[1], 0 : w * SCALE[2]].astype(float)
    for name, count, stride in (("lq", t, 4), ("hr", t * SCALE[0], 1)):
        (root / name).mkdir()
        for i in range(count):
            u = x - i * SCALE[0] * (stride > 1) - i * (stride == 1)
            frame = np.stack([127 + 100 * np.sin(u / 5 + y / 9), 127 + 90 * np.cos(y / 6), 40 + x + y], -1)
            write_image(root / name / f"{i:04d}.png", frame.clip(0, 255).astype(np.uint8)[::stride, ::stride])
    np.save(root / "john's.npy", np.full((3, 3), 1 / 9))
    torch.manual_seed(0)
    options = load_options(None, ["model.iterations=1", f"model.enhancement={RVE}"])
    tree = {"format": FORMAT, "model": DAVSR.from_options(options).state_dict(), "ema": None}
    torch.save({**tree, KEY: network_section(options)}, root / "rve.pt")
    return root


def model_arguments(name: str) -> list[str]:
    if name == "shipped":
        return []
    if name == "training-free":
        return ["--set", "restore.model=training-free"]
    if name == "rve":
        return ["--set", "restore.model=rve.pt"]
    return ["-opt", str(Path(__file__).parents[2] / "options/test/motion.yml")]


def restored_right(folder: Path, arguments: list[str]) -> None:
    """A folder of frames as many and as large as the arguments say."""
    options = stated_options(parser_of("restore").parse_args(["lq", "out", *arguments]))
    t = len(range(SIZE[0])[slice(*map(int, options.restore.frames.split(":")))]) if options.restore.frames else SIZE[0]
    clip = open_clip(folder)
    s_t, s_h, s_w = options.degradation.scale
    expected = (t if options.restore.deblur else s_t * t, s_h * SIZE[1], s_w * SIZE[2])
    assert (len(clip), *clip.size) == expected, arguments
    assert clip.frames(0, len(clip)).std() > 5, arguments


def tried(name: str, arguments: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    whole = ["restore", "lq", str(out), "--no-log", *model_arguments(name), *arguments]
    if "-opt" in arguments and name == "rounds":
        whole = ["restore", "lq", str(out), "--no-log", *arguments]
    sentence = run(whole, capsys)
    if sentence:
        assert not out.exists(), whole
    else:
        restored_right(out, arguments)
    return sentence


@pytest.mark.parametrize("name", MODELS)
def test_every_flag_of_restore(name: str, place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    refused = {}
    for n, arguments in enumerate([*flags_of("restore"), *TOGETHER]):
        sentence = tried(name, arguments, tmp_path / str(n), capsys)
        if sentence:
            refused[" ".join(arguments)] = sentence
    wrong = (
        "nothing",
        "text",
        "--rate 0",
        "--device cuda",
        "--device mps",
        "float16",
    )  # what is refused for what it says
    surprising = {flag: said for flag, said in refused.items() if not any(w in flag for w in wrong)}
    assert not surprising


def test_short_ways_that_contradict_each_other_are_a_sentence(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    for arguments, said in APART.items():
        assert said in tried("training-free", arguments.split(), tmp_path / "out", capsys), arguments
    both = run(["polish", "hr", "--input", "lq", "--output", "out", "--set", "restore.deblur=true"], capsys)
    assert "restore.deblur: must be left out" in both and not Path("out").exists()


@pytest.mark.parametrize("name", MODELS)
def test_every_choice_of_the_options(name: str, place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    went = 0
    for n, choice in enumerate(choices_of(Options)):
        went += not tried(name, ["--set", choice], tmp_path / str(n), capsys)
    assert went > 15


@pytest.mark.parametrize("name", MODELS)
def test_every_flag_of_test(name: str, place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Of a test without truth, whose metrics have tests of their own; and once to an output."""
    monkeypatch.chdir(tmp_path)
    for link in ("lq", "hr", "rve.pt", "john's.npy"):
        (tmp_path / link).symlink_to(place / link)
    quick = ["--set", "test.pictures=1", "--set", "test.save=frames"]
    for n, arguments in enumerate(flags_of("test")):
        models = [] if "-opt" in arguments and name == "rounds" else model_arguments(name)
        whole = ["test", "--input", "lq", "--name", str(n), *models, *quick, *arguments]
        sentence = run(whole, capsys)
        assert sentence or (tmp_path / "results" / str(n) / "metrics.json").is_file(), whole
    assert not run(["test", "--input", "lq", "--output", "out", *model_arguments(name)], capsys)
    restored_right(tmp_path / "out", [])


def test_every_flag_of_polish(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    for n, arguments in enumerate(flags_of("polish")):
        out = tmp_path / str(n)
        sentence = run(["polish", "hr", "--input", "lq", "--output", str(out), "--no-log", *arguments], capsys)
        if sentence:
            assert not out.exists(), arguments
        else:
            restored_right(out, [])


def test_every_choice_of_a_training_is_dry_run(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    small = [f"data.sources=[{{path: '{place / 'hr'}', cuts: false}}]", "data.frames=2", "data.patch=32"]
    small += ["name=dry", "model.iterations=1", f"model.enhancement={RVE}", "data.workers=0"]
    went = 0
    for choice in choices_of(Options):
        arguments = ["train", "--dry-run"]
        for text in [*small, choice]:
            arguments += ["--set", text]
        went += not run(arguments, capsys)
        assert not (tmp_path / "experiments").exists(), choice
    assert went > 15


def test_a_stated_model_restores_through_test_output(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """`test --output` restores with what the options say, not with the shipped model."""
    monkeypatch.chdir(place)
    sentence = run(
        ["test", "--input", "lq", "--output", str(tmp_path / "a"), "--set", "model.weights=nothing.pt"], capsys
    )
    assert "nothing.pt does not exist" in sentence and not (tmp_path / "a").exists()
    free = str(Path(__file__).parents[2] / "options/test/training_free.yml")
    assert not run(["test", "-opt", free, "--input", "lq", "--output", str(tmp_path / "free")], capsys)
    assert not run(["restore", "lq", str(tmp_path / "same"), "--model", "training-free"], capsys)
    assert not run(["restore", "lq", str(tmp_path / "other")], capsys)
    frames = [open_clip(tmp_path / name).frames(0, 15) for name in ("free", "same", "other")]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


def test_flags_merge_with_a_checkpoint_in_every_command(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """One flag of the physics leaves the rest as the checkpoint says, in test as in restore."""
    options = load_options(None, ["degradation.psf=gaussian", "model.iterations=1", f"model.enhancement={RVE}"])
    tree = {"format": FORMAT, "model": DAVSR.from_options(options).state_dict(), "ema": None}
    torch.save({**tree, KEY: network_section(options)}, tmp_path / "gaussian.pt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lq").symlink_to(place / "lq")
    both = ["--set", "model.weights=gaussian.pt", "--set", "degradation.exposure=3"]
    assert not run(["restore", "lq", "restored", *both], capsys)
    assert not run(["test", "--input", "lq", "--output", "tested", *both], capsys)
    first, second = (open_clip(tmp_path / name).frames(0, 15) for name in ("restored", "tested"))
    np.testing.assert_array_equal(first, second)
    assert not run(["test", "--input", "lq", "--name", "t", "--set", "test.save=none", *both], capsys)
    recorded = parse_yaml((tmp_path / "results/t/options.yml").read_text(), "options.yml")
    assert (recorded["degradation"]["psf"], recorded["degradation"]["exposure"]) == ("gaussian", 3)
