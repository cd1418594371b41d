"""A clip in pieces that fit into memory: temporal windows that overlap and fade, spatial tiles that overlap and blend.

The pieces are processed as clips of their own, so what they lack at their ends is context. Half of every overlap is
context only; in its central half the weight passes smoothly from one piece to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.physics.operator import Operator
from davsr.pixels import Frames, to_float, to_frames
from davsr.runtime import Precision, autocast

# What was made of a piece: named videos [1, T, c, H, W] in the order in which they were made, the result last.
Step = dict[str, Tensor]
# Restores the LR frames lq [1, t, c, h, w]; the second argument is an HR estimate [1, T, c, H, W] where the source has
# one (polishing), else None.
Restorer = Callable[[Tensor, Tensor | None], Step]


@dataclass(frozen=True)
class Plan:
    """How a clip is cut. Lengths in LR frames, sides in LR pixels; 0 stands for the whole clip or frame."""

    window: int = 0  # LR frames processed at once
    overlap: int = 2  # LR frames that two consecutive windows share
    tile: int = 0  # LR side of a square processed at once
    margin: int = 24  # LR pixels of context on each side of a tile: two neighbours share at least twice as many

    def __post_init__(self) -> None:
        if min(self.window, self.overlap, self.tile, self.margin) < 0:
            raise InputError(f"windows: sizes must be at least 0, got {self}")
        if self.window and self.overlap >= self.window:
            raise InputError(
                f"windows: overlap must be below the window of {self.window} LR frames, got {self.overlap}"
            )
        if self.tile and 2 * self.margin >= self.tile:
            raise InputError(f"windows: margin must be below half the tile of {self.tile} pixels, got {self.margin}")


@dataclass(frozen=True)
class LowFrame:
    """One LR frame as it is read, ready to be stacked."""

    image: Tensor  # [c, h, w], RGB in [0, 1]
    estimate: Frames | None = None  # [s_t, c, H, W], another program's HR frames for the same time
    first: bool = False  # of a scene: no window reaches across

    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.image.nbytes + (0 if self.estimate is None else self.estimate.nbytes)


@dataclass
class Run:
    """HR frames in their order, and where in the clip they lie.

    `restore_stream` takes `frames` back when the next run is asked for, so that two windows never lie in memory.
    """

    frames: Frames  # of all videos, side by side as channels
    names: tuple[str, ...]  # of the videos
    start: int  # HR frame of the clip
    scene: int  # LR frame with which the scene began
    resume: int  # LR frame from which the window was read that a restart after these frames begins with
    last: bool  # the scene ends here

    def videos(self, first: int = 0, stop: int | None = None) -> dict[str, Frames]:
        """The videos by name, views of frames first..stop."""
        parts = np.split(self.frames[first:stop], len(self.names), axis=1)
        return dict(zip(self.names, parts, strict=True))


def restore_clip(
    restorer: Restorer, lq: Tensor, scale: tuple[int, int, int], plan: Plan, estimate: Frames | None = None
) -> Tensor:
    """Restore a clip that is in memory, in the windows and tiles of `plan`.

    Args:
        restorer: see `Restorer`; `model_restorer` makes one of a network.
        lq: [1, t, c, h, w] in [0, 1].
        scale: (s_t, s_h, s_w).
        plan: sizes of the pieces.
        estimate: [T, c, H, W], for steps that start from one.

    Returns:
        The result [1, T, c, H, W], float32 in [0, 1], in steps of 1/65535, on the CPU.
    """
    s_t = scale[0]
    frames = (
        LowFrame(image, None if estimate is None else estimate[s_t * j : s_t * (j + 1)])
        for j, image in enumerate(lq[0])
    )
    runs = [run.videos()[run.names[-1]] for run in restore_stream(restorer, frames, scale, plan)]
    return to_float(np.concatenate(runs))[None]


def restore_stream(
    restorer: Restorer,
    frames: Iterable[LowFrame],
    scale: tuple[int, int, int],
    plan: Plan,
    start: int = 0,
    scene: int = 0,
) -> Iterator[Run]:
    """Restore LR frames as they come; memory holds two windows of them and one of HR frames, whatever the length.

    Every window of a scene but a scene's only one has `plan.window` frames: the last one starts earlier rather than
    being short. Windows, and with them every result, depend only on the scene's first frame.

    Args:
        frames: LR frames in order; `frames` begins with LR frame `start` of the clip.
        start: LR frame, the start of a window of its scene (`Run.resume`).
        scene: LR frame with which the scene of `start` began.

    Yields:
        Runs that join without gaps and cover s_t frames for every LR frame from `start` on.
    """
    for run in _runs(restorer, frames, scale, plan, start, scene):
        yield run
        run.frames = run.frames[:0].copy()


def _runs(
    restorer: Restorer, frames: Iterable[LowFrame], scale: tuple[int, int, int], plan: Plan, start: int, scene: int
) -> Iterator[Run]:
    position = start
    join = _Joiner(restorer, scale, plan, start, scene)
    for frame in frames:
        if frame.first and position > start:
            yield join.finish()
            join = _Joiner(restorer, scale, plan, position, position)
        # Only a frame beyond the window shows that it is not the last one.
        if plan.window and len(join.buffer) == join.wanted:
            yield join.advance()
        join.buffer.append(frame)
        position += 1
    if position > start:
        yield join.finish()


class _Joiner:
    """The windows of one scene, one after the other; each fades into the next."""

    def __init__(self, restorer: Restorer, scale: tuple[int, int, int], plan: Plan, start: int, scene: int) -> None:
        self.restorer, self.scale, self.plan, self.scene = restorer, scale, plan, scene
        self.names: tuple[str, ...] = ()
        self.buffer: list[LowFrame] = []  # what this and later windows read, from LR frame `first` on
        self.first = start
        self.start = start  # LR frame of the next window
        self.tail: Frames | None = None  # the previous window's HR frames over the overlap, where they count

    @property
    def wanted(self) -> int:
        """Length of the buffer with which the next window is complete."""
        return self.start - self.first + self.plan.window

    def advance(self) -> Run:
        """Process a window that is not the scene's last one."""
        s_t, overlap = self.scale[0], self.plan.overlap
        stride = self.plan.window - overlap
        begin = self.start
        result = self._faded(self._process(self.buffer[begin - self.first :]))
        kept = int((fade(s_t * overlap) < 1).sum())  # beyond them the next window's frames stand alone
        self.tail = result[s_t * stride : s_t * stride + kept].copy() if overlap else None
        self.start = begin + stride
        # The last window may begin as early as one frame after this one.
        del self.buffer[: begin + 1 - self.first]
        self.first = begin + 1
        # A window read anew lacks the fade from its predecessor, over `overlap` frames: begin so many windows earlier.
        resume = begin - (max(-(-overlap // stride), 1) - 1) * stride
        return Run(result[: s_t * stride], self.names, s_t * begin, self.scene, max(resume, self.scene), last=False)

    def finish(self) -> Run:
        """Process the scene's last window."""
        end = self.first + len(self.buffer)
        begin = max(min(self.start, end - self.plan.window), self.first) if self.plan.window else self.first
        result = self._process(self.buffer[begin - self.first :])
        context = self.scale[0] * (self.start - begin)
        return Run(self._faded(result[context:]), self.names, self.scale[0] * self.start, self.scene, end, last=True)

    def _faded(self, result: Frames) -> Frames:
        """The window's frames, faded in from the previous window's tail; written in place."""
        if self.tail is not None:
            for p, weight in enumerate(fade(self.scale[0] * self.plan.overlap)[: len(self.tail)]):
                if weight == 0:
                    result[p] = self.tail[p]
                elif weight < 1:
                    mixed = self.tail[p] * np.float32(1 - weight) + result[p] * np.float32(weight)
                    result[p] = (mixed + np.float32(0.5)).astype(np.uint16)
        return result

    def _process(self, window: list[LowFrame]) -> Frames:
        lq = torch.stack([frame.image for frame in window])[None]
        parts = [frame.estimate for frame in window if frame.estimate is not None]
        estimate = np.concatenate(parts) if parts else None
        frames, self.names = restore_tiles(self.restorer, lq, self.scale, self.plan, estimate)
        return frames


def restore_tiles(
    restorer: Restorer, lq: Tensor, scale: tuple[int, int, int], plan: Plan, estimate: Frames | None = None
) -> tuple[Frames, tuple[str, ...]]:
    """Restore one window, tile by tile; at most one row of tiles is held in float32.

    lq [1, t, c, h, w] -> all videos side by side as channels [T, videos * c, H, W], and their names.
    """
    s_t, s_h, s_w = scale
    _, t, c, h, w = lq.shape
    rows, columns = cover(h, plan.tile, plan.margin), cover(w, plan.tile, plan.margin)
    if len(rows) == len(columns) == 1:
        step = restorer(lq, None if estimate is None else to_float(estimate)[None])
        return _side_by_side(step), tuple(step)
    row_weights, column_weights = _hr_weights(rows, s_h), _hr_weights(columns, s_w)
    names: tuple[str, ...] = ()
    result, band = np.empty(0, np.uint16), torch.empty(0)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            part = None
            if estimate is not None:
                part = to_float(estimate[..., s_h * top : s_h * bottom, s_w * left : s_w * right])[None]
            # The model sees memory of its own layout: a view of the frame would be copied piecemeal.
            step = restorer(lq[..., top:bottom, left:right].contiguous(), part)
            if not names:
                names = tuple(step)
                result = np.empty((s_t * t, len(names) * c, s_h * h, s_w * w), dtype=np.uint16)
                band = torch.zeros(s_t * t, len(names) * c, s_h * rows[0][1], s_w * w)
            weight = row_weights[i][:, None] * column_weights[j][None, :]
            for n, name in enumerate(names):
                video = step.pop(name)[0].float().cpu()
                band[:, n * c : (n + 1) * c, :, s_w * left : s_w * right].addcmul_(video, weight)
        done = rows[i + 1][0] if i + 1 < len(rows) else h
        finished = s_h * (done - top)
        # What the next row of tiles shares with this one moves up; the rest begins at zero. A second band would not
        # fit.
        shared = band.shape[2] - finished
        for p, frame in enumerate(band):
            result[p, :, s_h * top : s_h * done] = to_frames(frame[None, :, :finished])[0]
            frame[:, :shared] = frame[:, finished:].clone()
        band[:, :, shared:] = 0
    return result, names


def _side_by_side(step: Step) -> Frames:
    """[1, T, c, H, W] each -> [T, videos * c, H, W]."""
    _, T, c, H, W = next(iter(step.values())).shape
    if len(step) == 1:
        return to_frames(next(iter(step.values()))[0])
    result = np.empty((T, len(step) * c, H, W), dtype=np.uint16)
    for n, video in enumerate(step.values()):
        result[:, n * c : (n + 1) * c] = to_frames(video[0])
    return result


def cover(size: int, tile: int, margin: int) -> list[tuple[int, int]]:
    """Equal intervals [start, stop) of length `tile`, evenly spaced, that cover `size`, overlapping by >= 2 margin."""
    if tile == 0 or tile >= size:
        return [(0, size)]
    count = 1 + -(-(size - tile) // (tile - 2 * margin))
    starts = np.floor(np.linspace(0, size - tile, count) + 0.5).astype(int)
    return [(int(start), int(start) + tile) for start in starts]


def fade(n: int) -> npt.NDArray[np.float64]:
    """Weight of the later piece over an overlap of n samples: 0, then a raised cosine over the central half, then 1."""
    position = (np.arange(n) + 0.5) / max(n, 1)  # of sample centres, 0 to 1
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(2 * position - 0.5, 0, 1))


def blend_weights(intervals: list[tuple[int, int]]) -> list[npt.NDArray[np.float64]]:
    """Weights of overlapping intervals that sum to 1 at every sample."""
    weights = [np.ones(stop - start) for start, stop in intervals]
    for k in range(len(intervals) - 1):
        n = intervals[k][1] - intervals[k + 1][0]
        rise = fade(n)
        weights[k][len(weights[k]) - n :] *= 1 - rise
        weights[k + 1][:n] *= rise
    total = np.zeros(intervals[-1][1])
    for (start, stop), weight in zip(intervals, weights, strict=True):
        total[start:stop] += weight
    # Two neighbours sum to 1 by themselves; where three pieces overlap, or a fade lies in the third's, they need not.
    return [weight / total[start:stop] for (start, stop), weight in zip(intervals, weights, strict=True)]


def _hr_weights(intervals: list[tuple[int, int]], scale: int) -> list[Tensor]:
    weights = blend_weights([(scale * start, scale * stop) for start, stop in intervals])
    return [torch.from_numpy(weight).float() for weight in weights]


def model_restorer(
    model: DAVSR,
    sigma: float = 0.0,
    operator: Operator | None = None,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    stages: bool = False,
) -> Restorer:
    """A network as what restores a piece: inference mode, its device, autocast where `precision` is not float32.

    Args:
        operator: the observation model, if not the network's own.
        stages: hand out x_0, z_1, x_1, ... beside the result, see `Stages.named`.
    """
    device = torch.device(device)

    def restorer(lq: Tensor, estimate: Tensor | None) -> Step:
        with torch.inference_mode(), autocast(precision, device):
            if not stages:
                return {"result": model(lq.to(device), sigma, degradation=operator)}
            _, made = model(lq.to(device), sigma, degradation=operator, return_stages=True)
            return {name: video.transpose(1, 2) for name, video in made.named().items()}

    return restorer
