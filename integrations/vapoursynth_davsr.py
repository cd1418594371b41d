"""A VapourSynth function: `restore(clip)`, from RGBS frames to s_t times as many, s_h x s_w times as large.

import vapoursynth as vs
from integrations.vapoursynth_davsr import restore

clip = vs.core.resize.Bicubic(source, format=vs.RGBS, matrix_in_s="709")
restore(clip).set_output()
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
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
        model: a checkpoint, or "training-free"; None: the shipped model.
        step, context: LR frames that are restored at once, and frames beyond on either side that help.

    Raises:
        davsr.InputError: the clip has another format.
    """
    if clip.format is None or clip.format.id != vs.RGBS:
        raise davsr.InputError(
            "vapoursynth: the clip must have constant format RGBS; resize.Bicubic(format=vs.RGBS) makes it so"
        )
    s_t, s_h, s_w = scale
    camera = davsr.DegradationOptions(scale=scale, exposure=exposure)
    network = davsr.load_model(model, degradation=camera, device=device)
    blank = vs.core.std.BlankClip(
        width=clip.width * s_w, height=clip.height * s_h, length=clip.num_frames * s_t, format=vs.RGBS,
        fpsnum=clip.fps.numerator * s_t, fpsden=clip.fps.denominator,
    )  # fmt: skip
    kept: OrderedDict[int, Any] = OrderedDict()

    def window(number: int) -> Any:
        """A clip as long as the result whose frames of window `number` are restored, together, when the first is asked
        for.
        """
        start, stop = number * step, min((number + 1) * step, clip.num_frames)
        first, last = max(start - context, 0), min(stop + context, clip.num_frames)
        restored: list[np.ndarray] = []

        def fill(n: int, f: Sequence[Any]) -> Any:
            frame, *observed = f
            if not restored:
                lq = torch.from_numpy(np.stack([_planes(o) for o in observed])).to(device)
                with torch.inference_mode():
                    frames = network(lq, sigma)
                assert isinstance(frames, Tensor)
                restored.extend(frames[s_t * (start - first) : s_t * (stop - first)].float().cpu().numpy())
            frame = frame.copy()
            for plane, values in enumerate(restored[n - s_t * start]):
                np.copyto(np.asarray(frame[plane]), values)
            return frame

        # VapourSynth fetches what a frame needs before `fill` is called: each LR frame of the window stands still in a
        # clip.
        still = [clip[i].std.Loop(blank.num_frames) for i in range(first, last)]
        return blank.std.ModifyFrame([blank, *still], fill)

    def choose(n: int) -> Any:
        number = n // (s_t * step)
        if number not in kept:
            kept[number] = window(number)
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        return kept[number]

    return blank.std.FrameEval(choose)


def _planes(frame: Any) -> np.ndarray:
    return np.stack([np.asarray(frame[plane]) for plane in range(3)])
