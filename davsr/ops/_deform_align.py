"""Flow-guided modulated deformable convolution, straight from the raw output of the offset convolutions.

With ``raw`` = [offsets (18 per group), mask (9 per group)], tap k of group g at pixel p samples its channels at

    p + tap_k + max_residue * tanh(offset_gk) + (flow_dy, flow_dx),        weighted by sigmoid(mask_gk)

(bilinear, zeros outside), and the 3x3 weights sum the samples over taps and channels. The first half of the groups
reads the first source with ``flow_1``, the second half the second source with ``flow_2``: the second-order alignment of
BasicVSR++ (Chan et al., CVPR 2022) over the modulated convolution of Zhu et al. (CVPR 2019).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension

TAPS = 9  # 3x3, padding 1, stride 1, dilation 1
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def deform_align(
    features: Tensor,  # [b, c, h, w]
    raw: Tensor,  # [b, 27*groups, h, w]
    flow_1: Tensor,  # [b, 2, h, w]
    flow_2: Tensor | None,  # [b, 2, h, w]
    weight: Tensor,  # [c_out, c, 3, 3]
    bias: Tensor | None,  # [c_out]
    *,
    groups: int,
    max_residue: float,
) -> Tensor:
    """Align ``features`` to the current frame; returns [b, c_out, h, w] in the memory format and dtype of ``features``.

    Args:
        features: the sources side by side, cat(p1, p2).
        raw: output of the last offset convolution: 18*groups offsets laid out as (group, tap, (dy, dx)), then 9*groups
            mask logits as (group, tap).
        flow_1, flow_2: in pixels, (dx, dy) order. ``flow_2=None`` is the one-source form: every group reads with
            ``flow_1``. Use it where the second source is zero, with ``features`` = p1, ``groups`` halved,
            ``weight[:, :m]``, and the channels ``one_source_channels(groups)`` of ``raw`` (or of the convolution that
            makes it).
        weight, bias: of the 3x3 convolution.
        groups: number of deformable groups; divides c, and is even in the two-source form.
        max_residue: bound of the learned residue to the flow, in pixels.

    Coordinates are computed in float32 (float64 for float64 features), also under autocast, which brings ``features``,
    ``weight`` and ``bias`` to its dtype unless the features are float64, which it leaves alone. A coordinate that is
    not a number makes the sample not a number; one outside samples zero.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    if features.dtype != torch.float64 and torch.is_autocast_enabled(features.device.type):
        dtype = torch.get_autocast_dtype(features.device.type)
        features, weight = features.to(dtype), weight.to(dtype)
    _check(features, raw, flow_1, flow_2, weight, bias, groups, max_residue)
    coordinate = _coordinate_dtype(features)
    flow_1 = flow_1.to(coordinate)
    flow_2 = None if flow_2 is None else flow_2.to(coordinate)
    weight = weight.to(features.dtype)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias.to(features.dtype)
    if _extension.available(features.device.type):
        raw = raw if raw.dtype == features.dtype else raw.to(coordinate)
        return torch.ops.davsr.deform_align(features, raw, flow_1, flow_2, weight, bias, groups, float(max_residue))
    return deform_align_reference(features, raw, flow_1, flow_2, weight, bias, groups=groups, max_residue=max_residue)


