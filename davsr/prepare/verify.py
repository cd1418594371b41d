"""LQ against GT: sizes, counts, and the degradation that is really between them.

Of all candidates for phase, exposure and PSF the one with the smallest ||y - A x|| is what made the pair: 8-bit
rounding leaves a residual of 1/sqrt(12) = 0.29 levels, one frame of shift far more wherever something moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from davsr.data.clips import Clip, open_clips
from davsr.errors import InputError
from davsr.options import DegradationOptions
from davsr.physics.degradation import Degradation
from davsr.physics.psf import exposure_taps, extend_index
from davsr.prepare.integrity import require_whole

_SIDE = 96  # LR pixels of the central crop that is looked at
_BORDER = 6  # LR pixels around it that a PSF may reach
_SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # of gaussian candidates, in LR pixels
_TIE = 1.03  # squared residuals within this factor are not told apart: that is what still clips leave undecided
_SHIFT = 0.1  # LR pixels that LQ and GT may lie apart
_SAME_SCENE = 0.5  # share of the LQ variance that the best candidate leaves unexplained when it is another scene


@dataclass(frozen=True)
class Candidate:
    """What may lie between GT and LQ."""

    phase: float
    exposure: float
    psf: str

    def __str__(self) -> str:
        return f"phase {self.phase:g}, exposure {self.exposure:g}, PSF {self.psf}"

    def distance(self, other: Candidate) -> int:
        """In how many of the three they differ."""
        return (self.phase != other.phase) + (self.exposure != other.exposure) + (self.psf != other.psf)

    def differences(self, other: Candidate) -> str:
        """The values of `other` that differ, and the ones here."""
        pairs = {"phase": (other.phase, self.phase), "exposure": (other.exposure, self.exposure)}
        named = {**{k: (f"{a:g}", f"{b:g}") for k, (a, b) in pairs.items()}, "PSF": (other.psf, self.psf)}
        return ", ".join(f"{name} is {a} instead of {b}" for name, (a, b) in named.items() if a != b)


@dataclass(frozen=True)
class Measurement:
    """What was found about one pair; residuals are root mean squares in 8-bit levels."""

    name: str
    expected: Candidate
    best: Candidate
    expected_residual: float
    best_residual: float
    ties: int  # candidates that fit as well as the best one
    shift: tuple[float, float]  # (dx, dy) in LR pixels by which LQ lies off, if the expected candidate made it
    shifted_residual: float  # what such a shift would leave of the expected candidate's residual
    contrast: float  # standard deviation of LQ

    @property
    def fault(self) -> str:
        """What is wrong with the pair; empty: nothing."""
        if min(self.best_residual, self.shifted_residual) ** 2 > _SAME_SCENE * self.contrast**2:
            return f"LQ and GT do not show the same: residual {self.best_residual:.1f} at a contrast of {self.contrast:.1f}"
        if self.shifted_residual < self.best_residual and max(map(abs, self.shift)) > _SHIFT:
            return f"LQ lies ({self.shift[0]:+.2f}, {self.shift[1]:+.2f}) LR pixels off"
        if self.best != self.expected:
            return self.expected.differences(self.best)
        return ""


def match_clips(lq: str | Path, truth: str | Path, scale: tuple[int, int, int]) -> list[tuple[Clip, Clip]]:
    """(LQ, GT) clips of the same names, all frames there, counts and sizes apart by exactly the scale.

    Raises:
        InputError: naming the clip or file that does not fit.
    """
    lq_clips = {clip.name: clip for clip in open_clips(lq)}
    gt_clips = {clip.name: clip for clip in open_clips(truth)}
    if len(lq_clips) == len(gt_clips) == 1:  # one clip a side: the folders' own names do not matter
        gt_clips = dict(zip(lq_clips, gt_clips.values(), strict=True))
    for name in sorted(lq_clips.keys() ^ gt_clips.keys()):
        raise InputError(
            f"clip {name} of {lq if name in lq_clips else truth} is not in {truth if name in lq_clips else lq}"
        )
    pairs = []
    for name, low in lq_clips.items():
        high = gt_clips[name]
        require_whole(low)
        require_whole(high)
        (h, w), (height, width) = low.size, high.size
        expected = (len(low) * scale[0], h * scale[1], w * scale[2])
        if (len(high), height, width) != expected:
            raise InputError(
                f"clip {high.path} must have {expected[0]} frames of {expected[2]}x{expected[1]} for the {len(low)} of "
                f"{w}x{h} in {low.path} at scale {scale}, got {len(high)} of {width}x{height}"
            )
        pairs.append((low, high))
    return pairs


def measure(lq: Clip, gt: Clip, options: DegradationOptions, samples: int = 3) -> Measurement:
    """Find phase, exposure and PSF of a pair by the smallest residual over `samples` LR frames.

    Phases run from -s_t to s_t, exposures from 1 to 2 s_t, PSFs through bicubic, box, delta, Gaussians and the expected
    one.
    """
    s_t = options.scale[0]
    expected = Candidate(float(options.phase), float(options.exposure or s_t), _psf_name(options))
    psfs = _psfs(options)
    times = sorted(
        {(float(p), float(e)) for p in range(-s_t, s_t + 1) for e in range(1, 2 * s_t + 1)}
        | {(expected.phase, expected.exposure)}
    )
    first = int(min(np.floor(p) for p, _ in times))  # HR frames that any of them reaches, relative to s_t j
    last = int(max(np.ceil(p + e) for p, e in times))
    weights = torch.from_numpy(np.stack([_exposure_row(p, e, first, last) for p, e in times]))

    crop = _Crop.central(lq.size)
    squares = torch.zeros(len(psfs), len(times), dtype=torch.float64)
    observed, stacks = [], []
    for j in sorted({int(i) for i in np.linspace(0, len(lq) - 1, samples + 2)[1:-1].round()}):
        y = crop.inner(_tensor(lq.crop([j], *crop.lr)))[0, :, 0].double()  # [3, h, w]
        indices = extend_index(np.arange(s_t * j + first, s_t * j + last), len(gt), options.boundary)
        x = _tensor(gt.crop(indices.tolist(), *crop.hr(options.scale)))
        # for each PSF what every HR frame would look like by itself, [frames, 3, h, w]
        stack = [crop.inner(psf.apply(x))[0].transpose(0, 1).double() for psf in psfs.values()]
        squares += torch.stack([_squares(y, frames, weights) for frames in stack])
        observed.append(y)
        stacks.append(stack)

    mean = squares / sum(y.numel() for y in observed)
    candidates = [[Candidate(*time, psf) for time in times] for psf in psfs]
    n_0, k_0 = list(psfs).index(expected.psf), times.index((expected.phase, expected.exposure))
    ties = (mean <= _TIE * mean.min()).nonzero().tolist()
    # Of those that fit equally well, the one closest to what is expected.
    n, k = min(ties, key=lambda at: (candidates[at[0]][at[1]].distance(expected), float(mean[at[0], at[1]])))
    fitted = [torch.einsum("f,fchw->chw", weights[k_0], stack[n_0]) for stack in stacks]
    shift, shifted_residual = _shift(torch.stack(observed), torch.stack(fitted))
    return Measurement(
        lq.name,
        expected,
        candidates[n][k],
        float(mean[n_0, k_0].sqrt()),
        float(mean[n, k].sqrt()),
        len(ties) - 1,
        shift,
        shifted_residual,
        float(torch.stack(observed).std()),
    )


@dataclass(frozen=True)
class _Crop:
    """The part of a frame that is looked at.

    LR (top, left, height, width) with a border that results do not count in.
    """

    lr: tuple[int, int, int, int]
    border: int

    @classmethod
    def central(cls, size: tuple[int, int]) -> _Crop:
        border = max(0, min(_BORDER, (min(size) - 8) // 2))
        h, w = (min(n, _SIDE + 2 * border) for n in size)
        return cls(((size[0] - h) // 2, (size[1] - w) // 2, h, w), border)

    def hr(self, scale: tuple[int, int, int]) -> tuple[int, int, int, int]:
        top, left, h, w = self.lr
        return top * scale[1], left * scale[2], h * scale[1], w * scale[2]

    def inner(self, video: Tensor) -> Tensor:
        h, w = video.shape[-2:]
        return video[..., self.border : h - self.border, self.border : w - self.border]


def _psf_name(options: DegradationOptions) -> str:
    return f"gaussian {options.psf_sigma:g}" if options.psf == "gaussian" else options.psf


def _psfs(options: DegradationOptions) -> dict[str, Degradation]:
    """Spatial candidates by name, the expected one first: among equals it is the one that is found."""
    spatial = replace(options, scale=(1, *options.scale[1:]), exposure=1, phase=0, solver="auto")
    found = {_psf_name(options): Degradation.from_options(spatial)}
    for name in ("bicubic", "box", "delta"):
        found.setdefault(name, Degradation.from_options(replace(spatial, psf=name)))
    for sigma in _SIGMAS:
        gaussian = replace(spatial, psf="gaussian", psf_sigma=sigma * options.scale[1])
        found.setdefault(_psf_name(gaussian), Degradation.from_options(gaussian))
    return found


def _squares(y: Tensor, frames: Tensor, weights: Tensor) -> Tensor:
    """||y - sum_f w_f frame_f||^2 for each row w of weights [n, f], by the frames' inner products."""
    flat = frames.flatten(1)
    cross, gram = flat @ y.flatten(), flat @ flat.T
    return y.square().sum() - 2 * weights @ cross + ((weights @ gram) * weights).sum(dim=1)


