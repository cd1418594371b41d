"""A ComfyUI node: put this file into `custom_nodes/`, in a Python that has davsr.

Images of ComfyUI are float [t, h, w, 3] in [0, 1]; out come s_t times as many, s_h x s_w times as large.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import davsr

_WINDOW, _SHARED = 10, 4  # LR frames at once, and of them those that two windows share


class RestoreVideo:
    """Space-time super-resolution of a batch of frames in time order."""

    CATEGORY = "image/video"
    FUNCTION = "restore"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node's sockets and fields are."""
        return {
            "required": {
                "images": ("IMAGE",),
                "frame_rate": ("INT", {"default": 5, "min": 1, "max": 16}),
                "sides": ("INT", {"default": 4, "min": 1, "max": 8}),
                "shutter": ("FLOAT", {"default": 1.0, "min": 0.05, "max": 1.0, "step": 0.05}),
                "noise": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 0.5, "step": 0.005}),
            },
            "optional": {"checkpoint": ("STRING", {"default": ""})},
        }

    def restore(
        self, images: Tensor, frame_rate: int, sides: int, shutter: float, noise: float, checkpoint: str = ""
    ) -> tuple[Tensor]:
        """Frames [t, h, w, 3] -> [s_t t, s_h h, s_w w, 3]."""
        scale, exposure = (frame_rate, sides, sides), max(1.0, shutter * frame_rate)
        camera = davsr.DegradationOptions(scale=scale, exposure=exposure)
        model = davsr.load_model(checkpoint or None, degradation=camera, device=images.device)
        lq = images[..., :3].permute(0, 3, 1, 2)
        with torch.inference_mode():
            parts = [self._part(model, lq, start, noise) for start in range(0, len(lq), _WINDOW - _SHARED)]
        return (torch.cat(parts).clamp(0, 1).permute(0, 2, 3, 1).contiguous(),)

    def _part(self, model: davsr.DAVSR, lq: Tensor, start: int, noise: float) -> Tensor:
        """The HR frames of LR frames start ... start + 5, from a window that reaches two frames beyond on either
        side.
        """
        stop, context = min(start + _WINDOW - _SHARED, len(lq)), _SHARED // 2
        first, last = max(start - context, 0), min(stop + context, len(lq))
        frames = model(lq[first:last], noise)
        assert isinstance(frames, Tensor)
        s_t = model.degradation.scale[0]
        return frames[s_t * (start - first) : s_t * (stop - first)]


NODE_CLASS_MAPPINGS = {"DAVSRRestore": RestoreVideo}
NODE_DISPLAY_NAME_MAPPINGS = {"DAVSRRestore": "Restore video (DAVSR)"}
