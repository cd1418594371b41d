"""What a video file says about itself in words and numbers: tags, chapters, the time code, names of its tracks."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import av
from av.container import InputContainer
from av.stream import Stream

from davsr.data.container import AS_WRITTEN
from davsr.restoration.nowhere import add_picture

# Facts of the old file that are not true of the new one, or are told in another way.
_STALE: tuple[str, ...] = (
    *("timecode", "duration", "encoder", "bps", "number_of_", "_statistics", "rotate", "alpha_mode", "stereo_mode"),
    *("major_brand", "minor_version", "compatible_brands", "vendor_id"),
)
_MOST_NAMED = 8  # tags that one line names


def lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    """The tags that are as true of a file made from this one."""
    return {k: v for k, v in metadata.items() if not k.lower().startswith(_STALE)}


def movflags(tags: Mapping[str, str]) -> str:
    """How an ISO file is to be written, besides, so that it holds what phones say in names of their own.

    `com.apple.quicktime.location.ISO6709` and the like have a place only in a list of keys, which takes that of the
    classical tags.
    """
    return "+use_metadata_tags" if any("." in name for name in tags) else ""


def tags_without_place(tags: Mapping[str, str], format: str) -> str:
    """Those of `tags` that a container does not hold, in words; found out by writing and reading one."""
    flags = movflags(tags) if format != "matroska" else ""
    options = {"movflags": flags} if flags else {}
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=options) as out:
        picture = add_picture(out)
        out.metadata.update(tags)
        out.mux([*picture.encode(av.VideoFrame(picture.width, picture.height, "yuv420p")), *picture.encode(None)])
    file.seek(0)
    written: Any = av.open(file, "r", **AS_WRITTEN)
    with written:
        held = {name.lower() for name in written.metadata}
    lost = sorted(name for name in tags if name.lower() not in held)
    more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
    return f"tags {', '.join(lost[:_MOST_NAMED])}{more}" if lost else ""


def chapters_of(container: InputContainer) -> list[Any]:
    """As far as PyAV tells them: from version 16 on."""
    return list(container.chapters()) if hasattr(container, "chapters") else []


def is_told_elsewhere(stream: Stream, container: InputContainer) -> bool:
    """Whether a track holds nothing but the time code or the chapters, which go along as such."""
    if stream.type != "data" or stream.time_base is None:
        return False
    begins = [chapter["start"] * chapter["time_base"] for chapter in chapters_of(container)]
    entries = getattr(stream, "index_entries", ())  # of data tracks from PyAV 17 on; before it, such a track is named
    is_chapters = bool(begins) and begins == [entry.timestamp * stream.time_base for entry in entries]
    return is_chapters or _code_of(stream.metadata) is not None


def timecode(container: InputContainer, picture: Stream, finer: int) -> str | None:
    """The time code of the first picture, whose frames are counted `finer` times as finely in the output."""
    owners: list[Any] = [container, picture, *container.streams.data]
    code = next((code for owner in owners if (code := _code_of(owner.metadata))), None)
    match = re.fullmatch(r"(\d+:\d+:\d+[:;.])(\d{1,4})", code or "")
    return f"{match[1]}{int(match[2]) * finer:02d}" if match else code


def _code_of(metadata: Mapping[str, str]) -> str | None:
    return next((text for name, text in metadata.items() if name.lower() == "timecode"), None)  # Matroska shouts


def track_name(stream: Stream) -> str:
    """What a track is: its codec, or where that says nothing what the program that made it calls it."""
    codec = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    if stream.type == "data":
        codec = stream.metadata.get("handler_name") or codec
    return codec or "unknown"