def _exposure_row(phase: float, exposure: float, first: int, last: int) -> np.ndarray:
    taps = exposure_taps(exposure, phase)
    row = np.zeros(last - first)
    row[taps.start - first : taps.start - first + len(taps.weights)] = taps.weights
    return row


def _tensor(frames: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] to float [1, 3, n, h, w] in levels."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float().contiguous()


def _shift(y: Tensor, fitted: Tensor) -> tuple[tuple[float, float], float]:
    """(dx, dy) by which y [n, 3, h, w] is displaced against `fitted`, and the residual that leaves, root mean square.

    Least squares to first order: y(p) = fitted(p - d), about fitted - d . gradient.
    """
    rows, columns = torch.gradient(fitted, dim=(2, 3))
    gradient = torch.stack([columns.flatten(), rows.flatten()], 1)
    difference = (fitted - y).flatten()
    gram = gradient.T @ gradient
    if float(torch.linalg.det(gram)) <= 1e-6 * float(gram.trace()) ** 2:  # no texture in one direction
        return (0.0, 0.0), float(difference.square().mean().sqrt())
    moved = torch.linalg.solve(gram, gradient.T @ difference)
    rest = difference - gradient @ moved
    return (float(moved[0]), float(moved[1])), float(rest.square().mean().sqrt())


def verdict(measurements: Sequence[Measurement]) -> str:
    """A table of what was found."""
    lines = ["clip              expected   best    shift in LR pixels   found"]
    for m in measurements:
        tie = f" (and {m.ties} more that fit as well)" if m.ties else ""
        lines.append(
            f"{m.name:16.16}  {m.expected_residual:8.2f}  {m.best_residual:6.2f}    ({m.shift[0]:+.2f}, {m.shift[1]:+.2f})"
            f"       {m.best}{tie}"
        )
    return "\n".join([*lines, "residuals: root mean square of y - A x in 8-bit levels; rounding alone leaves 0.29"])
