"""Frames in, frames out, whatever the length: what `davsr restore` and `davsr polish` share."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from davsr import config
from davsr.data.frames import is_image, list_frames
from davsr.data.scenes import CutDetector
from davsr.errors import InputError
from davsr.files import read_record, write_record
from davsr.guards.locks import locked
from davsr.guards.names import given, require_apart
from davsr.log import BEGINS, logger
from davsr.options import DegradationOptions, RestoreOptions
from davsr.physics.operator import Operator
from davsr.pixels import Frames, eight_bits, image_to_unit
from davsr.restoration.consistency import Consistency
from davsr.restoration.cutting import Plan
from davsr.restoration.delivery import deliverable, pace
from davsr.restoration.encoder import Encoding, economy_of
from davsr.restoration.overlapped import Behind, ahead
from davsr.restoration.planning import Economy
from davsr.restoration.source import Source, open_source
from davsr.restoration.target import Target, clear_finished, is_folder, part_folder
from davsr.restoration.windows import LowFrame, Restorer, Run, restore_stream
from davsr.settings.yaml_text import shown

Progress = Callable[[int, int], None]  # (LR frames done, LR frames in all)
_SEGMENT_FRAMES = 250  # HR frames after which a segment ends: as far apart as encoders set key frames anyway
_SEGMENT_SECONDS = 120.0  # of work after which it ends sooner: what a restart may have to do again
_SLOWEST, _FASTEST = Fraction(1, 100), 10_000  # frames a second that containers can count
_HISTORY = 9  # frames from which a cut detector knows all that it would know from the clip's first frame on


@dataclass
class Restoration:
    """What a run made."""

    target: Path
    size: tuple[int, int]  # (H, W)
    frames: int  # HR
    rate: Fraction | None  # of the output, frames per second
    plan: Plan
    continued: int  # HR frames that an earlier, interrupted run had finished
    seconds: float
    residuals: list[float] = field(default_factory=list)  # root mean square of y - A x per LR frame, [0, 1] scale


def stream(
    source: str | Path,
    target: str | Path,
    restorer: Restorer,
    operator: Operator,
    degradation: DegradationOptions,
    options: RestoreOptions,
    plan_for: Callable[[Source, Economy], Plan],
    identity: dict[str, Any],
    progress: Progress | None,
    estimate: Source | None = None,
) -> Restoration:
    """Read, process and write; `restore` and `polish` differ in the restorer and in whether there is an estimate.

    Args:
        operator: A, for the log; `degradation` and `options.response` describe it.
        identity: what the frames depend on beside the source and the options; a restart compares it.
        estimate: HR frames that go with the source's; its rate, sound and colours are the output's.

    Raises:
        InputError: the input cannot be read, or the output not be written, with the reason.
    """
    source, target = given(source, "input"), given(target, "output")
    _require_place(target, [source] if estimate is None else [source, estimate.path])
    with locked(target):
        clear_finished(target)
        began = time.monotonic()
        _check_target(target, options)
        if estimate is None:
            low = open_source(source, frame_rate(options.rate), options)
        else:
            low = open_source(source, None, dataclasses.replace(options, frames="", drop_duplicates=False))
        lead = estimate or low  # whose time, sound and colours the output takes over
        s_t, s_h, s_w = degradation.scale
        height, width = s_h * low.size[0], s_w * low.size[1]
        made = s_t // _stride(degradation, options, estimate)  # frames that are written for each LR frame
        economy = economy_of(options, (height, width))
        schedule, extras = deliverable(target, lead, 1 if estimate else made, (height, width), options)
        # What the frames depend on; with other sound they stay the same.
        wanted = dataclasses.replace(options, overwrite=False, log=False, memory=0.0, audio=True)
        output = Target(
            target,
            {
                "inputs": [_stamp(path) for path in {source: 0, lead.path: 0}],
                "degradation": config.to_tree(degradation),
                "restore": config.to_tree(wanted),
                **(identity | {"encoder": economy.x264}),  # parts of one stream have the same parameter sets
            },
            schedule=schedule,
            signal=dataclasses.replace(
                lead.signal, aspect=lead.signal.aspect * (1 if estimate else Fraction(s_h, s_w))
            ),
            encoding=Encoding.chosen(options, economy),
            extras=extras,
        )
        output.open()
        plan = _kept_plan(output, lambda: plan_for(low, economy))
        done = output.segments[-1].stop if output.segments else 0
        logger.info(
            f"{source} -> {target}: {len(low)} frames of {low.size[1]}x{low.size[0]} -> {made * len(low)} of {width}x{height}"
            + pace(schedule),
            extra=BEGINS,
        )
        logger.info(f"y = A x: {operator.describe()}; sigma {options.sigma:g}; {_describe(plan, low)}")
        if done:
            logger.info(f"continuing after frame {done}, which {output.work} holds")
        try:
            _write(output, low, estimate, restorer, degradation, options, plan, economy, progress)
            residuals = [r for segment in output.segments for r in segment.residuals]
            output.finish(made * len(low))
        except BaseException:
            output.abort()
            raise
        seconds = time.monotonic() - began
        logger.info(f"{target}: done in {seconds:.0f} s; ||y - A x|| {np.mean(residuals):.5f} on average")
        rate = schedule.rate if schedule else None
        return Restoration(target, (height, width), made * len(low), rate, plan, done, seconds, residuals)


def _write(
    output: Target,
    low: Source,
    estimate: Source | None,
    restorer: Restorer,
    degradation: DegradationOptions,
    options: RestoreOptions,
    plan: Plan,
    economy: Economy,
    progress: Progress | None,
) -> None:
    """From the last finished segment to the end."""
    s_t = degradation.scale[0]
    last = output.segments[-1] if output.segments else None
    start, scene, done = (last.resume, last.scene, last.stop) if last else (0, 0, 0)
    stride = _stride(degradation, options, estimate)
    middle = middle_of_exposure(degradation) if options.deblur else 0
    writer = _Writer(output, degradation, options, s_t * len(low), start, done * stride, stride, middle)
    unread, unwritten = economy.reading_bytes(low.size, plan), economy.writing_bytes(low.size, degradation.scale, plan)
    frames = _low_frames(low, estimate, s_t, start, scene, options.cuts)
    with closing(ahead(frames, unread, LowFrame.nbytes)) as reading, Behind(unwritten) as writing:

        def observed() -> Iterator[LowFrame]:
            for frame in reading:
                writing.do(partial(writer.check.observe, frame.image))
                yield frame

        for run in restore_stream(restorer, observed(), degradation.scale, plan, start, scene, output.work):
            _hand_over(run, writer, writing)
            _report(writer, progress, s_t, len(low))
        writing.wait()
        _report(writer, progress, s_t, len(low))


def _hand_over(run: Run, writer: _Writer, writing: Behind) -> None:
    for n in range(run.count):
        frame = run.frame(n)
        writing.do(partial(writer.add, run.start + n, frame, run.last and n + 1 == run.count), frame.nbytes)
    scene = run.resume if run.last else run.scene  # that a restart begins in
    writing.do(partial(writer.end_run, run.start + run.count, run.resume, scene))


def _report(writer: _Writer, progress: Progress | None, s_t: int, count: int) -> None:
    """Tell in this thread, which may not be the writer's, of every run that is written by now."""
    while writer.written:
        stop = writer.written.popleft()
        if progress is not None:
            progress(stop // s_t, count)


class _Writer:
    """What becomes of the HR frames: checked against the LR frames, written, in segments. One thread calls it.

    Args:
        frames: HR frames in all.
        resumed: LR frame from which this run began.
        first: HR frame that is the first to be written, of those of which one in `stride`, from `middle` on, is.
    """

    def __init__(
        self,
        output: Target,
        degradation: DegradationOptions,
        options: RestoreOptions,
        frames: int,
        resumed: int,
        first: int,
        stride: int,
        middle: int,
    ) -> None:
        self.output, self.frames, self.first, self.stride, self.middle = output, frames, first, stride, middle
        self.check = Consistency(degradation, linear=options.response == "linear")
        # Of the frames that the finished segments hold, the residuals are in their records already.
        self.skipped, self.known = resumed, len([r for s in output.segments for r in s.residuals])
        self.residuals: list[float] = []
        self.opened = time.monotonic()
        self.written: deque[int] = deque()  # HR frames up to which runs are written

    def add(self, number: int, frame: Frames, last: bool) -> None:
        """The next HR frame [c, H, W]; `last`: of its scene."""
        for value in self.check.add(frame[None], last):
            if self.skipped >= self.known:
                self.residuals.append(value)
            self.skipped += 1
        if number >= self.first and number % self.stride == self.middle:
            self.output.write(cv2.merge(list(frame)))

    def end_run(self, stop: int, resume: int, scene: int) -> None:
        """All frames of a run are there, up to HR frame `stop`: end the segment where it is time.

        A restart reads from LR frame `resume` on, of the scene that began with `scene`.
        """
        late = self.output.pending and time.monotonic() - self.opened > _SEGMENT_SECONDS
        if stop == self.frames or self.output.pending >= _SEGMENT_FRAMES or late:
            if self.residuals:
                first, values = self.skipped - len(self.residuals), " ".join(f"{r:.5f}" for r in self.residuals)
                logger.info(f"LR frames {first}..{self.skipped - 1}, ||y - A x||: {values}")
            self.output.end_segment(resume, scene, self.residuals)
            self.residuals, self.opened = [], time.monotonic()
        self.written.append(stop)


def middle_of_exposure(degradation: DegradationOptions) -> int:
    """The HR frame, of those that are made of LR frame 0, in the middle of its exposure."""
    s_t = degradation.scale[0]
    centre = degradation.phase + ((degradation.exposure or s_t) - 1) / 2
    return min(max(round(centre), 0), s_t - 1)


def _stride(degradation: DegradationOptions, options: RestoreOptions, estimate: Source | None) -> int:
    """HR frames of which one is written.

    Raises:
        InputError: there are none to choose from.
    """
    if not options.deblur:
        return 1
    if estimate is not None:
        raise InputError("restore.deblur: must be left out where an estimate says which frames there are")
    if degradation.scale[0] == 1:
        raise InputError("restore.deblur: must have several moments of an exposure: degradation.scale is 1 in time")
    return degradation.scale[0]


def _low_frames(
    low: Source, estimate: Source | None, s_t: int, start: int, scene: int, cuts: bool
) -> Iterator[LowFrame]:
    """LR frames from `start` on, with the cuts between them as the whole clip would show them."""
    detector = CutDetector()
    warm = max(start - _HISTORY, scene) if cuts else start
    high = estimate.read(s_t * start) if estimate is not None else None
    for j, image in enumerate(low.read(warm), start=warm):
        cut = cuts and detector.is_cut(eight_bits(image))
        if j < start:
            continue
        part: Frames | None = None
        if high is not None:
            part = np.stack([next(high).transpose(2, 0, 1) for _ in range(s_t)])
        yield LowFrame(image_to_unit(image), part, first=j == 0 or cut)


def _kept_plan(output: Target, choose: Callable[[], Plan]) -> Plan:
    """The plan that the finished segments were made with: a restart may find other memory free."""
    file = output.work / "plan.json"
    kept = read_record(file)
    if kept is not None and kept.keys() == {field.name for field in dataclasses.fields(Plan)}:
        return Plan(**kept)
    output.forget()
    plan = choose()
    write_record(file, dataclasses.asdict(plan))
    return plan


def _describe(plan: Plan, low: Source) -> str:
    whole = not 0 < plan.window < len(low)
    windows = (
        f"one window of {len(low)} LR frames" if whole else f"windows of {plan.window} LR frames, {plan.overlap} shared"
    )
    rows, columns = plan.cuts(*low.size)
    tall, wide = (side[0][1] for side in (rows, columns))
    tile = f"tiles of {wide}x{tall}, margin {plan.margin}" if len(rows) * len(columns) > 1 else "whole frames"
    return f"{windows}, {tile}" + (", finished frames on disk" if plan.on_disk else "")


def frame_rate(text: str) -> Fraction | None:
    """`restore.rate` as a number; None where it is empty."""
    if not text:
        return None
    # Its digits are counted first: 1e999999999 is a number that takes minutes to write down.
    match = re.fullmatch(r"(\d{1,9}(\.\d{1,9})?|\d{1,9}/(?!0+$)\d{1,9})", text.strip())
    rate = Fraction(match[0]) if match else None
    if rate is None:
        raise InputError(f"restore.rate: must be a number such as 25 or 24000/1001, got {shown(text)}")
    if not _SLOWEST <= rate <= _FASTEST:
        raise InputError(f"restore.rate: must be from {float(_SLOWEST):g} to {_FASTEST} frames a second, got {text}")
    return rate


def _require_place(target: Path, inputs: list[Path]) -> None:
    """Raise InputError where making the target would touch an input, or put files between its frames."""
    if target.name in ("", ".."):
        raise InputError(f"output {target} must be a file or folder with a name")
    require_apart([target, part_folder(target)], inputs)
    for path in inputs:
        if path.resolve() in target.resolve().parents:
            raise InputError(f"output {target} must not be the input {path} nor lie in it")


def _check_target(target: Path, options: RestoreOptions) -> None:
    if target.exists() and not options.overwrite:
        raise InputError(f"output {target} exists; give --overwrite to replace it")
    if target.exists() and target.is_dir() != is_folder(target):
        raise InputError(f"output {target} must be a {'folder' if is_folder(target) else 'file'}, got the other")
    if target.is_dir():
        others = [path.name for path in target.iterdir() if not is_image(path)]
        if others:
            raise InputError(
                f"output {target} holds more than frames ({others[0]}): only folders of frames are replaced"
            )


def _stamp(path: Path) -> list[Any]:
    """Enough of a file, or of the frames of a folder, to see that it is still the same."""
    files = list_frames(path) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return [str(path.resolve()), len(files), hashlib.sha256(repr(facts).encode()).hexdigest()]
