"""Options of a network are checked by the kinds in use, and by them alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from davsr.checkpoints.files import FORMAT
from davsr.checkpoints.loading import read_checkpoint
from davsr.checkpoints.network import KEY, VERSION
from davsr.cli import main
from davsr.errors import InputError
from davsr.models.buildable import require_buildable
from davsr.models.davsr import DAVSR
from davsr.options import EnhancementOptions, FlowNetOptions, ModelOptions, load_options

# Values that contradict others, each with the kinds that look at them.
CONTRADICTIONS = {
    "groups=7": ("rve",),
    "channels=47": ("rve",),  # of the 16 groups
    "flow={kernel: 6}": ("rve",),
    "flow={channels: [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]}": ("rve",),
    "hr_channels=1024": (),
    "alignment_groups=7": ("recurrent",),
}
# Sizes beyond the bound on parameters, likewise.
TOO_LARGE = {
    "{channels: 1024, blocks: 256}": ("rve", "frames", "pictures", "recurrent"),
    "{channels: 1024, feature_blocks: 256}": ("rve",),
    "{channels: 512, recurrent_blocks: 256, blocks: 1}": ("recurrent",),
    "{fusion_channels: 1024, fusion_blocks: 256}": ("recurrent",),
    "{flow: {channels: [1024, 1024, 1024], kernel: 31}}": ("rve",),
}
KINDS = ("none", "rve", "frames", "pictures", "recurrent")
SMALL = "blocks: 1, feature_blocks: 1, reconstruction_blocks: 1, recurrent_blocks: 1, fusion_blocks: 1"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", CONTRADICTIONS)
def test_a_contradiction_counts_where_the_kind_in_use_looks(kind: str, value: str) -> None:
    options = load_options(
        None, [f"model.enhancement={{kind: {kind}, {SMALL}}}", f"model.enhancement.{value}"]
    )  # reading alone refuses nothing: a checkpoint may have another kind
    if kind in CONTRADICTIONS[value]:
        with pytest.raises(
            InputError, match=r"^model\.enhancement\.(groups|alignment_groups|flow\.kernel|flow\.channels) must be"
        ):
            DAVSR.from_options(options)
    else:
        DAVSR.from_options(options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", TOO_LARGE)
def test_a_network_too_large_is_refused_before_it_takes_memory(kind: str, size: str) -> None:
    options = load_options(None, [f"model.enhancement={size}", f"model.enhancement.kind={kind}"])
    if kind in TOO_LARGE[size]:
        with pytest.raises(InputError, match=r"^model\.enhancement\.\S.* make a network of about .*DAVSR_PARAMETERS"):
            DAVSR.from_options(options)
    else:
        require_buildable(options.model)


@pytest.mark.parametrize(
    "changes,message",
    [
        (["interpolation.method=linear", "rounds.count=3"], r"model\.rounds\.count must be 0 unless .* is flow, got 3"),
        (["rounds.channels=8"], r"model\.rounds\.channels must be 0 where model\.rounds\.count is 0"),
        (["interpolation.method=linear", "enhancement.kind=recurrent"], "needs model.interpolation.method flow"),
    ],
)
def test_parts_that_need_each_other(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DAVSR.from_options(load_options(None, [f"model.{change}" for change in changes]))


def test_a_checkpoint_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    section = {"version": VERSION, "model": {"enhancement": {"groups": 7}}}
    weights = DAVSR(ModelOptions(enhancement=EnhancementOptions(kind="none"))).state_dict()
    torch.save({"format": FORMAT, "model": weights, "ema": None, KEY: section}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"weights: .*x\.pt: model\.enhancement\.groups must be even"):
        read_checkpoint(tmp_path / "x.pt")


def test_what_is_laid_over_a_checkpoint_is_judged_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped network is no rve: a width that does not suit one is answered by what does not fit, the weights."""
    sample = Path(__file__).parents[2] / "davsr/assets/sample.mp4"
    for change, says in (("enhancement.channels=48", "does not fit"), ("rounds.channels=3", "does not fit")):
        arguments = ["restore", str(sample), str(tmp_path / "out"), "--set", f"model.{change}"]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "groups" not in error and "must be 0" not in error, error
        assert says in error and len(error.strip().splitlines()) == 1


def test_every_field_of_a_prior_is_one_of_those_looked_at() -> None:
    """A new field of a size is to be thought of in `davsr.models.buildable`, and here."""
    sizes = {f.name for cls in (EnhancementOptions, FlowNetOptions) for f in dataclasses.fields(cls) if f.type == "int"}
    assert sizes == {
        *("channels", "blocks", "feature_blocks", "reconstruction_blocks", "hr_channels", "groups"),
        *(
            "recurrent_blocks",
            "alignment_groups",
            "fusion_channels",
            "fusion_blocks",
            "levels",
            "kernel",
            "matching",
            "passes",
        ),
    }
