"""A VapourSynth function: `restore(clip)`, from RGBS frames to s_t times as many, s_h x s_w times as large.

import vapoursynth as vs
from integrations.vapoursynth_davsr import restore

clip = vs.core.resize.Bicubic(source, format=vs.RGBS, matrix_in_s="709")
restore(clip).set_output()
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
import vapoursynth as vs
from torch import Tensor

import davsr

_KEPT = 2  # restored windows that are held: frames are mostly asked for in order


def restore(
    clip: Any,
    scale: tuple[int, int, int] = (5, 4, 4),
    exposure: float | None = None,
    sigma: float = 0.0,
    *,
    model: str | None = None,
    device: str = "cpu",
    step: int = 6,
    context: int = 2,
) -> Any:
    """Restore a clip of constant format RGBS, values in [0, 1].

    Args:
        scale, exposure, sigma: the camera, as `davsr.Degradation` and noise as a fraction of full scale.
        model: a checkpoint; None: the shipped model.
        step, context: LR frames that are restored at once, and frames beyond on either side that help.

    Raises:
        davsr.InputError: the clip has another format.
    """
    if clip.format is None or clip.format.id != vs.RGBS:
        raise davsr.InputError(
            "vapoursynth: the clip must have constant format RGBS; resize.Bicubic(format=vs.RGBS) makes it so"
        )
    s_t, s_h, s_w = scale
    network = davsr.load_model(
        model, degradation=davsr.DegradationOptions(scale=scale, exposure=exposure), device=device
    )
    kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def window(number: int) -> np.ndarray:
        """HR frames [s_t step, 3, H, W] of window `number`."""
        if number not in kept:
            start, stop = number * step, min((number + 1) * step, clip.num_frames)
            first, last = max(start - context, 0), min(stop + context, clip.num_frames)
            lq = np.stack([_planes(clip.get_frame(n)) for n in range(first, last)])
            with torch.inference_mode():
                frames = network(torch.from_numpy(lq).to(device), sigma)
            assert isinstance(frames, Tensor)
            kept[number] = frames[s_t * (start - first) : s_t * (stop - first)].float().cpu().numpy()
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        return kept[number]

    def fill(n: int, f: Any) -> Any:
        frame, (number, index) = f.copy(), divmod(n, s_t * step)
        for plane, values in enumerate(window(number)[index]):
            np.copyto(np.asarray(frame[plane]), values)
        return frame

    blank = vs.core.std.BlankClip(
        width=clip.width * s_w, height=clip.height * s_h, length=clip.num_frames * s_t, format=vs.RGBS,
        fpsnum=clip.fps.numerator * s_t, fpsden=clip.fps.denominator,
    )  # fmt: skip
    return blank.std.ModifyFrame(blank, fill)


def _planes(frame: Any) -> np.ndarray:
    return np.stack([np.asarray(frame[plane]) for plane in range(3)])
