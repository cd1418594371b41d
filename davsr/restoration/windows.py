"""A clip in pieces that fit into memory: temporal windows that overlap and fade, spatial tiles that overlap and blend.

The pieces are processed as clips of their own, so what they lack at their ends is context: see `cutting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from davsr.models.davsr import DAVSR
from davsr.physics.operator import Operator
from davsr.pixels import Frames, mixed, to_float
from davsr.restoration.ceiling import kept_below
from davsr.restoration.cutting import Plan, fade
from davsr.restoration.pieces import Pieces, Step
from davsr.runtime import Precision, autocast, return_freed_memory

# Restores the LR frames lq [1, t, c, h, w]; the second argument is an HR estimate [1, T, c, H, W] where the source has
# one (polishing), else None.
Restorer = Callable[[Tensor, Tensor | None], Step]


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

    They are there until the next run is asked for: `restore_stream` then takes them back.
    """

    count: int  # HR frames
    frame: Callable[[int], Frames]  # the nth of them: of all videos, side by side as channels [videos * c, H, W]
    names: tuple[str, ...]  # of the videos
    start: int  # HR frame of the clip
    scene: int  # LR frame with which the scene began
    resume: int  # LR frame from which the window was read that a restart after these frames begins with
    last: bool  # the scene ends here

    @property
    def frames(self) -> Frames:
        """All of them, [count, videos * c, H, W]."""
        return np.stack([self.frame(n) for n in range(self.count)])

    def videos(self, first: int = 0, stop: int | None = None) -> dict[str, Frames]:
        """The videos by name, frames first..stop of each."""
        numbers = range(self.count)[first:stop]
        parts = np.split(np.stack([self.frame(n) for n in numbers]), len(self.names), axis=1)
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
    folder: Path | None = None,
) -> Iterator[Run]:
    """Restore LR frames as they come; memory holds two windows of them and one of HR frames, whatever the length.

    Every window of a scene but a scene's only one has `plan.window` frames: the last one starts earlier rather than
    being short. Windows, and with them every result, depend only on the scene's first frame.

    Args:
        frames: LR frames in order; `frames` begins with LR frame `start` of the clip.
        start: LR frame, the start of a window of its scene (`Run.resume`).
        scene: LR frame with which the scene of `start` began.
        folder: where frames wait in a file, if the plan has them there; None: with the system's temporary files.

    Yields:
        Runs that join without gaps and cover s_t frames for every LR frame from `start` on.
    """
    position = start
    join = _Joiner(restorer, scale, plan, start, scene, folder)
    for frame in frames:
        if frame.first and position > start:
            yield from join.finish()
            join = _Joiner(restorer, scale, plan, position, position, folder)
        # Only a frame beyond the window shows that it is not the last one.
        if plan.window and len(join.buffer) == join.wanted:
            yield from join.advance()
        join.buffer.append(frame)
        position += 1
    if position > start:
        yield from join.finish()


