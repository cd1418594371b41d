"""Clips that a page hands in, restored one at a time in the background: what `davsr serve` works with."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from davsr import config
from davsr.data.clips import Clip, open_clip
from davsr.data.video import VIDEO_SUFFIXES
from davsr.errors import InputError
from davsr.log import logger
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.restore import restore


@dataclass(frozen=True)
class Limits:
    """What the page takes."""

    megabytes: int = 100
    frames: int = 60  # LR
    side: int = 640  # LR pixels


@dataclass
class Job:
    """One clip on its way."""

    number: int
    source: Path
    target: Path
    degradation: DegradationOptions
    sigma: float
    state: str = "waiting"  # then running, and finished or failed
    done: int = 0
    total: int = 0
    problem: str = ""
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def report(self) -> dict[str, object]:
        """What the page shows of it, as plain values."""
        seconds = self.seconds or time.monotonic() - self.began
        told = {
            "job": self.number,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "problem": self.problem,
        }
        return {**told, "seconds": round(seconds, 1), "scale": list(self.degradation.scale)}


class Workshop:
    """Takes clips, restores them one after the other, and keeps them in its folder."""

    def __init__(self, folder: Path, limits: Limits, model: str | None = None, device: str = "auto") -> None:
        self.folder, self.limits, self._model, self._device = folder, limits, model, device
        self.jobs: dict[int, Job] = {}
        self._uploads = 0
        self._one = threading.Lock()
        self._count = threading.Lock()

    def place_for(self, name: str) -> Path:
        """Where a clip of this name goes; of the name only the suffix is used.

        Raises:
            InputError: it is not that of a video.
        """
        suffix = Path(name).suffix.lower()
        if suffix not in VIDEO_SUFFIXES:
            raise InputError(f"{name or 'the clip'} must be a video: {', '.join(sorted(VIDEO_SUFFIXES))}")
        with self._count:
            self._uploads += 1
            return self.folder / f"{self._uploads}-in{suffix}"

    def start(self, source: Path, settings: Mapping[str, str]) -> Job:
        """Begin to restore a clip.

        Args:
            settings: `scale` ("5 4 4"), `exposure`, `psf`, `psf_sigma`, `sigma`; what is empty is as by default.

        Raises:
            InputError: a setting is wrong, or the clip is none, or is too long or too large.
        """
        tree: dict[str, object] = {k: settings[k] for k in ("exposure", "psf", "psf_sigma") if settings.get(k)}
        if settings.get("scale"):
            tree["scale"] = settings["scale"].replace(",", " ").split()
        if str(tree.get("psf", "")).endswith(".npy"):
            raise InputError(
                "degradation.psf must be bicubic, gaussian, box or delta here; files are for the command line"
            )
        degradation = config.build(DegradationOptions, tree, "degradation.")
        sigma = config.build(RestoreOptions, {"sigma": settings.get("sigma") or "0"}, "restore.").sigma
        self._require_small(open_clip(source))
        with self._count:
            job = Job(len(self.jobs), source, self.folder / f"{len(self.jobs)}-out.mp4", degradation, sigma)
            self.jobs[job.number] = job
        threading.Thread(target=self._work, args=(job,), daemon=True).start()
        return job

    def picture(self, job: Job, which: str, frame: int) -> bytes:
        """HR frame number `frame` of the result, or the LR frame that shows the same moment, as PNG at the same
        size.
        """
        s_t = job.degradation.scale[0]
        clip = open_clip(job.target if which == "after" else job.source)
        index = frame if which == "after" else frame // s_t
        if not 0 <= index < len(clip):
            raise InputError(f"frame {frame} must be below {len(clip) * (1 if which == 'after' else s_t)}")
        image = clip.frames(index, index + 1)[0]
        if which == "before":
            _, s_h, s_w = job.degradation.scale
            size = (image.shape[1] * s_w, image.shape[0] * s_h)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))
        return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()

    def _require_small(self, clip: Clip) -> None:
        frames, (height, width) = len(clip), clip.size
        if frames > self.limits.frames:
            raise InputError(
                f"the clip has {frames} frames, this page takes {self.limits.frames}; davsr restore takes any number"
            )
        if max(height, width) > self.limits.side:
            raise InputError(
                f"the clip is {width}x{height}, this page takes sides up to {self.limits.side}; davsr restore takes any"
            )

    def _work(self, job: Job) -> None:
        with self._one:
            job.state, job.began = "running", time.monotonic()

            def progress(done: int, total: int) -> None:
                job.done, job.total = done, total

            try:
                restore(
                    job.source,
                    job.target,
                    model=self._model,
                    degradation=job.degradation,
                    options=RestoreOptions(sigma=job.sigma, log=False, overwrite=True),
                    device=self._device,
                    progress=progress,
                )
                state = "finished"
            except InputError as error:
                state, job.problem = "failed", str(error)
            except Exception as error:  # whoever looks at the page must learn of it, the console has the rest
                logger.exception("serve: clip %d", job.number)
                state, job.problem = "failed", f"{type(error).__name__}: {error}"
            job.seconds = time.monotonic() - job.began
            job.state = state
