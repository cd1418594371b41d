"""Consistency over time: does a restored video move as the true one does, and does it hold still along that motion?"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # RGB [h, w, 3]
Flow = npt.NDArray[np.float32]  # [h, w, 2], pixels (dx, dy): the second frame at p + flow(p) looks like the first at p
_SMALLEST = 32

TEMPORAL_PROTOCOL = (
    "tOF: mean distance in pixels between the DIS flows of consecutive frames of result and truth; warping error: rms "
    "difference in 8-bit levels of consecutive frames along the truth's flow, where it is visible in both"
)


class TemporalScorer:
    """Scores transitions between consecutive frames of several versions of one video, fed frame by frame.

    * tOF, after Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation", 2020:
      the mean Euclidean distance between the flows.
    * warping error, after Lai et al., "Learning Blind Video Temporal Consistency", 2018: the frame before, warped along
      the truth's flow, against the frame; where the flow forth and back agree. The truth has one too, which is its
      floor.
    """

    def __init__(self) -> None:
        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._truth: Image | None = None
        self._last: dict[str, Image] = {}

    def push(self, truth: Image, versions: dict[str, Image]) -> dict[str, tuple[float, float]]:
        """Take the next frame.

        Returns (tOF, warping error) of the transition to it for each version, none for the first.
        """
        scores = {}
        if self._truth is not None:
            back = self.flow(truth, self._truth)
            visible = consistent(back, self.flow(self._truth, truth))
            for name, frame in versions.items():
                last = self._last[name]
                same = frame is truth and last is self._truth  # the truth itself: its flow is known
                moved = back if same else self.flow(frame, last)
                tof = float(np.linalg.norm(moved - back, axis=2).mean())
                scores[name] = (tof, warping_error(frame, last, back, visible))
        self._truth, self._last = truth, versions
        return scores

    def flow(self, reference: Image, support: Image) -> Flow:
        """The flow by OpenCV's dense inverse search, without weights."""
        h, w = reference.shape[:2]
        small = ((0, max(_SMALLEST - h, 0)), (0, max(_SMALLEST - w, 0)))  # the search needs room for its patches
        a, b = (np.pad(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), small, "edge") for frame in (reference, support))
        return np.asarray(self._estimator.calc(a, b, None)[:h, :w], np.float32)


def warp_image(image: np.ndarray, flow: Flow) -> np.ndarray:
    """`image` sampled at p + flow(p), float32."""
    h, w = flow.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    return cv2.remap(
        image.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE
    )


def consistent(flow: Flow, reverse: Flow) -> npt.NDArray[np.bool_]:
    """Where following the flow and then the reverse flow leads back, and stays inside (Sundaram et al., ECCV 2010)."""
    h, w = flow.shape[:2]
    returned = warp_image(reverse, flow)
    slack = 0.01 * ((flow**2).sum(axis=2) + (returned**2).sum(axis=2)) + 0.5
    y, x = np.mgrid[:h, :w]
    to_x, to_y = x + flow[..., 0], y + flow[..., 1]
    inside = (to_x >= 0) & (to_x <= w - 1) & (to_y >= 0) & (to_y <= h - 1)
    return (((flow + returned) ** 2).sum(axis=2) < slack) & inside


def warping_error(frame: Image, last: Image, flow: Flow, visible: npt.NDArray[np.bool_]) -> float:
    """Root mean square difference in 8-bit levels between a frame and the one before it, warped.

    Not a number where nothing is visible.
    """
    if not visible.any():
        return float("nan")
    difference = frame.astype(np.float32) - warp_image(last, flow)
    return float(np.sqrt(np.square(difference[visible]).mean()))
