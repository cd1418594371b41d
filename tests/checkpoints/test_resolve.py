"""Where file, flags and options meet: what is stated wins, then the checkpoint, then the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from davsr import config
from davsr.checkpoints.files import FORMAT, load_state
from davsr.checkpoints.loading import SHIPPED, load_model
from davsr.checkpoints.network import KEY, VERSION, network_section
from davsr.checkpoints.resolve import resolve
from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.options import Options, load_options
from davsr.physics.response import LinearLight

VERSION_1 = Path(__file__).parents[1] / "data" / "davsr_tiny_version_1.pt"
SMALL = [
    "model.iterations=1",
    "model.interpolation.method=linear",
    "model.enhancement={kind: frames, channels: 4, blocks: 1}",
]


def saved(path: Path, *changes: str, version: int = VERSION) -> Path:
    """A checkpoint of a small network of these options."""
    options = load_options(None, [*SMALL, *changes])
    tree = {"format": FORMAT, "model": DAVSR.from_options(options).state_dict(), "ema": None}
    tree |= {KEY: {**network_section(options), "version": version}, "options": config.to_tree(options)}
    torch.save(tree, path)
    return path


@pytest.fixture
def gaussian(tmp_path: Path) -> Path:
    return saved(
        tmp_path / "gaussian.pt", "degradation.psf=gaussian", "degradation.exposure=4", "model.hyper.kind=fixed"
    )


def resolved(*changes: str) -> Options:
    return resolve(load_options(None, changes)).options


def test_what_is_stated_wins_then_the_checkpoint_then_the_defaults(gaussian: Path) -> None:
    plain = resolved(f"model.weights={gaussian}")
    assert (plain.degradation.psf, plain.degradation.exposure, plain.model.hyper.kind) == ("gaussian", 4, "fixed")
    stated = resolved(f"model.weights={gaussian}", "degradation.exposure=3")
    assert (stated.degradation.psf, stated.degradation.exposure) == ("gaussian", 3)  # the rest stays the checkpoint's
    assert (stated.degradation.scale, stated.model.iterations) == ((5, 4, 4), 1)


@pytest.mark.parametrize("by", ["model.weights", "restore.model"])
def test_what_equals_a_default_is_stated_all_the_same(gaussian: Path, by: str) -> None:
    options = resolved(f"{by}={gaussian}", "degradation.psf=bicubic", "degradation.exposure=null")
    assert (options.degradation.psf, options.degradation.exposure) == ("bicubic", None)


def test_a_network_is_described_by_its_kind_alone() -> None:
    free = resolve(load_options("options/test/training_free.yml"))
    assert not free.model.learned and free.model.options.rounds.count == 0
    along = resolve(load_options("options/test/motion.yml"))
    assert not along.model.learned and along.model.options.rounds.count == 12
    other = resolve(load_options(None, ["model.hyper.alpha=0.2"]))  # of the shipped model, laid over its options
    assert other.model.learned and other.options.model.hyper.alpha == 0.2


def test_linear_response_is_an_operator_too() -> None:
    assert isinstance(resolve(load_options(None, ["restore.response=linear"])).operator, LinearLight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.weights=/does/not/exist.pt"], "/does/not/exist.pt does not exist"),
        (["restore.model=a.pt", "model.weights=b.pt"], "restore.model a.pt and model.weights b.pt name two models"),
        (["model.enhancement.kind=rve"], "model.weights must name a checkpoint, because model.enhancement.kind rve"),
        (["model.enhancement.kind=none", "model.interpolation.method=slomo"], "model.interpolation.weights must name"),
        (["model.enhancement.channels=40"], "does not fit the network"),
    ],
)
def test_what_cannot_be_resolved_is_one_sentence(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(load_options(None, changes))


def test_fixed_alpha_is_in_units_of_the_operator_in_use() -> None:
    """However an exposure is said: at construction, or for one call."""
    model = ["model.iterations=1", "model.hyper={kind: fixed, alpha: 0.08}", "model.enhancement.kind=none"]
    standard, short = (
        DAVSR.from_options(load_options(None, [*model, *more])) for more in ([], ["degradation.exposure=3"])
    )
    sigma = torch.zeros(1)
    alphas = [float(network.hyper(sigma, short.degradation)[0]) for network in (standard, short)]
    assert alphas == pytest.approx([0.08 * short.degradation.largest_eigenvalue()] * 2)
    lq = torch.rand(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standard(lq, degradation=short.degradation), short(lq))


def test_the_shipped_file_of_version_1_still_loads() -> None:
    assert KEY not in load_state(VERSION_1)
    model = load_model(VERSION_1)
    assert model.options.rounds.count == 12 and model.options.enhancement.kind == "frames"
    assert model.trained is not None and model.trained.exposures == (3, 5) and model.trained.sigma == (0, 0.005)


def test_options_of_the_training_are_a_record_and_no_condition(tmp_path: Path) -> None:
    tree = load_state(VERSION_1)
    tree["options"]["train"]["of_another_time"] = 1
    tree["options"]["data"]["of_another_time"] = 1
    tree["options"]["of_another_time"] = {}
    torch.save(tree, tmp_path / "old.pt")
    assert load_model(tmp_path / "old.pt").trained == load_model(VERSION_1).trained


def test_a_file_of_a_newer_program_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"is of version {VERSION + 1}, this program reads up to {VERSION}: update it"):
        load_model(saved(tmp_path / "new.pt", version=VERSION + 1))


@pytest.mark.parametrize(
    "section",
    [
        3,
        {},
        {"version": "two"},
        {"version": 0},
        {"version": VERSION, "model": {"qqq": 1}},
        {"version": VERSION, "trained": 3},
        {"version": VERSION, "trained": {"scale": [5, 4, 4]}},
    ],
)
def test_a_damaged_section_is_one_sentence(tmp_path: Path, section: object) -> None:
    tree = load_state(saved(tmp_path / "ours.pt"))
    torch.save({**tree, KEY: section}, tmp_path / "damaged.pt")
    with pytest.raises(InputError, match=r"damaged\.pt"):
        load_model(tmp_path / "damaged.pt")


def test_the_shipped_model_says_what_it_was_trained_for() -> None:
    assert load_model(SHIPPED).trained is not None
