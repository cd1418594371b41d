from __future__ import annotations

import argparse
import os

import pytest
import torch
from torch import Tensor

from davsr.checkpoints import command as weights_cli
from davsr.checkpoints.convert import convert, model_tree
from davsr.checkpoints.files import FORMAT, load_state
from davsr.checkpoints.fit import WeightsError, load_into, load_weights
from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.models.flow import SPyNet
from davsr.models.superslomo import SuperSloMo
from davsr.options import EnhancementOptions, ModelOptions
from tests.golden import CASES, formula_weights, network, options, shapes

NAME = "trilinear_beta"


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return formula_weights(shapes(NAME), CASES[NAME].seed)


def fresh() -> DAVSR:
    torch.manual_seed(1)
    return DAVSR.from_options(options(CASES[NAME]))


def assert_same_weights(model: DAVSR, expected: DAVSR) -> None:
    torch.testing.assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    weights_cli.add_arguments(parser)
    return weights_cli.run(parser.parse_args(list(words)))


# Published names


@pytest.mark.parametrize("prefix", ["", "generator.", "module.generator."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "params"])
def test_published_davsr_with_any_prefix_and_wrapper(published, prefix, wrapper):
    tensors = {prefix + name: tensor for name, tensor in published.items()}
    model = fresh()
    conversion = load_into(model, convert({wrapper: tensors} if wrapper else tensors))
    assert conversion.kind == "published davsr"
    assert conversion.report() == []
    assert_same_weights(model, network(NAME))


def test_unused_published_keys_are_ignored_and_said_so(published):
    extra = {"generator.p.conv.weight": torch.zeros(3), "generator.step_counter": torch.zeros(1)}
    conversion = load_into(fresh(), convert({**{f"generator.{k}": v for k, v in published.items()}, **extra}))
    assert conversion.ignored.keys() == extra.keys()
    assert any("generator.p.conv.weight" in line for line in conversion.report())


def test_flow_statistics_of_the_file_are_used(published):
    conversion = load_into(fresh(), convert({**published, "vsr.spynet.mean": torch.full((1, 3, 1, 1), 0.25)}))
    assert conversion.unknown == []
    assert (conversion.tensors["enhance.flow.mean"] == 0.25).all()


def test_missing_unexpected_and_misshaped_keys_are_all_listed(published):
    broken = dict(published)
    del broken["vsr.conv_hr.weight"]
    broken["vsr.conv_last.weight"] = torch.zeros(3, 32, 3, 3)
    broken["vsr.surprise.weight"] = torch.zeros(1)
    model = fresh()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_into(model, convert(broken), "published.pth")
    assert caught.value.missing == ["enhance.conv_hr.weight"]
    assert caught.value.unexpected == ["vsr.surprise.weight"]
    assert caught.value.misshaped == ["vsr.conv_last.weight [3, 32, 3, 3] for [3, 64, 3, 3]"]
    for name in ("published.pth", "enhance.conv_hr.weight", "vsr.surprise.weight", "vsr.conv_last.weight"):
        assert name in str(caught.value)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)  # nothing was written


def test_two_keys_for_one_parameter_are_refused(published):
    double = {**published, "generator.vsr.conv_hr.weight": published["vsr.conv_hr.weight"]}
    with pytest.raises(WeightsError, match=r"1 unexpected: generator\.vsr\.conv_hr\.weight"):
        load_into(fresh(), convert(double))


def basicvsr_plus_plus(published: dict[str, Tensor], first: int) -> dict[str, Tensor]:
    """The names of BasicVSR++'s x4 model, whose residual blocks read `first` channels."""
    tensors = {name.removeprefix("vsr."): tensor for name, tensor in published.items() if name.startswith("vsr.")}
    tensors = {
        name.replace("feat_extract.4.main.", "feat_extract.main."): tensor
        for name, tensor in tensors.items()
        if not name.startswith(("feat_extract.0.", "feat_extract.2."))
    }
    tensors["feat_extract.main.0.weight"] = torch.randn(16, first, 3, 3)
    return tensors


