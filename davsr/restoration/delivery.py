"""What the output will hold and when its frames are shown, settled and tried before work begins."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from davsr.data.timing import Schedule
from davsr.errors import InputError
from davsr.log import logger
from davsr.options import RestoreOptions
from davsr.restoration.encoder import check_container
from davsr.restoration.extras import FORMATS, Extras, choose_extras
from davsr.restoration.source import Source, VideoSource
from davsr.restoration.target import is_folder

_H265_WIDTH = 64  # pixels: narrower ones spoil x265's memory (measured: 48 does, 60 does not)
_MATROSKA_UNIT = Fraction(1, 1000)  # seconds: what Matroska files count


def deliverable(
    target: Path, lead: Source, s_t: int, size: tuple[int, int], options: RestoreOptions
) -> tuple[Schedule | None, Extras | None]:
    """When the output's frames are shown, `s_t` for each of `lead`, and what comes along beside them.

    Args:
        size: (H, W) of the output.

    Raises:
        InputError: the container of the output does not hold it, or is none that is written.
    """
    light = lead.signal.light
    if (light.display or light.content) and (is_folder(target) or options.codec == "ffv1"):
        place = "a folder of frames" if is_folder(target) else "ffv1"
        logger.info(f"left out of {lead.path}: mastering display and light levels, for which {place} has no place")
    if is_folder(target):
        if not lead.path.is_dir():
            logger.info(f"the sound of {lead.path}, if it has any, is left out: the output is a folder")
        return lead.schedule(s_t), None
    check_container(target, options.codec)
    if options.codec == "h265" and size[1] < _H265_WIDTH:
        raise InputError(
            f"output {target} must be {_H265_WIDTH} pixels wide or more for h265, got {size[1]}; give --codec h264"
        )
    extras = _extras(lead, options, target, s_t)
    beside = extras is not None and extras.timed and bool(extras.streams)
    schedule = lead.schedule(s_t, slower=s_t if options.slow_motion else 1, at_zero=not beside)
    if schedule is None:
        raise InputError(f"input {lead.path} is a folder, whose frames have no rate; give --rate to write a video")
    if FORMATS[target.suffix.lower()] == "matroska" and not schedule.distinct(_MATROSKA_UNIT):
        raise InputError(
            f"output {target} cannot hold {float(schedule.rate):g} frames a second: Matroska counts milliseconds; "
            "write to .mp4 or .mov"
        )
    return schedule, extras


def _extras(lead: Source, options: RestoreOptions, target: Path, s_t: int) -> Extras | None:
    """What comes along beside the picture; one line says what does not."""
    if not isinstance(lead, VideoSource):
        return None
    timed = not (options.slow_motion or options.rate or options.frames)
    rate = lead.schedule(s_t, slower=s_t if options.slow_motion else 1).rate
    finer, from_start = 1 if options.slow_motion else s_t, lead.kept[0] == 0
    extras = choose_extras(
        lead.path, target, audio=options.audio, timed=timed, finer=finer, rate=rate, from_start=from_start
    )
    if extras.encoded:
        tracks = ", ".join(str(index) for index in extras.encoded)
        logger.info(
            f"sound tracks {tracks} of {lead.path} are encoded as AAC: {target.suffix} cannot hold them as they are"
        )
    if extras.rewritten:
        tracks = ", ".join(str(index) for index in extras.rewritten)
        logger.info(f"subtitle tracks {tracks} of {lead.path} are rewritten as text that {target.suffix} can hold")
    if extras.left_out:
        why = "" if timed else "; slow motion, --rate and --frames change the video's length"
        logger.info(f"left out of {lead.path}: {', '.join(extras.left_out)}{why}")
    return extras


def pace(schedule: Schedule | None) -> str:
    """The rate of the output, in words; empty where it has none."""
    if schedule is None:
        return ""
    if schedule.steady:
        return f" at {schedule.rate} a second"
    return f" at a varying rate, {float(schedule.rate):.3f} a second on average, each at its time"