def deform_align_reference(
    features: Tensor,  # [b, c, h, w]
    raw: Tensor,  # [b, 27*groups, h, w]
    flow_1: Tensor,  # [b, 2, h, w]
    flow_2: Tensor | None,  # [b, 2, h, w]
    weight: Tensor,  # [c_out, c, 3, 3]
    bias: Tensor | None,  # [c_out]
    *,
    groups: int,
    max_residue: float,
) -> Tensor:
    """``deform_align`` in plain PyTorch, differentiable by autograd."""
    _check(features, raw, flow_1, flow_2, weight, bias, groups, max_residue)
    b, c, h, w = features.shape
    dtype = _coordinate_dtype(features)
    with torch.autocast(features.device.type, enabled=False):
        dy, dx, mask = _displacements(
            raw.to(dtype), flow_1.to(dtype), flow_2, groups, max_residue
        )  # each [b, G, 9, h, w]
        samples = _sample(features.to(dtype).reshape(b, groups, c // groups, h, w), dy, dx) * mask.unsqueeze(2)
        # the weight's input channels are (group, channel of the group); samples are [b, G, c/G, 9, h, w]
        out = torch.einsum("bgckyx,ogck->boyx", samples, weight.to(dtype).reshape(-1, groups, c // groups, TAPS))
        if bias is not None:
            out = out + bias.to(dtype)[:, None, None]
        out = out.to(features.dtype)
    return out.contiguous(memory_format=_memory_format(features))


def one_source_channels(groups: int) -> Tensor:
    """Channels of a two-source ``raw`` (or rows of the convolution that makes it) that the first source alone needs."""
    offsets = torch.arange(9 * groups)  # groups 0 .. groups/2 - 1, 18 each
    masks = torch.arange(18 * groups, 18 * groups + 9 * (groups // 2))
    return torch.cat([offsets, masks])


def _displacements(
    raw: Tensor, flow_1: Tensor, flow_2: Tensor | None, groups: int, max_residue: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dy, dx from each tap's own pixel, and the mask: of every group and tap, each [b, groups, 9, h, w]."""
    b, _, h, w = raw.shape
    residue = max_residue * torch.tanh(raw[:, : 18 * groups]).reshape(b, groups, TAPS, 2, h, w)
    mask = torch.sigmoid(raw[:, 18 * groups :]).reshape(b, groups, TAPS, h, w)
    flow = flow_1.unsqueeze(1).expand(b, groups, 2, h, w)
    if flow_2 is not None:
        half = groups // 2
        flow = torch.cat([flow[:, :half], flow_2.to(raw.dtype).unsqueeze(1).expand(b, half, 2, h, w)], dim=1)
    return residue[:, :, :, 0] + flow[:, :, None, 1], residue[:, :, :, 1] + flow[:, :, None, 0], mask


def _split(delta: Tensor, base: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cell of the padded axis at or before base + delta, and the fraction of a cell beyond it.

    The fraction comes from the displacement, not from the coordinate, so that its error does not grow with the frame.
    """
    delta = delta.clamp(-(2.0**24), 2.0**24)
    whole = delta.detach().floor().nan_to_num(2.0**24)
    cell = base + whole
    return torch.where((cell >= -1) & (cell < size), cell + 1, size + 1).long(), delta - whole


def _sample(source: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Bilinear samples of ``source`` [b, G, c, h, w] around each pixel, taps apart by one: [b, G, c, 9, h, w].

    Zeros outside.

    A border of zeros (one cell before, two after) takes what falls outside, so no corner needs a test.
    """
    b, groups, c, h, w = source.shape
    padded = F.pad(source, (1, 2, 1, 2)).reshape(b, groups, c, (h + 3) * (w + 3))
    tap = torch.arange(3, dtype=dy.dtype, device=dy.device) - 1
    rows, columns = (torch.arange(size, dtype=dy.dtype, device=dy.device) for size in (h, w))
    y, down = _split(dy, rows[:, None] + tap.repeat_interleave(3)[:, None, None], h)
    x, right = _split(dx, columns + tap.repeat(3)[:, None, None], w)
    down, right = down.unsqueeze(2), right.unsqueeze(2)
    corner = (y * (w + 3) + x).reshape(b, groups, 1, TAPS * h * w).expand(-1, -1, c, -1)
    shape = (b, groups, c, *y.shape[2:])
    top_left, top_right, low_left, low_right = (
        padded.gather(3, corner + step).reshape(shape) for step in (0, 1, w + 3, w + 4)
    )
    above = top_left * (1 - right) + top_right * right
    below = low_left * (1 - right) + low_right * right
    return above * (1 - down) + below * down


def _coordinate_dtype(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _memory_format(features: Tensor) -> torch.memory_format:
    last = features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _check(
    features: Tensor,
    raw: Tensor,
    flow_1: Tensor,
    flow_2: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    max_residue: float,
) -> None:
    def need(fits: bool, name: str, requirement: str, value: object) -> None:
        if not fits:
            raise ValueError(f"deform_align: {name} must be {requirement}, got {value}")

    need(features.dim() == 4, "features", "[b, c, h, w]", list(features.shape))
    need(features.dtype in _DTYPES, "features", "float32, float64, float16 or bfloat16", features.dtype)
    b, c, h, w = features.shape
    need(h > 0 and w > 0, "features", "at least 1x1", list(features.shape))
    need(groups > 0 and c > 0 and c % groups == 0, "groups", f"a divisor of the {c} channels of features", groups)
    need(flow_2 is None or groups % 2 == 0, "groups", "even where there are two sources", groups)
    need(max_residue >= 0, "max_residue", "a number of pixels, 0 or more", max_residue)
    need(
        raw.shape == (b, 27 * groups, h, w), "raw", f"[b, 27*groups, h, w] = {[b, 27 * groups, h, w]}", list(raw.shape)
    )
    need(
        weight.dim() == 4 and weight.shape[0] > 0 and weight.shape[1:] == (c, 3, 3),
        "weight",
        f"[c_out, c, 3, 3] = [c_out, {c}, 3, 3]",
        list(weight.shape),
    )
    others = {"raw": raw, "flow_1": flow_1, "flow_2": flow_2, "weight": weight, "bias": bias}
    for name, tensor in others.items():
        if tensor is None:
            continue
        if name.startswith("flow"):
            need(tensor.shape == (b, 2, h, w), name, f"[b, 2, h, w] = {[b, 2, h, w]}", list(tensor.shape))
        need(tensor.dtype in _DTYPES, name, "float32, float64, float16 or bfloat16", tensor.dtype)
        need(tensor.device == features.device, name, f"on {features.device}, like features", tensor.device)
    if bias is not None:
        need(bias.shape == weight.shape[:1], "bias", f"[c_out] = [{weight.shape[0]}]", list(bias.shape))


def _register() -> None:
    """Shapes for tracing, and the derivative. Called once, after the extension has been loaded."""

    @torch.library.register_fake("davsr::deform_align")
    def _(
        features: Tensor,
        raw: Tensor,
        flow_1: Tensor,
        flow_2: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        max_residue: float,
        level: str | None = None,
    ) -> Tensor:
        b, _, h, w = features.shape
        return features.new_empty(b, weight.shape[0], h, w).to(memory_format=_memory_format(features))

    @torch.library.register_fake("davsr::deform_align_backward")
    def _(
        grad: Tensor,
        features: Tensor,
        raw: Tensor,
        flow_1: Tensor,
        flow_2: Tensor | None,
        weight: Tensor,
        groups: int,
        max_residue: float,
        level: str | None = None,
    ) -> tuple[Tensor, ...]:
        return (
            torch.empty_like(features, memory_format=_memory_format(features)),
            torch.empty_like(raw, memory_format=_memory_format(raw)),
            _extension.dense(flow_1),
            flow_1.new_empty(0) if flow_2 is None else _extension.dense(flow_2),
            _extension.dense(weight),
            weight.new_empty(weight.shape[0]),
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, raw, flow_1, flow_2, weight, _, ctx.groups, ctx.max_residue, ctx.level = inputs
        ctx.save_for_backward(features, raw, flow_1, flow_2, weight)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, raw, flow_1, flow_2, weight = ctx.saved_tensors
        d_features, d_raw, d_flow_1, d_flow_2, d_weight, d_bias = torch.ops.davsr.deform_align_backward(
            grad, features, raw, flow_1, flow_2, weight, ctx.groups, ctx.max_residue, ctx.level
        )
        return d_features, d_raw, d_flow_1, None if flow_2 is None else d_flow_2, d_weight, d_bias, None, None, None

    torch.library.register_autograd("davsr::deform_align", backward, setup_context=setup_context)


_extension.when_loaded(_register)
