"""The windows that `auto` chooses, with the shipped model: nobody sees where one ends."""

from __future__ import annotations

import numpy as np
import torch

from davsr.checkpoints.resolve import resolve
from davsr.data.video import VideoReader
from davsr.evaluation.pairs import SAMPLE
from davsr.options import Options
from davsr.restoration import planning
from davsr.restoration.cutting import Plan
from davsr.restoration.windows import model_restorer, restore_clip


def test_windows_of_the_shipped_model_make_the_whole() -> None:
    """Over 60 dB against the whole clip, and no step in brightness where a window begins."""
    resolved = resolve(Options(), device="cpu")
    model, scale = resolved.model, resolved.options.degradation.scale
    frames = VideoReader(SAMPLE).frames(0, 14)[:, 100:124, 200:232]
    lq = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[None].float() / 255
    overlap = planning.default_overlap(resolved.options.degradation, model)
    plan = planning.choose_plan(
        frames.shape[1:3], scale, planning.bytes_per_pixel(model), 2.0**36, overlap=overlap, window=10
    )
    assert 0 < plan.window < len(frames) and plan.overlap == overlap
    restorer = model_restorer(model)
    pieces, whole = (restore_clip(restorer, lq, scale, p)[0].numpy() for p in (plan, Plan()))
    error = float(np.square(pieces - whole).mean())
    assert -10 * np.log10(error) > 60  # dB
    brightness = 255 * (pieces.mean(axis=(1, 2, 3)) - whole.mean(axis=(1, 2, 3)))
    assert np.abs(np.diff(brightness)).max() < 0.1 and np.abs(brightness).max() < 0.1  # 8-bit levels
