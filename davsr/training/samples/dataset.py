"""Training samples as pure functions of (seed, index), and the observation that turns them into network input."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from davsr.errors import InputError
from davsr.options import Options
from davsr.physics.degradation import Degradation
from davsr.pixels import to_unit
from davsr.training.samples.crops import Crop, SampleSize
from davsr.training.samples.sources import SyntheticSource, open_sample_source
from davsr.training.samples.stills import imperfect

_SAMPLE, _STEP, _NOISE = range(3)  # streams of random numbers that never meet
_JPEG_QUALITY = (60, 95)  # light compression
_PATIENCE = 60  # seconds that a worker lives on after SIGTERM: longer than a step


class VideoBatch(TypedDict):
    """Samples as the loader hands them over."""

    index: list[int]
    gt: Tensor  # uint8 [b, T, 3, H, W]
    lq: list[Tensor | None]  # uint8 [t, 3, h, w] of pairs; None: to be degraded
    sigma: Tensor  # [b], fraction of full scale
    quality: list[int]  # of JPEG; 0: none
    before: list[dict[str, Tensor] | None]  # of `CachedRounds`: x_0 uint8 [T, 3, H, W], flows [t - 1, 2, h, w]


class FlowBatch(TypedDict):
    """Two frames and the exact motion from the first to the second."""

    index: list[int]
    reference: Tensor  # uint8 [b, 3, h, w]
    support: Tensor  # uint8 [b, 3, h, w]
    flow: Tensor  # [b, 2, h, w], pixels (dx, dy)
    visible: Tensor  # bool [b, h, w]: not covered and not gone in the second frame


class VideoSamples(Dataset[VideoBatch]):
    """Clips of `data.frames` s_t HR frames, `data.patch` pixels a side, from all sources by weight.

    Raises:
        InputError: naming an option or a source that cannot serve.
    """

    def __init__(self, options: Options) -> None:
        data, scale = options.data, options.degradation.scale
        self.seed, self.options = options.seed, data
        self.window = SampleSize(data.frames * scale[0], data.patch, scale)
        for name, s in (("s_h", scale[1]), ("s_w", scale[2])):
            if data.patch % s:
                raise InputError(f"data.patch: must be a multiple of {name} = {s}, got {data.patch}")
        if not data.sources:
            raise InputError("data.sources: must name at least one source of clips, got []")
        self.sources = [
            open_sample_source(s, data, self.window, f"data.sources[{i}]") for i, s in enumerate(data.sources)
        ]
        weights = np.array([source.weight for source in self.sources])
        self._chances = np.cumsum(weights) / weights.sum()
        self._symmetries = _symmetries(Degradation.from_options(options.degradation))

    def __getitem__(self, index: int) -> VideoBatch:
        """The sample as a batch of one."""
        rng = _generator(self.seed, _SAMPLE, index)
        number = min(int(np.searchsorted(self._chances, rng.random(), side="right")), len(self.sources) - 1)
        crop = self.sources[number].draw(rng)
        if self.options.imperfect and crop.lq is None and rng.random() < self.options.imperfect:
            crop = Crop(imperfect(crop.gt, rng))
        if self.options.flips:
            crop = _flipped(crop, rng.random(4) < 0.5, self._symmetries)
        sigma = float(rng.uniform(*self.options.sigma))
        quality = int(rng.integers(*_JPEG_QUALITY)) if rng.random() < self.options.compression else 0
        if crop.lq is not None:  # what was observed is not made worse
            sigma, quality = 0.0, 0
        return {
            "index": [index],
            "gt": _channels_first(crop.gt)[None],
            "lq": [None if crop.lq is None else _channels_first(crop.lq)],
            "sigma": torch.tensor([sigma], dtype=torch.float32),
            "quality": [quality],
            "before": [None],
        }


class FlowSamples(Dataset[FlowBatch]):
    """Pairs of frames of synthetic scenes whose largest motion is drawn from 0 to `data.flow_motion` pixels.

    Raises:
        InputError: when a source is not synthetic.
    """

    def __init__(self, options: Options) -> None:
        data = options.data
        self.seed, self.motion, self.patch = options.seed, data.flow_motion, data.patch
        window = SampleSize(data.frames, data.patch, (1, 1, 1))
        self.sources: list[SyntheticSource] = []
        for number, source in enumerate(data.sources):
            opened = open_sample_source(source, data, window, f"data.sources[{number}]")
            if not isinstance(opened, SyntheticSource):
                raise InputError(
                    f"data.sources[{number}].kind: must be synthetic for train.task flow, got {source.kind}"
                )
            self.sources.append(opened)
        if not self.sources:
            raise InputError("data.sources: must name at least one folder of photographs, got []")
        weights = np.array([source.weight for source in self.sources])
        self._chances = np.cumsum(weights) / weights.sum()

    def __getitem__(self, index: int) -> FlowBatch:
        """The sample as a batch of one."""
        rng = _generator(self.seed, _SAMPLE, index)
        number = min(int(np.searchsorted(self._chances, rng.random(), side="right")), len(self.sources) - 1)
        scene = self.sources[number].scene(rng)
        start = float(rng.uniform(0, self.sources[number].window.frames))
        wanted = float(rng.uniform(0, self.motion))
        # Any time is as good as another: the interval is the one in which the fastest corner moves as far as wanted.
        interval = 1.0
        for _ in range(4):  # paths are nearly straight, so that this converges at once
            moved = scene.largest_motion(start, start + interval)
            interval *= float(np.clip(wanted / max(moved, 1e-6), 0.1, 10))
        frames = np.stack([scene.frame(start), scene.frame(start + interval)])
        flow, visible = scene.flow(start, start + interval)
        # The network sees frames that a data step has made of blurred ones: soft, and with noise left.
        if rng.random() < 0.5:
            blur = float(rng.uniform(0.3, 1.5))
            frames = np.stack([cv2.GaussianBlur(frame, (0, 0), blur) for frame in frames])
        if rng.random() < 0.5:
            noise = rng.normal(0, float(rng.uniform(0, 8)), size=frames.shape)
            frames = np.rint(frames + noise).clip(0, 255).astype(np.uint8)
        images = _channels_first(frames)
        return {
            "index": [index],
            "reference": images[:1],
            "support": images[1:],
            "flow": torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))[None],
            "visible": torch.from_numpy(visible)[None],
        }


def observe(
    batch: VideoBatch, degradation: Degradation, seed: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn samples into network input: y = A x + n, 8 bits, perhaps JPEG.

    Returns:
        lq [b, t, 3, h, w] and gt [b, T, 3, H, W] in [0, 1], sigma [b]; all float32 on `device`.
    """
    gt = to_unit(batch["gt"].to(device, non_blocking=True))
    sharp = [number for number, given in enumerate(batch["lq"]) if given is None]  # pairs are observed already
    clean = dict(zip(sharp, degradation.apply(gt[sharp].transpose(1, 2)).transpose(1, 2), strict=True)) if sharp else {}
    frames = []
    for number, index in enumerate(batch["index"]):
        given = batch["lq"][number]
        if given is not None:
            frames.append(to_unit(given.to(device)))
            continue
        lq = clean[number]
        sigma = float(batch["sigma"][number])
        if sigma > 0:
            noise = _generator(seed, _NOISE, index).standard_normal(tuple(lq.shape), dtype=np.float32)
            lq = lq + sigma * torch.from_numpy(noise).to(device)
        lq = (lq.clamp(0, 1) * 255).round()
        if batch["quality"][number]:
            lq = _compressed(lq, batch["quality"][number])
        frames.append(lq / 255)
    return torch.stack(frames), gt, batch["sigma"].to(device)


