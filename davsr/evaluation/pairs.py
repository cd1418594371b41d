"""The clips of a test: observed frames and, where it is known, the truth, checked before work starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from davsr.data.clips import Clip, open_clips
from davsr.data.views import Degraded, Part
from davsr.errors import InputError
from davsr.evaluation.metrics import WINDOW
from davsr.options import TestOptions
from davsr.physics.degradation import Degradation

SAMPLE = Path(__file__).parent.parent / "assets" / "sample.mp4"


@dataclass(frozen=True)
class Pair:
    """What is observed and, where it is known, what is true."""

    lq: Clip
    truth: Clip | None

    @property
    def name(self) -> str:
        """That of the LR clip."""
        return self.lq.name


def open_scored_pairs(wanted: TestOptions, degradation: Degradation, seed: int) -> list[Pair]:
    """The clips to restore, checked as far as is possible before work starts.

    Raises:
        InputError: naming what is missing or does not match.
    """
    if not wanted.input:
        truths = open_clips(wanted.truth or SAMPLE, wanted.clips)
        pairs = []
        for clip in truths:
            sharp = _divisible(clip, degradation.scale, wanted.crop)
            pairs.append(Pair(Degraded(sharp, degradation, sigma=wanted.sigma, seed=seed), sharp))
    else:
        observed = open_clips(wanted.input, wanted.clips)
        if wanted.truth:
            pairs = _match(observed, open_clips(wanted.truth), degradation.scale, wanted.crop)
        else:
            pairs = [Pair(clip, None) for clip in observed]
    pairs = [_selected(pair, wanted.frames, degradation.scale) for pair in pairs]
    for pair in pairs:
        pair.lq.check()
        if pair.truth is not None:
            pair.truth.check()
            if min(pair.truth.size) < WINDOW:
                h, w = pair.truth.size
                raise InputError(
                    f"clip {pair.name}: GT must be at least {WINDOW} pixels a side to be scored, got {w}x{h}"
                )
    return pairs


def _divisible(clip: Clip, scale: tuple[int, int, int], crop: bool) -> Clip:
    sizes = (len(clip), *clip.size)
    fitting = tuple(n - n % s for n, s in zip(sizes, scale, strict=True))
    if fitting == sizes:
        return clip
    if min(fitting) == 0:
        raise InputError(
            f"clip {clip.name} must have at least {scale[0]} frames of {scale[2]}x{scale[1]}, got {_words(sizes)}"
        )
    if not crop:
        raise InputError(
            f"clip {clip.name} has {_words(sizes)}, which the scale {'x'.join(map(str, scale))} does not divide; "
            f"crop it to {_words(fitting)}, or give --crop"
        )
    return Part(clip, 0, fitting[0], (fitting[1], fitting[2]))


def _match(observed: list[Clip], truths: list[Clip], scale: tuple[int, int, int], crop: bool) -> list[Pair]:
    if len(observed) == len(truths) == 1:
        matched = [(observed[0], truths[0])]
    else:
        by_name = {clip.name: clip for clip in truths}
        missing = [clip.name for clip in observed if clip.name not in by_name]
        if missing:
            raise InputError(
                f"clip {missing[0]} of test.input has no clip of that name in test.truth ({', '.join(by_name)})"
            )
        matched = [(clip, by_name[clip.name]) for clip in observed]
    pairs = []
    for lq, truth in matched:
        low, high = (len(lq), *lq.size), (len(truth), *truth.size)
        expected = tuple(n * s for n, s in zip(low, scale, strict=True))
        if high != expected:
            if not crop or any(have < need for have, need in zip(high, expected, strict=True)):
                raise InputError(
                    f"clip {lq.name}: LQ of {_words(low)} and GT of {_words(high)} do not match; at scale "
                    f"{'x'.join(map(str, scale))} GT must be {_words(expected)}"
                )
            truth = Part(truth, 0, expected[0], (expected[1], expected[2]))
        pairs.append(Pair(lq, truth))
    return pairs


def _selected(pair: Pair, frames: str, scale: tuple[int, int, int]) -> Pair:
    """The LR frames `start:stop` of a pair, as a clip of its own."""
    if not frames:
        return pair
    first, colon, last = frames.partition(":")
    numbers = [first.strip() or "0", last.strip() or str(len(pair.lq))]
    if not colon or not all(n.isdecimal() for n in numbers):
        raise InputError(f"options: test.frames must be start:stop in LR frames, such as 0:20, got {frames!r}")
    start, stop = int(numbers[0]), min(int(numbers[1]), len(pair.lq))
    if start >= stop:
        raise InputError(
            f"options: test.frames {frames} selects nothing of clip {pair.name}, which has {len(pair.lq)} LR frames"
        )
    if isinstance(pair.lq, Degraded):  # a preview is degraded as the clip that it is
        truth = Part(pair.lq.truth, start * scale[0], stop * scale[0])
        return Pair(Degraded(truth, pair.lq.degradation, sigma=pair.lq.sigma, seed=pair.lq.seed), truth)
    truth_part = Part(pair.truth, start * scale[0], stop * scale[0]) if pair.truth is not None else None
    return Pair(Part(pair.lq, start, stop), truth_part)


def _words(sizes: tuple[int, ...]) -> str:
    return f"{sizes[0]} frame{'s' * (sizes[0] != 1)} of {sizes[2]}x{sizes[1]}"
