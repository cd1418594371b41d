"""HDR metadata of a whole file: mastering display and light levels where containers have them.

Encoders write them into the stream, where decoders look first; programs that do not decode (stores, television sets)
ask the container. FFmpeg writes them there if the stream that is copied has them, so it is given one that does: the
header of an ISO file with the boxes `mdcv` and `clli` (ISO/IEC 14496-12, 12.1.6) in it.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator

import av
from av.container import InputContainer

from davsr.data.colour import Light

_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")  # boxes around the description of the first stream
_LARGEST = 2**16 - 1  # cd/m^2 that a box can hold


@contextlib.contextmanager
def stream_with_light(part: InputContainer, light: Light) -> Iterator[av.VideoStream]:
    """The video stream of an open file, to be copied from; its container knows `light`."""
    stream = part.streams.video[0]
    if not (light.display or light.content):
        yield stream
        return
    header = io.BytesIO()
    with av.open(header, "w", format="mov") as out:
        copy = out.add_stream_from_template(stream)
        packet = next(packet for packet in part.demux(stream) if packet.size)
        packet.stream = copy
        out.mux(packet)
    part.seek(0)
    with av.open(io.BytesIO(_inserted(header.getvalue(), boxes(light)))) as described:
        yield described.streams.video[0]


def boxes(light: Light) -> bytes:
    """`mdcv` and `clli`, as far as they are known."""
    made = b""
    if light.display:
        made += struct.pack(">I4s8H2I", 32, b"mdcv", *light.display)
    if light.content:
        made += struct.pack(">I4s2H", 12, b"clli", *(min(value, _LARGEST) for value in light.content))
    return made


def _inserted(file: bytes, more: bytes) -> bytes:
    """An ISO file with boxes at the end of the description of its first stream; no offset points behind it."""
    data, position = bytearray(file), 0
    around = []
    for name in _WAY:
        while data[position + 4 : position + 8] != name:
            (length,) = struct.unpack_from(">I", data, position)
            position += length if length != 1 else struct.unpack_from(">Q", data, position + 8)[0]
        around.append(position)
        position += 8
    position += 8  # version and number of descriptions
    around.append(position)
    end = position + struct.unpack_from(">I", data, position)[0]
    for place in around:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(more))
    data[end:end] = more
    return bytes(data)