def draw_exposure(options: Options, step: int) -> float | None:
    """The exposure of a step's samples: all of them share one operator. None: the one of `degradation`."""
    exposures = options.data.exposures
    return exposures[int(_generator(options.seed, _STEP, step).integers(len(exposures)))] if exposures else None


def load_batches(
    dataset: Dataset[Any],
    indices: Sequence[Sequence[int]] | Iterator[Sequence[int]],
    workers: int,
    pin: bool = False,
) -> Iterator[Any]:
    """The samples of each list of indices, in order, prepared by `workers` processes ahead of time."""
    loader = DataLoader(
        dataset,
        batch_sampler=indices,  # type: ignore[arg-type]  # an iterator of lists is enough at run time; the stub wants a Sampler
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_patient_with_signals,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # the loader draws a seed for its workers: not from the global generator
    )
    # Workers are forked, and threads do not come along: a call into OpenCV that waits for one, or the end of a video
    # decoder that the garbage collector finds in a worker, would never return.
    threads = cv2.getNumThreads()
    if workers:
        cv2.setNumThreads(0)
    gc.collect()
    gc.freeze()
    batches = iter(loader)
    gc.unfreeze()
    cv2.setNumThreads(threads)
    return batches


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: torch.cat([s[key] for s in samples])
        if isinstance(samples[0][key], Tensor)
        else [entry for s in samples for entry in s[key]]
        for key in samples[0]
    }


def _patient_with_signals(_: int) -> None:
    """Ctrl-C reaches every process of a terminal, SIGTERM every one of a service.

    The trainer saves first, and ends its workers.

    A worker that nobody ends goes by itself after a while.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # Windows has none, and ends processes without asking them
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_PATIENCE))
    if (
        multiprocessing.get_start_method() != "fork"
    ):  # a forked one has it from its parent, and must not touch its threads
        cv2.setNumThreads(0)


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _channels_first(frames: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] -> [n, 3, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def _symmetries(degradation: Degradation) -> tuple[bool, bool, bool, bool]:
    """Whether A commutes with reversal of time, with flips of rows and columns, and with transposition.

    Only such changes may be made to pairs; frames that are degraded afterwards may be changed at will.
    """
    s_t, s_h, s_w = degradation.scale
    side = 8 * max(s_h, s_w)
    x = torch.rand(1, 1, 4 * s_t, side * s_h, side * s_w, generator=torch.Generator().manual_seed(0))
    y = degradation.apply(x)
    flips = [bool(torch.allclose(degradation.apply(x.flip(d)), y.flip(d), atol=1e-4)) for d in (2, 3, 4)]
    transposes = s_h == s_w and bool(torch.allclose(degradation.apply(x.mT), y.mT, atol=1e-4))
    return (flips[0], flips[1], flips[2], transposes)


def _flipped(crop: Crop, wanted: np.ndarray, allowed: tuple[bool, bool, bool, bool]) -> Crop:
    reverse, rows, columns, transpose = (
        bool(w and (crop.lq is None or a)) for w, a in zip(wanted, allowed, strict=True)
    )

    def change(frames: np.ndarray) -> np.ndarray:
        frames = frames[:: -1 if reverse else 1, :: -1 if rows else 1, :: -1 if columns else 1]
        return frames.transpose(0, 2, 1, 3) if transpose else frames

    return Crop(change(crop.gt), None if crop.lq is None else change(crop.lq))


def _compressed(lq: Tensor, quality: int) -> Tensor:
    """Frames [t, 3, h, w], 0 to 255, through JPEG."""
    frames = lq.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)
    decoded = []
    for frame in frames:
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert image is not None  # it was encoded right here
        decoded.append(image[..., ::-1])
    return _channels_first(np.stack(decoded)).to(lq)
