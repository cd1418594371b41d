"""The data step of a camera of three axes whose exposures do not overlap, and its derivative, in one call on a CPU.

``camera`` and ``camera_adjoint`` with small products between them, as `davsr.physics.degradation` composes them
elsewhere: a dozen operations on small tensors, which take longer than what is done to the large video.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._camera import Axes, camera_adjoint_reference, camera_compiled, camera_reference


def data_step_compiled(x: Tensor) -> bool:
    """Whether `data_step` has kernels for tensors like x; it has no derivative."""
    return x.device.type == "cpu" and camera_compiled(x) and not torch.compiler.is_compiling()


def data_step(
    x: Tensor,
    y: Tensor | None,
    alpha: Tensor,
    axes: Axes,
    rows: Tensor,
    columns: Tensor,
    spectrum: Tensor,
    *,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """z = x + A^T u, and u = (A A^T + alpha)^-1 (y - A x), without derivative.

    On every LR frame by itself A A^T is Q diag(spectrum) Q^T, where Q applies `rows` to rows and `columns` to columns.

    Args:
        x: [b, c, T, H, W], float32 or float64.
        y: [b, c, t, h, w]; None: zero.
        alpha: [b].
        axes: of A.
        rows, columns: orthogonal, [h, h] and [w, w].
        spectrum: [h, w].
        out: memory for z, possibly x itself.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    if not data_step_compiled(x):
        z, u = data_step_reference(x, y, alpha, axes, rows, columns, spectrum)
        return (z if out is None else out.copy_(z)), u
    z = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    rest = (*axes.taps, axes.start, axes.scale, axes.circular)
    return z, torch.ops.davsr.data_step_(z, None if z is x else x, y, alpha, rows, columns, spectrum, *rest)


def data_step_reference(
    x: Tensor, y: Tensor | None, alpha: Tensor, axes: Axes, rows: Tensor, columns: Tensor, spectrum: Tensor
) -> tuple[Tensor, Tensor]:
    """``data_step`` in plain PyTorch."""
    seen = camera_reference(x, axes)
    r = -seen if y is None else y - seen
    u = rows @ ((rows.mT @ r @ columns) / (spectrum + alpha.view(-1, 1, 1, 1, 1))) @ columns.mT
    return camera_adjoint_reference(u, axes, x), u


def _register() -> None:
    @torch.library.register_fake("davsr::data_step_")
    def _(
        out: Tensor,
        x: Tensor | None,
        y: Tensor | None,
        alpha: Tensor,
        rows_basis: Tensor,
        columns_basis: Tensor,
        spectrum: Tensor,
        time: Sequence[float],
        rows: Sequence[float],
        columns: Sequence[float],
        start: Sequence[int],
        scale: Sequence[int],
        circular: bool,
        level: str | None = None,
    ) -> Tensor:
        return out.new_empty(*out.shape[:2], *(n // s for n, s in zip(out.shape[2:], scale, strict=True)))


_extension.when_loaded(_register)
