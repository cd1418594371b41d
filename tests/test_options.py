"""Options: what is read, and what a wrong option is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from davsr import config
from davsr.errors import InputError
from davsr.options import Options, load_options

ROOT = Path(__file__).parents[1]


def write(folder: Path, text: str) -> Path:
    path = folder / "options.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "name: mine\ntrain: {rate: 2e-4}\ndegradation:\n  scale: [3, 2, 2]\n")
    options = load_options(path, ["train.iterations=7", "degradation.exposure=2.5", "data.exposures=[1, 3]"])
    assert options.name == "mine"
    assert options.train.rate == 2e-4  # YAML 1.1 reads this as text
    assert options.train.iterations == 7
    assert options.degradation.scale == (3, 2, 2)
    assert options.degradation.exposure == 2.5
    assert options.data.exposures == (1.0, 3.0)
    assert options.model == Options().model


def test_yaml_round_trip(tmp_path: Path) -> None:
    options = load_options(None, ["model.enhancement.channels=24", "model.enhancement.groups=6", "train.rate=3e-5"])
    assert load_options(write(tmp_path, config.to_yaml(options))) == options
    assert config.build(Options, config.to_tree(options)) == options


@pytest.mark.parametrize("path", sorted((ROOT / "options").rglob("*.yml")), ids=lambda p: p.name)
def test_shipped_option_files_are_valid(path: Path) -> None:
    assert load_options(path).name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {itertions: 5}", "train.itertions is not an option; did you mean train.iterations?"),
        ("trian: {}", "trian is not an option; did you mean train?"),
        ("model: {enhancement: {flow: {kernl: 5}}}", "did you mean model.enhancement.flow.kernel?"),
        ("train: {qqq: 5}", "train.qqq is not an option; known here: task"),
        ("train: {rate: fast}", "train.rate must be a number, got 'fast'"),
        ("train: {iterations: 2.5}", "train.iterations must be a whole number, got 2.5"),
        ("train: {iterations: true}", "train.iterations must be a whole number, got True"),
        ("train: {iterations: 0}", "train.iterations must be at least 1, got 0"),
        ("train: {rate: 0}", "train.rate must be above 0"),
        ("train: {ema: 1.5}", "train.ema must be at most 1"),
        ("train: {rate: .nan}", "train.rate must be a number, got nan"),
        ("data: {flips: 1}", "data.flips must be true or false, got 1"),
        ("device: gpu", "device must be auto, cpu, mps, cuda or cuda:N, got 'gpu'"),
        ("degradation: {boundary: relfect}", "did you mean reflect?"),
        ("degradation: {scale: [5, 4]}", "degradation.scale must be a list of 3 values"),
        ("degradation: {scale: [5, 4, 0]}", "degradation.scale[2] must be at least 1, got 0"),
        ("degradation: {scale: 4}", "degradation.scale must be a list, got 4"),
        ("degradation: 4", "degradation must be a section with keys, got 4"),
        ("data: {sources: [{kind: film}]}", "data.sources[0].kind must be one of"),
        ("test: {num_frame_overlap: 10}", "test.num_frame_overlap must be below num_frame_testing = 10, got 10"),
        ("restore: {num_frame_testing: 2, num_frame_overlap: 7}", "restore.num_frame_overlap must be below"),
        ("restore: {size_patch_testing: 32, size_patch_margin: 16}", "restore.size_patch_margin must be below half"),
        ("seed: 1\nseed: 2", "seed is given twice, again in line 2"),
        ("- 1", "must hold sections with keys, got list"),
        ("a: [", "is not valid YAML"),
        ("x: !!python/object/apply:os.system [exit]", "is not valid YAML"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_options(write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.iterations", "must be section.key=value"),
        ("train.iteratons=5", "did you mean train.iterations?"),
        ("seed.x=5", "seed must be a whole number"),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        load_options(None, [override])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yml does not exist"):
        load_options(tmp_path / "none.yml")
