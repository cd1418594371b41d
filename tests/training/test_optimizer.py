"""Rates, groups and averages of the weights, losses, and the curves drawn of them, each by itself."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
import torch

from davsr.models.davsr import DAVSR
from davsr.training.curves import draw_curves, tick_labels
from davsr.training.losses import charbonnier, psnr_loss
from davsr.training.optimizer import AveragedModel, learning_rate, make_optimizer, set_rates
from tests.runs import options


def test_the_rate_is_a_function_of_the_step():
    t = options(train__iterations=100, train__rate=1e-3, train__rate_end=1e-5, train__warmup=10).train
    assert learning_rate(0, t) == pytest.approx(1e-4)
    assert learning_rate(9, t) == pytest.approx(1e-3, rel=0.05)
    assert learning_rate(50, t) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(100, t) == pytest.approx(1e-5)
    falling = [learning_rate(step, t) for step in range(10, 101)]
    assert falling == sorted(falling, reverse=True)


def test_every_parameter_is_in_the_group_of_its_part():
    o = options(train__flow_factor=0.25, train__offset_factor=0.5, train__flow_frozen=3)
    model = DAVSR.from_options(o)
    optimizer = make_optimizer(model, o.train)
    groups = {group["name"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    for name, parameter in model.named_parameters():
        expected = "flow" if ".flow." in name else "offset" if ".offset." in name else "rest"
        assert [g for g, ids in groups.items() if id(parameter) in ids] == [expected], name
    rate = set_rates(optimizer, 2, o.train)
    assert [g["lr"] / rate for g in optimizer.param_groups] == [1, 0, 0.5]
    rate = set_rates(optimizer, 3, o.train)
    assert [g["lr"] / rate for g in optimizer.param_groups] == [1, 0.25, 0.5]


def test_the_average_follows_the_weights():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = AveragedModel(model, 0.5)
    torch.nn.init.constant_(model.weight, 1.0)
    expected = 0.0
    for update in range(12):
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        average.update(update)
        assert float(average.model.weight) == pytest.approx(expected)


def test_charbonnier_is_its_formula():
    x, y = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    expected = (
        sum(math.sqrt((a - b) ** 2 + 1e-3) for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) / 6
    )
    assert float(charbonnier(x, y, 1e-3)) == pytest.approx(expected, rel=1e-6)


def test_curves_of_negative_losses_are_drawn_too(tmp_path):
    """`train.loss: psnr` is negative: a logarithmic axis would leave it out."""
    pictures = []
    for sign in (1, -1):
        lines = [json.dumps({"step": n, "loss": sign * (0.3 + 0.01 * n)}) for n in range(5)]
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
        draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
        pictures.append(cv2.imread(str(tmp_path / "curves.png")))
        (tmp_path / "curves.png").unlink()
    blue = [(picture[..., 0].astype(int) - picture[..., 2] > 60).any() for picture in pictures]
    assert blue == [True, True]


def test_numbers_of_an_axis_are_told_apart():
    assert tick_labels(np.linspace(24.86, 25.02, 5)) == ["24.86", "24.9", "24.94", "24.98", "25.02"]
    assert tick_labels(np.array([0.001, 0.01, 0.1])) == ["0.001", "0.01", "0.1"]
    assert len(tick_labels(np.full(3, 2.0))) == 3


def test_psnr_loss_counts_frames_alike():
    x, y = torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 2, 3, 8, 8)
    y[0, 0], y[0, 1] = 0.1, 0.01  # 20 and 40 dB
    assert psnr_loss(x, y) == pytest.approx(-0.3, abs=1e-3)
    x.requires_grad_()
    psnr_loss(x, y).backward()
    hard, easy = x.grad[0].abs().amax(dim=(1, 2, 3))
    assert easy == pytest.approx(10 * float(hard), rel=0.01)