class _Joiner:
    """The windows of one scene, one after the other; each fades into the next."""

    def __init__(
        self,
        restorer: Restorer,
        scale: tuple[int, int, int],
        plan: Plan,
        start: int,
        scene: int,
        folder: Path | None,
    ) -> None:
        self.restorer, self.scale, self.plan, self.scene, self.folder = restorer, scale, plan, scene, folder
        self.buffer: list[LowFrame] = []  # what this and later windows read, from LR frame `first` on
        self.first = start
        self.start = start  # LR frame of the next window
        self.weights = fade(scale[0] * plan.overlap)
        self.tail: Callable[[int], Frames] | None = None  # the previous window's HR frames over the overlap

    @property
    def wanted(self) -> int:
        """Length of the buffer with which the next window is complete."""
        return self.start - self.first + self.plan.window

    def advance(self) -> Iterator[Run]:
        """Process a window that is not the scene's last one."""
        s_t, overlap = self.scale[0], self.plan.overlap
        begin, stride = self.start, self.plan.window - overlap
        fading = int((self.weights < 1).sum())  # beyond them the next window's frames stand alone
        pieces = self._process(self.buffer[begin - self.first :], 0, s_t * stride + fading)
        frame = self._faded(pieces, 0)
        self.start = begin + stride
        # The last window may begin as early as one frame after this one.
        del self.buffer[: begin + 1 - self.first]
        self.first = begin + 1
        # A window read anew lacks the fade from its predecessor, over `overlap` frames: begin so many windows earlier.
        resume = max(begin - (max(-(-overlap // stride), 1) - 1) * stride, self.scene)
        yield from _taken_back(Run(s_t * stride, frame, pieces.names, s_t * begin, self.scene, resume, last=False))
        if fading > s_t * stride:  # they fade in themselves: what they hang on would never end
            held = [frame(s_t * stride + p) for p in range(fading)]
            self.tail = held.__getitem__
        elif overlap:
            pieces.forget(s_t * stride)
            self.tail = lambda p: pieces.frame(s_t * stride + p)

    def finish(self) -> Iterator[Run]:
        """Process the scene's last window."""
        end = self.first + len(self.buffer)
        begin = max(min(self.start, end - self.plan.window), self.first) if self.plan.window else self.first
        context, length = self.scale[0] * (self.start - begin), self.scale[0] * (end - begin)
        pieces = self._process(self.buffer[begin - self.first :], context, length)
        return_freed_memory()  # nothing of the scene needs it any more, and the encoder is still to take its own
        start = self.scale[0] * self.start
        frame = self._faded(pieces, context)
        yield from _taken_back(Run(length - context, frame, pieces.names, start, self.scene, end, last=True))

    def _faded(self, pieces: Pieces, context: int) -> Callable[[int], Frames]:
        """The window's frames from `context` on, faded in from the previous window's tail."""
        tail, weights = self.tail, self.weights

        def frame(n: int) -> Frames:
            weight = weights[n] if tail is not None and n < len(weights) else 1
            if tail is None or weight == 1:
                return pieces.frame(context + n)
            if weight == 0:
                return tail(n)
            return mixed(tail(n), pieces.frame(context + n), float(weight))

        return frame

    def _process(self, window: list[LowFrame], context: int, stop: int) -> Pieces:
        """HR frames `context`..`stop` of a window, but those that the previous one stands for."""
        parts = [frame.estimate for frame in window if frame.estimate is not None]
        estimate = np.concatenate(parts) if parts else None
        begin = context + (int((self.weights == 0).sum()) if self.tail is not None else 0)
        images = [frame.image for frame in window]
        return restore_tiles(self.restorer, images, self.scale, self.plan, estimate, range(begin, stop), self.folder)


def _taken_back(run: Run) -> Iterator[Run]:
    yield run
    run.count = 0


def restore_tiles(
    restorer: Restorer,
    images: Sequence[Tensor],
    scale: tuple[int, int, int],
    plan: Plan,
    estimate: Frames | None = None,
    kept: range | None = None,
    folder: Path | None = None,
) -> Pieces:
    """Restore one window of LR frames [c, h, w], tile by tile; `kept`: the HR frames that are needed, else all."""
    s_t, s_h, s_w = scale
    h, w = images[0].shape[1:]
    pieces = Pieces((h, w), scale, plan, range(s_t * len(images)) if kept is None else kept, folder)
    for place in pieces.places:
        rows, columns = place.cut
        part = None
        if estimate is not None:
            hr = estimate[..., s_h * rows.start : s_h * rows.stop, s_w * columns.start : s_w * columns.stop]
            part = to_float(hr)[None]
        lq = torch.stack([image[:, rows, columns] for image in images])[None]
        pieces.add(restorer(lq, part))
    return pieces


def model_restorer(
    model: DAVSR,
    sigma: float = 0.0,
    operator: Operator | None = None,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    stages: bool = False,
    ceiling: float = float("inf"),
    tidy: bool = False,
) -> Restorer:
    """A network as what restores a piece: inference mode, its device, autocast where `precision` is not float32.

    Args:
        operator: the observation model, if not the network's own.
        stages: hand out x_0, z_1, x_1, ... beside the result, see `Stages.named`.
        ceiling: bytes of the process beyond which what is free goes back to the system, see `kept_below`.
        tidy: it also does before every piece: the next one would find holes between what the last one left, and take
            more. Costs a few tenths of a second for each GB.
    """
    device = torch.device(device)

    def restorer(lq: Tensor, estimate: Tensor | None) -> Step:
        with kept_below(ceiling, begin=tidy), torch.inference_mode(), autocast(precision, device):
            if not stages:
                return {"result": model(lq.to(device), sigma, degradation=operator, compact=True)}
            _, made = model(lq.to(device), sigma, degradation=operator, return_stages=True)
            return {name: video.transpose(1, 2) for name, video in made.named().items()}

    return restorer
