"""Scene cuts: where a clip changes from one shot to another, which nothing that looks along time may cross."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import cv2
import numpy as np

_SIZE = (64, 36)  # of the thumbnails that are compared: motion of a few pixels is gone at this size
_BINS = 8  # a channel, for the colour histogram
_MEMORY = 8  # frames whose changes tell how much the shot moves
_UNKNOWN = 5.0  # 8-bit levels that a shot is taken to change by itself before that is known
_CHANGE = 10.0  # 8-bit levels that a cut changes beyond three times what the shot does by itself
_COLOURS = 0.3  # Hellinger distance between the colour histograms across a cut


class CutDetector:
    """Tells frame by frame whether a new shot begins; looks only at frames that it has seen.

    A cut changes the picture far more than the shot's own motion did, and changes its colours as well: fast motion
    does the first, a flash or a fade the second, only a cut does both from one frame to the next.
    """

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._changes: deque[float] = deque(maxlen=_MEMORY)

    def is_cut(self, frame: np.ndarray) -> bool:
        """Whether a shot begins with `frame` (uint8 [h, w, 3]); False for the first frame."""
        small = cv2.resize(frame, _SIZE, interpolation=cv2.INTER_AREA)
        histogram = cv2.calcHist([small], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
        last, self._last = self._last, (small, histogram)
        if last is None:
            return False
        change = float(np.abs(small.astype(np.int16) - last[0]).mean())
        colours = cv2.compareHist(last[1], histogram, cv2.HISTCMP_BHATTACHARYYA)
        usual = float(np.median(self._changes)) if self._changes else _UNKNOWN
        if change > 3 * usual + _CHANGE and colours > _COLOURS:
            self._changes.clear()
            return True
        self._changes.append(change)
        return False


def shots_of(frames: Iterable[np.ndarray]) -> tuple[tuple[int, int], ...]:
    """The shots of a clip as (start, stop) frame numbers that cover it; frames are uint8 [h, w, 3]."""
    detector = CutDetector()
    starts = [0]
    count = 0
    for count, frame in enumerate(frames, start=1):
        if detector.is_cut(frame):
            starts.append(count - 1)
    return tuple(zip(starts, [*starts[1:], count], strict=True)) if count else ()
