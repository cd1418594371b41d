"""Video files through PyAV: exact random access to upright RGB frames, and a writer that leaves no half file behind."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from davsr.data import colour
from davsr.data.container import decoded, media_url, open_container, picture_stream
from davsr.data.frames import crop_frames
from davsr.data.orientation import Orientation, orientation
from davsr.data.pictures import Pictures, look_through
from davsr.data.timing import JITTER, constant_rate, fitting
from davsr.errors import InputError
from davsr.guards.names import beside

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".vob", ".wmv", ".flv"}
    | {".3gp", ".ogv", ".y4m", ".gif"}
)


class VideoReader:
    """A video file as a clip (see `davsr.data.clips.Clip`).

    Opening reads nothing. The first question about length or times decodes the file once (`Pictures`): only the decoder
    knows how many pictures there are. Frames come upright (the display matrix is applied) in RGB by the matrix and
    range that the file states; a file that states none is taken as BT.709 from 720 lines on and as BT.601 below. HDR
    stays in its code values. More than 8 bits are rounded to 8.

    Objects may be copied to other processes; each opens the file for itself.

    Args:
        path: any file that FFmpeg reads.
        partial: take what is there of a file that is cut short or damaged.

    Raises:
        InputError: when the file is missing, holds no moving picture, is interlaced, transparent, cut short or damaged.
    """

    _inherited: Any = None

    def __init__(self, path: str | Path, *, partial: bool = False) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        self.partial = partial
        if not self.path.is_file():
            raise InputError(f"video {path} does not exist")
        self._pictures: Pictures | None = None
        self._forget()

    def _forget(self) -> None:
        self._container: Any = None
        self._stream: Any = None
        # A running decoder, the index of its next frame, and the process that it belongs to.
        self._decoded: Iterator[tuple[int, av.VideoFrame]] | None = None
        self._next = self._pid = 0
        self._first: Any = None

    def __getstate__(self) -> dict[str, Any]:
        opened = ("_pid", "_container", "_stream", "_decoded", "_next", "_first", "_inherited")
        return {name: value for name, value in self.__dict__.items() if name not in opened}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _open(self) -> av.VideoStream:
        """The video stream; a forked process must not share its parent's file position."""
        if self._container is None or self._pid != os.getpid():
            if self._pid not in (0, os.getpid()):  # to close it would be to wait for threads of its parent's decoder
                self._inherited = (self._inherited, self._container, self._stream, self._decoded, self._first)
            self._forget()
            self._container = open_container(self.path)
            self._stream = picture_stream(self._container, self.path)
            self._stream.thread_type = "AUTO" if self._pictures is None or self._pictures.threads else "SLICE"
            self._pid = os.getpid()
        return self._stream

    @property
    def pictures(self) -> Pictures:
        """What decoding the whole file shows."""
        if self._pictures is None:
            found = look_through(self.path)
            self.require_usable(found)
            self._forget()  # how it may be decoded is known now
            self._pictures = found
        return self._pictures

    def require_usable(self, found: Pictures) -> None:
        """Raise InputError for what cannot be read as one clip."""
        if not len(found):
            raise InputError(f"video {self.path} cannot be decoded: it holds no frames")
        if found.other_size is not None:
            i, h, w = found.other_size
            raise InputError(f"frames of video {self.path} must have one size, frame {i} is {w}x{h}")
        if found.interlaced is not None:
            raise InputError(
                f"video {self.path} must be progressive, got interlaced frames from frame {found.interlaced} on; "
                "deinterlace it first (ffmpeg -vf bwdif=1)"
            )
        if found.transparent is not None or self._open().metadata.get("alpha_mode") == "1":
            raise InputError(f"video {self.path} must have no alpha channel, got transparent frames")
        if found.cut_short and not self.partial:
            raise InputError(
                f"video {self.path} is truncated after frame {len(found)}; --partial restores what is there"
            )
        if found.lost and not self.partial:
            raise InputError(
                f"video {self.path} is damaged: {len(found.lost)} frames cannot be decoded, the first after frame "
                f"{found.lost[0]}; --partial restores what is there"
            )

    @property
    def times(self) -> list[int]:
        """Time stamps of all frames, in units of `time_base`, 0 being the container's begin."""
        return self.pictures.times

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of `times`."""
        return Fraction(self._open().time_base)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def first(self) -> av.VideoFrame:
        """The first decoded frame (`av.VideoFrame`), which carries the colour tags and the display matrix."""
        if self._first is None:
            with open_container(self.path) as container:  # its own: a demuxer has one position
                self._first = next(decoded(container, picture_stream(container, self.path)), None)
            if self._first is None:
                raise InputError(f"video {self.path} cannot be decoded: it holds no frames")
        return self._first

    @cached_property
    def orientation(self) -> Orientation:
        """How its frames must be turned to stand upright."""
        turn = orientation(self.first)
        if turn is None:
            raise InputError(f"video {self.path} must be rotated by quarter turns, got {self.first.rotation} degrees")
        return turn

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), upright."""
        return self.orientation.size(self.first.height, self.first.width)

    @property
    def rate(self) -> Fraction | None:
        """Frames per second, or None when frames do not come at one rate. Stamps may jitter by half a frame."""
        rate = constant_rate(self.times, self.time_base, self.pictures.rates[::-1], JITTER)
        return fitting(rate) if rate else None

    @cached_property
    def _tags(self) -> dict[str, int]:
        return colour.tags(self._open(), self.first)

    def colour_tags(self) -> dict[str, int]:
        """Matrix, range, transfer and primaries as H.273 numbers, for `VideoWriter`."""
        return dict(self._tags)

    @property
    def matrix(self) -> int:
        """Colour matrix, an H.273 number."""
        return self._tags["matrix"]

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        indices = range(len(self))[start:stop:step]
        out = np.empty((len(indices), *self.size, 3), np.uint8)
        for n, i in enumerate(indices):
            image = self.upright(self._decode(i))
            out[n] = image if image.dtype == np.uint8 else (image.astype(np.uint32) + 128) // 257
        return out

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        return crop_frames(self, indices, top, left, height, width)

    @property
    def aspect(self) -> Fraction:
        """Of a pixel, width to height, upright."""
        stated = Fraction(self._open().sample_aspect_ratio or 1)
        return 1 / stated if self.orientation.transpose else stated

    def picture(self, i: int) -> colour.Image:
        """Frame i in the depth that it has; see `upright`."""
        return self.upright(self._decode(i))

    def upright(self, frame: av.VideoFrame) -> colour.Image:
        """A decoded frame as RGB [h, w, 3], uint8 or, where it has more than 8 bits, uint16."""
        full_range = self._tags["range"] == colour.FULL
        return self.orientation.apply(colour.to_rgb(frame, self._tags["matrix"], full_range))

    def _decode(self, i: int) -> av.VideoFrame:
        """Frame i: goes on decoding when it lies ahead within the same group of pictures, seeks otherwise."""
        self._open()  # which forgets what a parent was decoding
        # Seeking costs at most a group of pictures; within 32 frames going on is never worse than that by much.
        if self._decoded is None or not 0 <= i - self._next <= 32:
            self._decoded = self._decode_from(i)
        running = self._decoded
        for index, frame in running:
            self._decoded, self._next = running, index + 1  # to open the file anew is to forget them
            if index == i:
                return frame
            if index > i:
                break
        self._decoded = None
        raise InputError(f"frame {i} of video {self.path} cannot be decoded: the file changed or is damaged")

    def _decode_from(self, i: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, frame) from a key frame at or before frame i on."""
        found, stream = self.pictures, self._open()
        if found.stamps:
            key = found.keys[max(bisect_right(found.keys, i) - 1, 0)] if found.keys else 0
            second = round(1 / found.base)
            # MPEG-TS is searched by decoding time, and a seek may land too late: then again from further back.
            for before in (0, second, 10 * second) if key else ():
                try:
                    self._container.seek(found.stamps[key] - before, stream=stream, backward=True)
                except av.FFmpegError:  # a file without an index, which not every container searches
                    break
                frames = ((self._index(f.pts), f) for f in decoded(self._container, stream, sought=True))
                known = ((index, f) for index, f in frames if index is not None)
                first = next(known, None)
                if first is not None and first[0] <= i:
                    yield first
                    yield from known
                    return
        first_frame = self._first
        self._container.close()  # else it is there, decoder and all, until cycles are looked for
        self._forget()  # anew from the start: the only way that is right for every file
        stream, self._first = self._open(), first_frame
        yield from enumerate(decoded(self._container, stream))

    def _index(self, stamp: int | None) -> int | None:
        if stamp is None:
            return None
        index = bisect_left(self.pictures.stamps, stamp)
        found = index < len(self.pictures.stamps) and self.pictures.stamps[index] == stamp
        return index if found else None

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Raise InputError unless the file decodes and is of a kind that can be read."""
        colour.require_known_matrix(self.matrix, self.path)
        assert self.pictures and self.orientation


