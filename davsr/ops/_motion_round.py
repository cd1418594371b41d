"""A round along the motion of some frames of a clip: their averages (``motion_average``), flattened (``flatten``).

The clip need not be in memory: of all its frames those around the ones in question are enough. On a CPU it is one
compiled pass, whose averages never leave the cache, and which raises a coarse motion as it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from davsr.ops import _extension
from davsr.ops._flatten import flatten
from davsr.ops._grid import resize_flow
from davsr.ops._motion_average import motion_average


def motion_round(
    a: Tensor,  # [b, c, held, H, W]
    motion: Tensor,  # [b, n, 2, h, w]
    step: Tensor | float,
    *,
    first: int,
    frames: int,
    cell: tuple[int, int],
    steps: Sequence[int],
    mismatch: float,
    reach: float,
    flat: float,
    out: Tensor,  # [b, c, n, H, W]
) -> Tensor:
    """Frames first, ..., first + n - 1 of a clip averaged and flattened, where no derivative is wanted.

    Args:
        a: frame p of the clip at place p % held: all that are averaged, and their neighbours.
        motion: of the frames that are averaged, (dx, dy) in pixels of its own grid: the frames', or that of cells.
        step, flat: as of ``flatten``.
        first: number of the first frame.
        frames: of the whole clip; what lies outside of it takes part in no average.
        cell, steps, mismatch, reach: as of ``motion_average``.
        out: memory for the result, none of a's.

    Raises:
        ValueError: a shape, dtype or device does not fit, or `a` does not hold what is needed.
    """
    _check(a, motion, first, frames, steps, out)
    if a.device.type != "cpu" or not _extension.available("cpu"):
        return out.copy_(_composed(a, motion, step, first, frames, cell, steps, mismatch, reach, flat))
    step = torch.as_tensor(step, dtype=a.dtype)
    torch.ops.davsr.motion_round_(out, a, motion, step, first, frames, list(cell), list(steps), mismatch, reach, flat)
    return out


def _composed(
    a: Tensor,
    motion: Tensor,
    step: Tensor | float,
    first: int,
    frames: int,
    cell: tuple[int, int],
    steps: Sequence[int],
    mismatch: float,
    reach: float,
    flat: float,
) -> Tensor:
    low, high = _span(first, motion.shape[1], frames, steps)
    clip = a[:, :, [p % a.shape[2] for p in range(low, high)]]
    b, n = motion.shape[:2]
    fine = resize_flow(motion.flatten(0, 1), a.shape[3:]).unflatten(0, (b, n))
    along = F.pad(fine, (0, 0, 0, 0, 0, 0, first - low, high - first - n))  # the other frames' means are dropped
    mean, _ = motion_average(clip, along, cell=cell, mismatch=mismatch, reach=reach, steps=steps)
    return flatten(mean[:, :, first - low : first - low + n], step, flat=flat)


def _span(first: int, n: int, frames: int, steps: Sequence[int]) -> tuple[int, int]:
    """Frames [low, high) that take part."""
    far = (0, *steps)
    return max(first + min(far), 0), min(first + n + max(far), frames)


def _check(a: Tensor, motion: Tensor, first: int, frames: int, steps: Sequence[int], out: Tensor) -> None:
    if a.dim() != 5 or min(a.shape[1:]) == 0:
        raise ValueError(f"motion_round: a must be [b, c, held, H, W], got {list(a.shape)}")
    if motion.dim() != 5 or motion.shape[0] != a.shape[0] or motion.shape[2] != 2:
        raise ValueError(f"motion_round: motion must be [b, n, 2, h, w], got {list(motion.shape)}")
    n = motion.shape[1]
    if not 0 <= first <= frames - n:
        raise ValueError(f"motion_round: frames must be of the {frames} of the clip, got {n} from {first}")
    low, high = _span(first, n, frames, steps)
    if high - low > a.shape[2]:
        raise ValueError(f"motion_round: a must hold frames {low} to {high - 1}, got {a.shape[2]} places")
    if list(out.shape) != [*a.shape[:2], n, *a.shape[3:]]:
        raise ValueError(f"motion_round: out must be {[*a.shape[:2], n, *a.shape[3:]]}, got {list(out.shape)}")


def _register() -> None:
    @torch.library.register_fake("davsr::motion_round_")
    def _(
        out: Tensor,
        a: Tensor,
        motion: Tensor,
        step: Tensor,
        first: int,
        total: int,
        cell: Sequence[int],
        steps: Sequence[int],
        mismatch: float,
        reach: float,
        flat: float,
        level: str | None = None,
    ) -> None:
        return None


_extension.when_loaded(_register)
