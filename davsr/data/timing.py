"""When frames are shown: time stamps made fit for use, the rate they come at, and the stamps of frames between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

LARGEST = 2**31 - 1  # denominators and numerators of times and rates are 32 bits wide in containers and encoders
_FINE = 90000  # units a second that tell all starts apart
ROUNDING = Fraction(0)  # slack: no more than a container's rounding of both stamps explains
JITTER = Fraction(1, 2)  # slack, frames: farther from its place a stamp means that a frame lasts longer than others


def ordered(stamps: Sequence[int | None], period: int) -> list[int]:
    """Strictly increasing time stamps for frames in the order of display.

    Stamps that are all there and distinct are right but for their order (AVI and others number frames as they are
    stored). What is missing or repeated is laid evenly between its neighbours, or by `period` where there is no room.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    if len(set(known)) == len(stamps):
        return sorted(known)
    result: list[int | None] = []
    latest = None
    for stamp in stamps:
        good = stamp is not None and (latest is None or stamp > latest)
        latest = stamp if good else latest
        result.append(stamp if good else None)
    anchors = [i for i, stamp in enumerate(result) if stamp is not None]
    first = min(known, default=0)
    if not anchors:
        return [first + i * period for i in range(len(stamps))]
    filled: list[int] = [0] * len(stamps)
    for a, b in pairwise([*anchors, len(stamps)]):
        begin = result[a] or 0
        end = result[b] if b < len(stamps) else begin + (b - a) * period
        for i in range(a, b):
            filled[i] = begin + ((end or 0) - begin) * (i - a) // (b - a)
    for i in range(anchors[0]):
        filled[i] = filled[anchors[0]] - (anchors[0] - i) * period
    if any(b <= a for a, b in pairwise(filled)):
        return [filled[0] + i * period for i in range(len(stamps))]
    return filled


def fitting(value: Fraction) -> Fraction:
    """The nearest fraction whose parts fit into 32 bits."""
    if value.numerator <= LARGEST and value.denominator <= LARGEST:
        return value
    if value > 1:
        return 1 / (1 / value).limit_denominator(LARGEST)
    return value.limit_denominator(LARGEST)


def constant_rate(
    times: Sequence[int], base: Fraction, candidates: Iterable[Fraction], slack: Fraction = ROUNDING
) -> Fraction | None:
    """Frames a second if every frame lies where a constant rate puts it, else None.

    Args:
        times: in units of `base` seconds.
        candidates: rates that the container states, the likeliest first; the mean rate is tried last.
        slack: frames by which a stamp may be off.
    """
    candidates = list(candidates)
    if len(times) < 2:
        return candidates[0] if candidates else None
    offsets = np.array(times, dtype=np.int64) - times[0]
    for rate in [*candidates, Fraction(len(times) - 1) / (int(offsets[-1]) * base)]:
        period = float(1 / (rate * base))
        limit = float(slack) * period if slack != ROUNDING else min(1.001, period / 4)
        if np.abs(offsets - period * np.arange(len(times))).max() < limit:
            return rate
    return None


@dataclass(frozen=True)
class Schedule:
    """When the LR frames are shown, and with them the HR frames evenly between."""

    times: tuple[int, ...]  # of every LR frame and, last, of the end; all of them multiples of s_t apart
    base: Fraction  # seconds per unit of `times`
    s_t: int
    rate: Fraction  # of the HR frames, on average where it varies
    steady: bool

    @classmethod
    def of(
        cls,
        moments: Sequence[int],
        base: Fraction,
        s_t: int,
        rate: Fraction | None,
        *,
        slower: int = 1,
        at_zero: bool = True,
    ) -> Schedule:
        """When `s_t` frames for each of a clip's are shown: at `rate` if there is one, else every frame keeps its time.

        Args:
            moments: when each frame is shown, and when the last one ends, in units of `base` seconds.
            slower: how many times the clip's duration they last.
            at_zero: the first frame is shown at 0 rather than at its own moment.
        """
        first, count = 0 if at_zero else moments[0], len(moments) - 1
        if rate is not None or count == 1:
            return cls.constant(count, (rate or Fraction(25)) * s_t / slower, s_t, first * base)
        return cls.varying([first // slower + t - moments[0] for t in moments], base, s_t, slower)

    @classmethod
    def varying(cls, times: Sequence[int], base: Fraction, s_t: int, slower: int = 1) -> Schedule:
        """Every frame keeps its time. `times` has one entry more than there are frames; `slower` stretches all."""
        unit = base / s_t
        scale = slower * s_t
        if unit.denominator > LARGEST:
            scale, unit = slower, base  # a unit so fine that no container divides it: to the unit then
            times = [t - (t - times[0]) % s_t for t in times]
        moved = tuple(scale * t for t in times)
        seconds = (moved[-1] - moved[0]) * unit
        rate = fitting(s_t * (len(times) - 1) / seconds).limit_denominator(1_000_000)
        return cls(moved, unit, s_t, rate, steady=False)

    @classmethod
    def constant(cls, count: int, rate: Fraction, s_t: int, begin: Fraction = Fraction(0)) -> Schedule:
        """`count` LR frames, `rate` HR frames a second, the first shown at `begin` seconds."""
        # A start between two frames needs a finer unit than the frames do.
        finer = -(-_FINE // rate.numerator) if begin else 1
        unit, step = Fraction(1, finer * rate.numerator), finer * rate.denominator
        first = round(begin / unit)
        return cls(tuple(first + i * s_t * step for i in range(count + 1)), unit, s_t, rate, steady=True)

    def stamp(self, p: int) -> int:
        """Of HR frame p, in units of `base`; also of the frame after the last, which is the end."""
        j, k = divmod(p, self.s_t)
        if j < 0:  # before the first: at the first frame's pace, for encoders that decode ahead of display
            return self.times[0] + p * ((self.times[1] - self.times[0]) // self.s_t)
        if j + 1 >= len(self.times):
            return self.times[-1]
        return self.times[j] + k * (self.times[j + 1] - self.times[j]) // self.s_t

    def distinct(self, unit: Fraction) -> bool:
        """Whether no two frames fall together in a container that counts in `unit` seconds."""
        steps = np.diff(np.array(self.times, dtype=np.int64))
        return bool(steps.min() * self.base / self.s_t >= unit)
