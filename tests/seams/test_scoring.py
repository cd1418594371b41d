"""Validation while training and `davsr test` score alike: by the same code, with the same border and baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from davsr.checkpoints.resolve import resolve
from davsr.data.clips import open_clip
from davsr.data.frames import write_image
from davsr.data.views import Degraded
from davsr.evaluation.tables import BASELINE
from davsr.evaluation.tester import evaluate
from davsr.options import load_options
from davsr.pixels import as_tensor
from davsr.training.losses import psnr_loss
from davsr.training.validation import Cut, score_cut


@pytest.mark.parametrize("border", [0, 2, 20])
def test_validation_scores_as_a_test_does(border: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (64, 120, 3), dtype=np.uint8)
    (tmp_path / "gt").mkdir()
    for i in range(10):
        write_image(tmp_path / "gt" / f"{i:04d}.png", texture[:, i : i + 64])
    options = load_options(
        "options/test/training_free.yml",
        [
            f"test.truth={tmp_path / 'gt'}",
            f"test.border={border}",
            "test.save=none",
            "test.pictures=0",
            "test.num_frame_testing=0",
        ],
    )
    [tested] = evaluate(options, tmp_path / "results")
    resolved = resolve(options)
    truth = open_clip(tmp_path / "gt")
    lq = Degraded(truth, resolved.model.degradation).frames(0, 2)
    cut = Cut("gt", as_tensor(lq), as_tensor(truth.frames(0, 10)))
    device = torch.device("cpu")
    score, _ = score_cut(resolved.model, cut, psnr_loss, resolved.model.degradation, border, device, "float32")
    assert score.psnr == pytest.approx(tested.mean("z_1", "psnr"), abs=2e-3)  # a test passes through 16-bit frames
    assert score.ssim == pytest.approx(tested.mean("z_1", "ssim"), abs=2e-4)
    assert score.psnr_bicubic_linear == pytest.approx(tested.mean(BASELINE, "psnr"))
    assert score.ssim_bicubic_linear == pytest.approx(tested.mean(BASELINE, "ssim"))
