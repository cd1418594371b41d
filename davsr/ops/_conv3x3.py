"""3x3 convolution, what follows it included: residual + leaky(x * weight + bias).

In float32 on a CPU it runs by Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016) with a quarter of the products, its
gradients too, which torch's own convolutions on x86 do not use. The result differs from the plain sum by 2e-6 of its
standard deviation (rms), and what is not finite reaches further: an Inf or NaN makes all 16 results of every 4x4 square
whose 6x6 inputs hold it not a number, where the plain sum has 9 such. Elsewhere, on GPUs, in compiled graphs and on
processors without AVX2, it is torch's convolution. The weights are transformed at every call, so that no copy has to
follow their changes, but where `weights_stay`: 0.05 ms for 64 to 64 channels, of 0.3 ms for a frame of 64x64.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension

_SHUFFLED = 64  # channels, of which the kernel shuffles multiples
_FEW = 8  # channels of the input, below which torch has the gradient of the weights sooner


def conv3x3(
    x: Tensor,  # [b, c_in, h, w]
    weight: Tensor,  # [c_out, c_in, 3, 3]
    bias: Tensor,  # [c_out]
    *,
    slope: float = 1.0,
    residual: Tensor | None = None,  # [b, c_out, h, w]
    shuffle: bool = False,
) -> Tensor:
    """Convolution padded by zeros, [b, c_out, h, w]; differentiable.

    Args:
        slope: what negative results are multiplied by before `residual` is added: 1 changes nothing, 0 is ReLU.
        shuffle: output channels (i, j, c) become pixels (2y + i, 2x + j) of channel c, [b, c_out / 4, 2h, 2w], without
            a residual.

    Raises:
        ValueError: a shape does not fit.
    """
    _check(x, weight, bias, residual, shuffle)
    given = [x, weight, bias] if residual is None else [x, weight, bias, residual]
    if (
        x.device.type != "cpu"
        or torch.compiler.is_compiling()
        or not _has_wide_vectors()
        or any(v.dtype != torch.float32 for v in given)
        or torch.is_autocast_enabled("cpu")
    ):
        return conv3x3_reference(x, weight, bias, slope=slope, residual=residual, shuffle=shuffle)
    if torch.is_grad_enabled() and any(v.requires_grad for v in given):
        return _follow(torch.ops.davsr.conv3x3(x, weight, bias, None, 1.0), slope, residual, shuffle)
    in_place = shuffle and len(weight) % _SHUFFLED == 0
    y = torch.ops.davsr.conv3x3(x, weight, bias, residual, slope, None, _known_points(weight), in_place)
    return _shuffled(y) if shuffle and not in_place else y


def conv3x3_reference(
    x: Tensor,  # [b, c_in, h, w]
    weight: Tensor,  # [c_out, c_in, 3, 3]
    bias: Tensor,  # [c_out]
    *,
    slope: float = 1.0,
    residual: Tensor | None = None,  # [b, c_out, h, w]
    shuffle: bool = False,
) -> Tensor:
    """``conv3x3`` by torch's convolution."""
    _check(x, weight, bias, residual, shuffle)
    return _follow(F.conv2d(x, weight, bias, padding=1), slope, residual, shuffle)


class _Kept(threading.local):
    points: dict[int, tuple[Tensor, Tensor]] | None = None  # by the parameter's id: the parameter, its points


_kept = _Kept()


@contextmanager
def weights_stay() -> Iterator[None]:
    """While it lasts, no parameter changes: what kernels make of one is kept to its end, for the calling thread."""
    outer = _kept.points
    _kept.points = {} if outer is None else outer
    try:
        yield
    finally:
        _kept.points = outer


def _known_points(weight: Tensor) -> Tensor | None:
    kept = _kept.points
    if kept is None or not isinstance(weight, torch.nn.Parameter):
        return None
    if id(weight) not in kept:
        kept[id(weight)] = (weight, torch.ops.davsr.conv3x3_points(weight))
    return kept[id(weight)][1]


@cache
def _has_wide_vectors() -> bool:
    """Whether there is a kernel that was seen to be faster than torch's convolution."""
    return _extension.available("cpu") and torch.ops.davsr.cpu_levels()[0] != "baseline"


def _follow(y: Tensor, slope: float, residual: Tensor | None, shuffle: bool) -> Tensor:
    """What follows the convolution; takes y's memory."""
    if slope != 1:
        y = F.relu(y, inplace=True) if slope == 0 else F.leaky_relu(y, slope, inplace=True)
    if shuffle:
        return _shuffled(y)
    return y if residual is None else y + residual