class VideoWriter:
    """Writes uint8 RGB frames to a video file: under a temporary name until `close`, absent after an error.

    Odd sizes are kept exactly: they are stored without chroma subsampling, which 4:2:0 does not allow there.

    Args:
        path: the container follows the suffix.
        rate: frames per second; exact, so 24000/1001 stays what it is.
        codec: an FFmpeg encoder; its `crf` is the quality, lower is better.
        tags: `matrix`, `range`, `transfer`, `primaries` as H.273 numbers (see `VideoReader.colour_tags`).
        time_base: seconds per unit of the time stamps given to `write`; default 1 / rate.
    """

    def __init__(
        self,
        path: str | Path,
        rate: Fraction | int,
        *,
        codec: str = "libx264",
        crf: float = 16,
        preset: str = "medium",
        tags: dict[str, int] | None = None,
        time_base: Fraction | None = None,
    ) -> None:
        self.path = Path(path)
        self.partial = beside(self.path, ".", f".partial{self.path.suffix}", name=self.path.stem)
        self.rate = fitting(Fraction(rate))
        self.time_base = time_base or 1 / self.rate
        self.codec, self.crf, self.preset = codec, crf, preset
        self.tags = tags or colour.SDR_TAGS
        self._container: Any = None
        self._stream: Any = None
        self._count = 0
        self._durations: dict[int, int] = {}

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self, h: int, w: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(media_url(self.partial), "w")
        stream = self._container.add_stream(self.codec, rate=self.rate)
        stream.width, stream.height = w, h
        stream.pix_fmt = "yuv444p" if h % 2 or w % 2 else "yuv420p"
        context = stream.codec_context
        stream.time_base = context.time_base = self.time_base
        context.options = {"crf": str(self.crf), "preset": self.preset}
        context.colorspace = self.tags["matrix"]
        context.color_range = self.tags["range"]
        context.color_trc = self.tags["transfer"]
        context.color_primaries = self.tags["primaries"]
        self._stream = stream

    def write(self, image: np.ndarray, time: int | None = None, duration: int = 0) -> None:
        """Append a frame, uint8 RGB [h, w, 3]; its time (default: a period after the last), duration in `time_base`."""
        if self._container is None:
            self._open(*image.shape[:2])
        full_range = self.tags["range"] == colour.FULL
        frame = colour.from_rgb(image, self._stream.pix_fmt, 8, self.tags["matrix"], full_range)
        frame.pts = self._count if time is None else time
        frame.time_base = self.time_base
        self._durations[frame.pts] = duration
        self._count += 1
        self._mux(frame)

    def _mux(self, frame: av.VideoFrame) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._durations.pop(packet.pts, 0) or packet.duration
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file and move it to its place."""
        if self._container is None:
            return
        self._mux(None)
        self._container.close()
        self._container = None
        self.partial.replace(self.path)

    def abort(self) -> None:
        """Drop what was written."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self.partial.unlink(missing_ok=True)
