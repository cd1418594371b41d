"""The files of a tested clip: restored frames, a video, comparison pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from davsr.data.clips import Clip
from davsr.data.frames import write_image
from davsr.data.timing import Schedule
from davsr.data.video import VideoReader, VideoWriter
from davsr.data.views import Part
from davsr.evaluation.comparison import Version, comparison
from davsr.evaluation.report import INPUT
from davsr.evaluation.tables import BASELINE, TRUTH, ClipResult
from davsr.files import partial_name, remove_ours, renew, require_ours
from davsr.options import Options
from davsr.physics.degradation import Degradation

DEFAULT_RATE = Fraction(24)  # LR frames per second of clips that carry no time


class ClipFolder:
    """The files of one clip: in a hidden folder until all are whole, then moved to their place."""

    def __init__(self, target: Path, lq: Clip, s_t: int, options: Options) -> None:
        self.target = target
        self.folder = partial_name(target)
        self.save = options.test.save
        self._video: VideoWriter | None = None
        if self.save in ("video", "both"):
            self._schedule = schedule(lq, s_t, options.test.rate)
            self._video = VideoWriter(self.folder / "restored.mp4", self._schedule.rate, time_base=self._schedule.base)

    def __enter__(self) -> ClipFolder:
        require_ours(self.target)
        renew(self.folder)
        if self.save in ("frames", "both"):
            (self.folder / "frames").mkdir()
        return self

    def write(self, p: int, image: np.ndarray) -> None:
        """HR frame `p`, uint8 RGB [h, w, 3], as a file, in the video, or both."""
        if self.save in ("frames", "both"):
            write_image(self.folder / "frames" / f"{p:08d}.png", image)
        if self._video is not None:
            time = self._schedule.stamp(p)
            self._video.write(image, time, self._schedule.stamp(p + 1) - time)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            if self._video is not None:
                self._video.abort()
            remove_ours(self.folder)
            return
        if self._video is not None:
            self._video.close()
        remove_ours(self.target)
        self.folder.replace(self.target)


def schedule(lq: Clip, s_t: int, rate: float) -> Schedule:
    """When the HR frames of a clip are shown: as `davsr restore` would show them.

    Args:
        rate: LR frames a second; 0: as the clip says, or `DEFAULT_RATE` where it says nothing.
    """
    clip, chosen = lq, range(len(lq))
    while isinstance(clip, Part):
        chosen = clip.chosen[chosen.start : chosen.stop]
        clip = clip.clip
    if isinstance(clip, VideoReader) and not rate:
        found = clip.pictures
        moments = [*found.times, found.end][chosen.start : chosen.stop + 1]
        return Schedule.of(moments, found.base, s_t, found.rate)
    stated = Fraction(rate).limit_denominator(1001) if rate else lq.rate or DEFAULT_RATE
    return Schedule.constant(len(lq), stated * s_t, s_t)


def picture_frames(frames: int, count: int, A: Degradation) -> set[int]:
    """`count` HR frames, evenly spread, for pictures; each as far from an exposure's centre as its neighbours allow."""

    def distance(p: int) -> float:
        return abs((p - A.centre + A.scale[0] / 2) % A.scale[0] - A.scale[0] / 2)

    targets = [int((i + 0.5) * frames / count) for i in range(min(count, frames))]
    return {max(range(p, min(p + A.scale[0], frames)), key=distance) for p in targets}


def comparison_picture(
    p: int, frames: dict[str, np.ndarray], result: ClipResult, label: str, protocol: str
) -> np.ndarray:
    """HR frame p in the versions that matter: input, bicubic + linear, restored, true."""

    def note(stage: str) -> str:
        scores = result.stages[stage]
        return f"{scores.psnr[p]:.2f} dB / {scores.ssim[p]:.3f}" if scores.psnr else ""

    _, h, w = result.lr
    versions = [
        Version(INPUT, frames[INPUT], f"{w}x{h}"),
        Version(BASELINE, frames[BASELINE], note(BASELINE)),
        Version(label, frames[result.output], note(result.output), best=True),
    ]
    if TRUTH in frames:
        versions.append(Version(TRUTH, frames[TRUTH]))
    return comparison(f"{result.name}, frame {p} of {result.hr[0]}", versions, protocol)
