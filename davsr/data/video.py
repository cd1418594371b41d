"""Video files through PyAV: exact random access to upright RGB frames, and a writer that leaves no half file behind."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, ColorTrc, Interpolation

from davsr.data.frames import crop_frames
from davsr.errors import InputError

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".y4m", ".gif"})

# swscale's fast paths are off by up to 5 levels; these flags make the conversion round correctly.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
_BT709, _BT601 = 1, 6  # colour matrices as H.273 numbers them
_UNKNOWN_MATRIX = 2
_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}


class VideoReader:
    """A video file as a clip (see `davsr.data.clips.Clip`).

    Opening reads nothing; the first question about length or frames reads the packet index (no decoding). Frames come
    upright (the rotation tag is applied) in RGB by the matrix and range that the file states; a file that states none
    is taken as BT.709 from 720 lines on and as BT.601 below. More than 8 bits are rounded to 8.

    Objects may be copied to other processes; each opens the file for itself.

    Raises:
        InputError: when the file is missing, holds no video, is interlaced or HDR, or cannot be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        if not self.path.is_file():
            raise InputError(f"video {path} does not exist")
        self._forget()

    def _forget(self) -> None:
        self._pid: int | None = None
        self._container: Any = None
        self._times: list[int] | None = None  # time stamps of the frames in the order of display
        self._keys: list[int] | None = None  # indices of key frames where time stamps do not tell frames apart
        self._decoded: Iterator[tuple[int, Any]] | None = None  # a running decoder, and the index of its next frame
        self._next = 0
        self._first: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _open(self) -> Any:
        """The video stream; a forked process must not share its parent's file position."""
        if self._container is None or self._pid != os.getpid():
            # Closing what a parent opened would wait for its decoder's threads, which are not in this process.
            self._inherited = (self._container, self._decoded, self._first)
            self._forget()
            try:
                self._container = av.open(str(self.path))
            except (av.FFmpegError, OSError) as error:
                raise InputError(f"video {self.path} cannot be opened: {error.strerror}") from None
            if not self._container.streams.video:
                raise InputError(f"video {self.path} cannot be opened: it holds no video stream")
            self._pid = os.getpid()
            self._container.streams.video[0].thread_type = "AUTO"
        return self._container.streams.video[0]

    @property
    def times(self) -> list[int]:
        """Time stamps of all frames, in units of `time_base`."""
        stream = self._open()
        if self._times is None:
            self._times = self._index(stream)
        return self._times

    def _index(self, stream: Any) -> list[int]:
        try:
            with av.open(str(self.path)) as container:  # its own: a demuxer has one position
                packets = [p for p in container.demux(container.streams.video[0]) if p.size and not p.is_discard]
        except av.FFmpegError as error:
            raise InputError(f"video {self.path} is damaged: {error.strerror}") from None
        if any(p.pts is None for p in packets):
            raise InputError(f"video {self.path} carries no time stamps; put it into an mp4 or mkv file first")
        times = sorted({int(p.pts) for p in packets})
        if not times:
            raise InputError(f"video {self.path} holds no frames")
        if all(p.pts == p.dts for p in packets):
            # Stamped in the order of decoding: without B-frames that is the order of display, with them the stamps
            # are swapped among the frames. Counting from a key frame is right in both cases.
            self._keys = [i for i, p in enumerate(packets) if p.is_keyframe]
        return times

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of `times`."""
        return Fraction(self._open().time_base)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def first(self) -> Any:
        """The first decoded frame (`av.VideoFrame`), which carries the colour tags and the rotation."""
        if self._first is None:
            self._first = self._decode(0)
        return self._first

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), upright."""
        h, w = self.first.height, self.first.width
        return (w, h) if self.first.rotation % 180 else (h, w)

    @property
    def rate(self) -> Fraction | None:
        """Frames per second, or None when frames do not come at one rate.

        Containers round time stamps (mkv to milliseconds): a rate holds if no time stamp is off by more than a unit.
        """
        times, base = self.times, self.time_base
        stated = self._open().average_rate or self._open().guessed_rate
        if len(times) == 1:
            return Fraction(stated) if stated else None
        mean = Fraction(len(times) - 1, 1) / ((times[-1] - times[0]) * base)
        for rate in [Fraction(r) for r in (stated, self._open().guessed_rate) if r] + [mean]:
            period = 1 / (rate * base)
            if all(abs(t - times[0] - i * period) <= 1 for i, t in enumerate(times)):
                return rate
        return None

    @property
    def matrix(self) -> int:
        """Colour matrix, an H.273 number."""
        stated = int(self.first.colorspace)
        if stated not in (_UNKNOWN_MATRIX, 0, 3) or self.first.format.is_rgb:
            return stated
        return _BT709 if self.first.height >= 720 else _BT601

    def colour_tags(self) -> dict[str, int]:
        """Matrix, range, transfer and primaries as H.273 numbers, for `VideoWriter`."""
        first = self.first
        return {
            "matrix": self.matrix if not first.format.is_rgb else _BT709,
            "range": int(first.color_range) or int(ColorRange.MPEG),
            "transfer": int(first.color_trc),
            "primaries": int(first.color_primaries),
        }

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, uint8 RGB [n, h, w, 3]."""
        indices = range(len(self))[start:stop:step]
        out = np.empty((len(indices), *self.size, 3), np.uint8)
        for n, i in enumerate(indices):
            out[n] = self._rgb(self._decode(i), i)
        return out

    def crop(self, indices: Sequence[int], top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top.. and columns left.. of the frames `indices`, uint8 RGB [n, height, width, 3]."""
        return crop_frames(self, indices, top, left, height, width)

    def _decode(self, i: int) -> Any:
        """Frame i: goes on decoding when it lies ahead within the same group of pictures, seeks otherwise."""
        times = self.times
        # Seeking costs at most a group of pictures; within 32 frames going on is never worse than that by much.
        if self._decoded is None or not 0 <= i - self._next <= 32:
            self._decoded = self._decode_from(times[i], i)
        try:
            for index, frame in self._decoded:
                self._next = index + 1
                if index == i and not frame.is_corrupt:
                    return frame
                if index >= i:
                    break
        except av.FFmpegError:
            pass
        self._decoded = None
        raise InputError(f"frame {i} of video {self.path} cannot be decoded: the file is damaged")

    def _decode_from(self, time: int, i: int) -> Iterator[tuple[int, Any]]:
        """(index, frame) from the last key frame at or before frame i on."""
        stream = self._open()
        if self._keys is not None:
            self._container.seek(time, stream=stream, backward=True)
            yield from enumerate(self._container.decode(stream), max((k for k in self._keys if k <= i), default=0))
            return
        second = round(1 / self.time_base)
        # MPEG-TS is searched by decoding time, and a seek may land too late: then again from further back.
        for start in (time, time - second, time - 10 * second, self.times[0] - second):
            self._container.seek(start, stream=stream, backward=True)
            found = ((bisect_left(self.times, f.pts), f) for f in self._container.decode(stream) if f.pts is not None)
            first = next(found, None)
            if first is not None and first[0] <= i:
                yield first
                yield from found
                return

    def _rgb(self, frame: Any, i: int, format: str = "rgb24") -> np.ndarray:
        if frame.interlaced_frame:
            raise InputError(f"video {self.path} must be progressive, got interlaced frames; deinterlace it first")
        if int(frame.color_trc) in _HDR:
            raise InputError(f"video {self.path} must be SDR, got {_HDR[int(frame.color_trc)]}; map its tones first")
        if (frame.height, frame.width) != (self.first.height, self.first.width):
            raise InputError(f"frames of video {self.path} must have one size, frame {i} is different")
        rgb = frame.to_ndarray(format=format, src_colorspace=self.matrix, interpolation=EXACT)
        return np.rot90(rgb, frame.rotation // 90)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Raise InputError unless the first frame decodes and is of a kind that can be read."""
        self._rgb(self.first, 0)


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
        self.partial = self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
        self.rate = Fraction(rate)
        self.time_base = time_base or 1 / self.rate
        self.codec, self.crf, self.preset = codec, crf, preset
        self.tags = tags or {"matrix": _BT709, "range": int(ColorRange.MPEG), "transfer": 1, "primaries": 1}
        self._container: Any = None
        self._stream: Any = None
        self._count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self, h: int, w: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self.partial), "w")
        stream = self._container.add_stream(self.codec, rate=self.rate)
        stream.width, stream.height = w, h
        stream.pix_fmt = "yuv444p" if h % 2 or w % 2 else "yuv420p"
        stream.time_base = self.time_base
        context = stream.codec_context
        context.time_base = self.time_base
        context.options = {"crf": str(self.crf), "preset": self.preset}
        context.colorspace = self.tags["matrix"]
        context.color_range = self.tags["range"]
        context.color_trc = self.tags["transfer"]
        context.color_primaries = self.tags["primaries"]
        self._stream = stream

    def write(self, image: np.ndarray, time: int | None = None) -> None:
        """Append one frame, uint8 RGB [h, w, 3]; `time` in units of `time_base`, default one period after the last."""
        if self._container is None:
            self._open(*image.shape[:2])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=self.tags["matrix"],
            dst_color_range=self.tags["range"],
            interpolation=EXACT,
        )
        frame.pts = self._count if time is None else time
        frame.time_base = self.time_base
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and move it to its place."""
        if self._container is None:
            return
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        self.partial.replace(self.path)

    def abort(self) -> None:
        """Drop what was written."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self.partial.unlink(missing_ok=True)