def _shuffled(y: Tensor) -> Tensor:
    """Channels (i, j, c) to pixels, [b, 4c, h, w] -> [b, c, 2h, 2w]; channels-last, runs of 2c numbers move."""
    b, channels, h, w = y.shape
    c = channels // 4
    rows = y.permute(0, 2, 3, 1).reshape(b, h, w, 2, 2 * c).transpose(2, 3)
    return rows.reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def _check(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, shuffle: bool) -> None:
    if x.dim() != 4 or x.shape[1] == 0:
        raise ValueError(f"conv3x3: x must be [b, c_in, h, w], got {list(x.shape)}")
    b, c_in, h, w = x.shape
    if weight.dim() != 4 or weight.shape[1:] != (c_in, 3, 3):
        raise ValueError(f"conv3x3: weight must be [c_out, {c_in}, 3, 3], got {list(weight.shape)}")
    c_out = len(weight)
    if bias.shape != (c_out,):
        raise ValueError(f"conv3x3: bias must be [{c_out}], got {list(bias.shape)}")
    if residual is not None and residual.shape != (b, c_out, h, w):
        raise ValueError(f"conv3x3: residual must be {[b, c_out, h, w]}, got {list(residual.shape)}")
    if shuffle and (c_out % 4 or residual is not None):
        raise ValueError(f"conv3x3: shuffled channels must be a multiple of 4 without a residual, got {c_out}")


def _adjoint(grad: Tensor, weight: Tensor, level: str | None) -> Tensor:
    """The transpose of the convolution, which is one with the mirrored weight."""
    mirrored = weight.flip(2, 3).transpose(0, 1)
    return torch.ops.davsr.conv3x3(grad, mirrored, grad.new_zeros(len(mirrored)), None, 1.0, level)


def _register() -> None:
    """Shapes for tracing, and the derivative of the plain convolution.

    Called once, after the extension has been loaded.
    """

    @torch.library.register_fake("davsr::conv3x3")
    def _(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        slope: float,
        level: str | None = None,
        points: Tensor | None = None,
        shuffle: bool = False,
    ) -> Tensor:
        b, _, h, w = x.shape
        shape = (b, len(weight) // 4, 2 * h, 2 * w) if shuffle else (b, len(weight), h, w)
        return x.new_empty(*shape).to(memory_format=torch.channels_last)

    @torch.library.register_fake("davsr::conv3x3_points")
    def _(weight: Tensor, level: str | None = None) -> Tensor:
        return weight.new_empty(36, weight.shape[1], -(-len(weight) // 16) * 16)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, residual, slope, ctx.level, points, shuffle = inputs
        if residual is not None or slope != 1 or points is not None or shuffle:
            raise ValueError("davsr::conv3x3: only the plain convolution has a derivative")
        ctx.save_for_backward(x, weight)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_x, d_weight, d_bias = None, None, None
        grad = grad.contiguous(memory_format=torch.channels_last)
        if ctx.needs_input_grad[0]:
            d_x = _adjoint(grad, weight, ctx.level)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            if x.shape[1] < _FEW:
                mask = [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
                _, d_weight, d_bias = torch.ops.aten.convolution_backward(
                    grad, x, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
                )
            else:
                d_weight, d_bias = torch.ops.davsr.conv3x3_weight_gradient(grad, x, ctx.level)
        return d_x, d_weight, d_bias, *[None] * 5

    torch.library.register_autograd("davsr::conv3x3", backward, setup_context=setup_context)

    @torch.library.register_fake("davsr::conv3x3_weight_gradient")
    def _(grad: Tensor, x: Tensor, level: str | None = None) -> tuple[Tensor, Tensor]:
        c_out = grad.shape[1]
        return x.new_empty(3, 3, x.shape[1], c_out).permute(3, 2, 0, 1), x.new_empty(c_out)

    def keep_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        grad, x, ctx.level = inputs
        ctx.save_for_backward(grad, x)

    def differentiate(ctx: Any, by_weight: Tensor, by_bias: Tensor) -> tuple[Tensor | None, ...]:
        """It is linear in both: <W, gradient> = <grad, x * W>."""
        grad, x = ctx.saved_tensors
        d_grad = torch.ops.davsr.conv3x3(x, by_weight, by_bias, None, 1.0, ctx.level)
        return d_grad, _adjoint(grad, by_weight, ctx.level), None

    torch.library.register_autograd("davsr::conv3x3_weight_gradient", differentiate, setup_context=keep_context)


_extension.when_loaded(_register)
