"""A few frames from the middle, restored to look at, and how long the whole would take: `davsr restore --preview`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import torch

from davsr.checkpoints.resolve import Resolved
from davsr.data.frames import read_image, write_image
from davsr.guards.names import beside
from davsr.log import logger
from davsr.pixels import eight_bits
from davsr.restoration.restore import restore_resolved
from davsr.restoration.source import open_source
from davsr.restoration.streaming import Progress
from davsr.restoration.target import is_folder

FRAMES = 10  # LR frames: a window of the largest size that is chosen


def preview(
    source: Path, target: Path, resolved: Resolved, device: torch.device, progress: Progress | None = None
) -> Path:
    """Restore `FRAMES` LR frames from the middle into `<target>-preview`, with a picture of before and after beside it.

    Returns:
        The picture: an input frame enlarged by bicubic interpolation, and the restored frame at its time.

    Raises:
        InputError: as `restore`.
    """
    options = resolved.options.restore
    clip = open_source(source, options=options)
    count = len(clip)
    length = min(FRAMES, count)
    start = (count - length) // 2
    place = beside(target, "", f"-preview{target.suffix}", name=target.stem)
    part = replace(options, frames=f"{start}:{start + length}", drop_duplicates=False, overwrite=True)
    made = restore_resolved(
        source, place, replace(resolved, options=replace(resolved.options, restore=part)), device, progress
    )
    s_t = 1 if options.deblur else resolved.options.degradation.scale[0]
    middle = length // 2
    before = clip.frames(start + middle, start + middle + 1)[0]
    shown = s_t * middle + s_t // 2
    if is_folder(place):
        after = read_image(place / f"{shown:08d}.png")
    else:
        after = eight_bits(next(open_source(place).read(shown)))
    enlarged = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    picture = beside(place, "", ".png", name=place.name if is_folder(place) else place.stem)
    write_image(picture, np.concatenate([enlarged, after], axis=1))
    whole = timedelta(seconds=round(made.seconds * count / length))
    logger.info(
        f"{picture}: input and result; all {count} frames would take about {whole} ({made.seconds:.1f} s for {length})"
    )
    return picture
