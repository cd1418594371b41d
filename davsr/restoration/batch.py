"""A folder of videos, restored one after the other into another folder: `davsr restore in/ out/`."""

from __future__ import annotations

from pathlib import Path

from davsr.checkpoints.resolve import resolve
from davsr.data.clips import is_video
from davsr.data.frames import is_image, natural_key
from davsr.errors import InputError
from davsr.log import logger, logging_to
from davsr.log import progress as progress_bar
from davsr.options import Options
from davsr.restoration.extras import FORMATS
from davsr.restoration.flags import log_file, progress_on
from davsr.restoration.restore import restore_resolved
from davsr.restoration.target import is_folder
from davsr.runtime import setup

_OTHERWISE = ".mkv"  # the container of a video whose own is not written: it takes all sound and subtitles


def is_folder_of_videos(path: Path) -> bool:
    """Whether a folder holds video files and no frames: a folder of frames is a clip."""
    if not path.is_dir():
        return False
    inside = list(path.iterdir())
    return not any(is_image(file) for file in inside) and any(is_video(file) for file in inside)


def targets(source: Path, target: Path) -> dict[Path, Path]:
    """Where each video of a folder goes: under its own name, in its own container where that is written."""
    videos = sorted((file for file in source.iterdir() if is_video(file)), key=natural_key)
    places: dict[Path, Path] = {}
    for video in videos:
        suffix = video.suffix if video.suffix.lower() in FORMATS else _OTHERWISE
        place = target / f"{video.stem}{suffix}"
        if place in places.values() or (suffix != video.suffix and (source / place.name).exists()):
            place = target / f"{video.name}{suffix}"  # clip.avi beside clip.mkv
        places[video] = place
    return places


def restore_each(source: Path, target: Path, options: Options) -> int:
    """Restore every video of a folder; those that are done stay, and one that fails does not end the others.

    Returns:
        The exit code: 2 if any failed, with the reasons once more at the end.

    Raises:
        InputError: the output is no folder, or the model or the options are wrong.
    """
    # A folder that is named as a file would be taken for one.
    if not is_folder(target) or (target.exists() and not target.is_dir()):
        raise InputError(f"output {target} must be a folder, as the input is a folder of videos")
    if source.resolve() == target.resolve():
        raise InputError(f"output {target} must not be the input {source}")
    device = setup(options)
    with logging_to(None):
        resolved = resolve(options, device=device)
    done, kept, failed = 0, 0, dict[Path, str]()
    places = targets(source, target)
    for number, (video, place) in enumerate(places.items(), start=1):
        target.mkdir(parents=True, exist_ok=True)
        with logging_to(log_file(place, options.restore), waits=True):
            if place.exists() and not options.restore.overwrite:
                logger.info(f"{number}/{len(places)}: {place} is there already")
                kept += 1
                continue
            logger.info(f"{number}/{len(places)}: {video}")
            try:
                with progress_bar(None, video.name, "LR frame") as bar:
                    restore_resolved(video, place, resolved, device, progress_on(bar))
                done += 1
            except InputError as error:
                logger.warning(f"{error}")
                failed[video] = str(error)
    with logging_to(None):
        logger.info(f"{done} restored, {kept} were there already, {len(failed)} failed")
        for reason in failed.values():
            logger.warning(reason)
    return 2 if failed else 0