@pytest.mark.parametrize("prefix", ["", "generator."])
@pytest.mark.parametrize("first", [3, 16])
def test_basicvsr_plus_plus_names_what_has_no_counterpart(published, prefix, first):
    tensors = {prefix + name: tensor for name, tensor in basicvsr_plus_plus(published, first).items()}
    model, untouched, expected = fresh(), fresh(), network(NAME)
    conversion = load_into(model, convert(tensors))
    assert conversion.kind == "basicvsr++"
    own, initial, filled = model.state_dict(), untouched.state_dict(), expected.state_dict()
    left = set(conversion.initial)
    entry = {"enhance.features.4.entry.weight", "enhance.features.4.entry.bias"} if first == 3 else set()
    two = {f"enhance.features.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert left == two | entry | {name for name in own if name.startswith("hyper.")}
    assert set(conversion.ignored) == (
        {f"{prefix}feat_extract.main.0.{k}" for k in ("weight", "bias")} if first == 3 else set()
    )
    for name, tensor in own.items():
        if name == "enhance.features.4.entry.weight" and first == 16:
            assert torch.equal(tensor, tensors[f"{prefix}feat_extract.main.0.weight"])
        else:
            assert torch.equal(tensor, (initial if name in left else filled)[name]), name


def test_basicvsr_plus_plus_of_another_width_is_refused(published):
    tensors = basicvsr_plus_plus(published, 3)
    tensors["conv_hr.weight"] = torch.zeros(32, 32, 3, 3)
    with pytest.raises(WeightsError, match=r"1 misshaped: conv_hr\.weight \[32, 32, 3, 3\] for \[64, 64, 3, 3\]"):
        load_into(fresh(), convert(tensors))


def spynet_in(naming: str, published: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = {n.removeprefix("vsr.spynet."): t for n, t in published.items() if n.startswith("vsr.spynet.")}
    if naming == "conv":
        return tensors

    def renamed(name: str) -> str:
        _, level, _, layer, _, kind = name.split(".")
        return f"basic_module.{level}.basic_module.{2 * int(layer)}.{kind}"

    return {renamed(name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("naming", ["conv", "basicsr"])
@pytest.mark.parametrize("prefix", ["", "spynet.", "generator.spynet."])
def test_spynet_in_both_namings_alone_or_inside_another_network(published, naming, prefix):
    tensors = {prefix + name: tensor for name, tensor in spynet_in(naming, published).items()}
    rest = {"backward_trunk.main.0.weight": torch.zeros(4)} if prefix else {}
    expected = network(NAME).enhance.flow.state_dict()
    alone = SPyNet()
    conversion = load_into(alone, convert({"params": {**tensors, **rest}}))
    assert conversion.kind == "spynet"
    assert conversion.ignored.keys() == rest.keys()
    torch.testing.assert_close(dict(alone.state_dict()), dict(expected), rtol=0, atol=0)
    model = fresh()
    load_into(model, convert({**tensors, **rest}))
    torch.testing.assert_close(dict(model.enhance.flow.state_dict()), dict(expected), rtol=0, atol=0)


def test_spynet_of_a_whole_davsr_file(published, tmp_path):
    torch.save({"state_dict": published}, tmp_path / "davsr.pth")
    flow = SPyNet()
    conversion = load_weights(flow, tmp_path / "davsr.pth")
    torch.testing.assert_close(dict(flow.state_dict()), dict(network(NAME).enhance.flow.state_dict()), rtol=0, atol=0)
    assert "vsr.conv_hr.weight" in conversion.ignored


@pytest.mark.skipif("DAVSR_TEST_SPYNET" not in os.environ, reason="DAVSR_TEST_SPYNET names no SPyNet checkpoint")
def test_real_spynet_file_is_read_whole():
    conversion = load_weights(SPyNet(), os.environ["DAVSR_TEST_SPYNET"])
    assert len(conversion.tensors) == 62
    assert all("spynet" not in name for name in conversion.ignored)


def test_super_slomo_checkpoint():
    flow = formula_weights(shapes("slomo", "slomo_flow_shapes.json"), 11)
    refine = formula_weights(shapes("slomo", "slomo_interp_shapes.json"), 12)
    tree = {"Detail": "trained on ...", "epoch": 3, "state_dictFC": flow, "state_dictAT": refine}
    model = SuperSloMo()
    conversion = load_into(model, convert(tree))
    assert conversion.ignored.keys() == {"Detail", "epoch"}
    expected = network("slomo").interpolate.slomo.state_dict()
    torch.testing.assert_close(dict(model.state_dict()), dict(expected), rtol=0, atol=0)
    assert torch.equal(model.flow.up[4].conv2.weight, flow["up5.conv2.weight"])
    with pytest.raises(WeightsError, match="missing: refine"):
        load_into(SuperSloMo(), convert({"state_dictFC": flow}))


def test_a_part_without_a_place_is_refused():
    flow = formula_weights(shapes("slomo", "slomo_flow_shapes.json"), 11)
    with pytest.raises(InputError, match="holds a superslomo network, which has no place in this DAVSR"):
        load_into(fresh(), convert({"state_dictFC": flow}))


def test_sizes_are_read_from_published_shapes():
    for name, case in CASES.items():
        tree = model_tree(convert(formula_weights(shapes(name), case.seed)).tensors)
        prior = tree["enhancement"]
        assert tree["iterations"] == case.iterations
        assert (prior["channels"], prior["blocks"], prior["beta_channel"]) == (
            case.channels,
            case.blocks,
            case.beta_channel,
        )
        assert (prior["groups"], prior["order"], prior["hr_channels"]) == (16, 2, 64)
        assert (prior["feature_blocks"], prior["reconstruction_blocks"]) == (5, 5)
        assert prior["flow"] == {"levels": 6, "channels": [32, 64, 32, 16], "kernel": 7}


def test_values_that_are_not_finite_are_refused(published):
    broken = {**published, "vsr.conv_hr.bias": torch.full((64,), float("nan"))}
    with pytest.raises(InputError, match=r"not finite in vsr\.conv_hr\.bias"):
        load_into(fresh(), convert(broken))


# The command


def test_convert_writes_a_checkpoint_of_ours(published, tmp_path, capsys):
    torch.save({"state_dict": {f"generator.{k}": v for k, v in published.items()}}, tmp_path / "published.pth")
    out = tmp_path / "ours.pth"
    assert command("convert", str(tmp_path / "published.pth"), str(out)) == 0
    assert "K = 2, m = 16" in capsys.readouterr().out
    tree = load_state(out)
    assert tree["format"] == "davsr-checkpoint-1"
    assert tree["options"]["degradation"]["boundary"] == "circular"
    assert tree["options"]["model"]["enhancement"]["blocks"] == 2
    model = fresh()
    load_weights(model, out)
    assert_same_weights(model, network(NAME))
    assert command("inspect", str(out)) == 0
    assert "fits this network" in capsys.readouterr().out


def test_convert_puts_super_slomo_into_the_network(tmp_path, capsys):
    case = CASES["slomo"]
    torch.save(formula_weights(shapes("slomo"), case.seed), tmp_path / "published.pth")
    parts = {"FC": ("slomo_flow_shapes.json", 11), "AT": ("slomo_interp_shapes.json", 12)}
    tree = {f"state_dict{k}": formula_weights(shapes("slomo", file), seed) for k, (file, seed) in parts.items()}
    torch.save(tree, tmp_path / "slomo.ckpt")
    out = tmp_path / "ours.pth"
    assert command("convert", str(tmp_path / "published.pth"), str(out), "--slomo", str(tmp_path / "slomo.ckpt")) == 0
    assert "left at initialisation" not in capsys.readouterr().out
    expected = network("slomo").state_dict()
    torch.testing.assert_close(dict(load_state(out)["model"]), dict(expected), rtol=0, atol=0)


def test_converted_parts_load_again(published, tmp_path):
    torch.save(
        {"params": {f"spynet.{k}": v for k, v in spynet_in("basicsr", published).items()}}, tmp_path / "basicvsr.pth"
    )
    assert command("convert", str(tmp_path / "basicvsr.pth"), str(tmp_path / "flow.pth")) == 0
    flow = SPyNet()
    load_weights(flow, tmp_path / "flow.pth")
    torch.testing.assert_close(dict(flow.state_dict()), dict(network(NAME).enhance.flow.state_dict()), rtol=0, atol=0)


def test_inspect_lists_what_does_not_fit(published, tmp_path, capsys):
    torch.save(published, tmp_path / "published.pth")
    assert command("inspect", str(tmp_path / "published.pth"), "--set", "model.enhancement.blocks=3") == 1
    out = capsys.readouterr().out
    assert "published davsr" in out
    assert "missing: enhance.propagation.backward_1.blocks.2.conv1.weight" in out


def test_a_folder_that_does_not_exist_is_named(published, tmp_path):
    torch.save(published, tmp_path / "published.pth")
    with pytest.raises(InputError, match="cannot be written"):
        command("convert", str(tmp_path / "published.pth"), str(tmp_path / "none" / "ours.pth"))


def test_other_number_of_iterations():
    small = EnhancementOptions(channels=8, blocks=1, groups=2, hr_channels=8)
    source = DAVSR(ModelOptions(iterations=2, enhancement=small))
    target = DAVSR(ModelOptions(iterations=3, enhancement=small))
    conversion = convert({"format": FORMAT, "model": source.state_dict()})
    report = load_into(target, conversion).report()
    assert any("trained with 2 iterations, used with 3" in line for line in report)
    alpha, beta = source.hyper(torch.zeros(1), source.degradation)
    more_alpha, more_beta = target.hyper(torch.zeros(1), target.degradation)
    torch.testing.assert_close(more_alpha, alpha[:, [0, 1, 1]])
    torch.testing.assert_close(more_beta, beta[:, [0, 1, 1]])
