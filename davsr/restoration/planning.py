"""Sizes of windows and tiles from the memory that is free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch

from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, RestoreOptions
from davsr.physics.operator import Operator
from davsr.restoration.cutting import Plan, cover
from davsr.restoration.memory import free_memory

GIGABYTE = 2**30
LONGEST = 40  # LR frames of a window: what two of them share by default is a fifth of it then
SHARE = 0.6  # of the free memory: the rest stays for the file cache and for others
MODEST = 2.0  # GB that are taken without being stated, if more would not be ...
_WORTH = 1.15  # ... so many times as fast
_CEILING = 0.88  # of what is stated, or modest: beyond it nothing stays with the process that it has freed
_PROCESS = 0.48 * GIGABYTE  # interpreter, torch, the model's code, and what a model takes for the smallest piece
# Bytes for every pixel of every HR frame of a piece, measured (docs/performance.md).
_ALONG_FLOW = 26.0  # measured 24, finished frames included: x, and what a frame at a time is made from
_OTHERWISE = 58.0  # 48 to 55 with half of them left: resized or blended as one volume
# Three volumes, which take turns, and the motion: 44 bytes, measured 48 to 51 in all, the learned prior included.
_ROUNDS = 28.0
# Rounds that go by groups: two volumes in half precision, and the motion of LR frames. Beside them, for every pixel of
# a frame: the frames that are in work; measured 330 to 430 bytes.
_GROUPED, _IN_WORK = 13.0, 430.0
# A volume more, the support, and holes between them, where the C library keeps what is freed: measured 66 to 82 in all.
_LEARNED_ROUNDS = 58.0
_PER_CHANNEL = 3.75  # of the network: features and four branches at a quarter of the side, and what makes the next one
_WRITING = 40.0  # bytes for each pixel of a frame that is checked, put together from tiles, and brought to YUV
_MOST_CUTS = 12  # of a side
_DISK = 1.03  # what writing frames to a file and reading them costs, as work


def bytes_per_pixel(model: DAVSR | None) -> float:
    """Peak bytes that a model takes for every pixel of every HR frame of a piece (measured, docs/performance.md)."""
    if model is None:
        return _OTHERWISE
    options = model.options
    rounds = (_LEARNED_ROUNDS if options.rounds.channels else _ROUNDS) if options.rounds.count else 0.0
    network = _PER_CHANNEL * options.enhancement.channels if options.enhancement.kind == "rve" else 0.0
    return (_ALONG_FLOW if options.interpolation.method == "flow" else _OTHERWISE) + rounds + network


@dataclass(frozen=True)
class Memory:
    """Peak bytes of a piece: for every pixel of every HR frame, and for every pixel of a frame, however many."""

    per_pixel: float
    in_work: float = 0.0

    @classmethod
    def of(cls, model: DAVSR, operator: Operator, device: torch.device, linear: bool = False) -> Memory:
        """What a model takes on a device; `linear`: light is made linear first."""
        copies = 2 if linear else 1
        if model.options.interpolation.method == "flow" and model.can_wait_in_half(operator, device):
            return cls(_GROUPED, copies * _IN_WORK)
        return cls(copies * bytes_per_pixel(model))


def whole_process(size: float) -> float:
    """GB of a process that takes so many bytes for frames and pieces."""
    return (size + _PROCESS) / GIGABYTE


def default_overlap(degradation: DegradationOptions, model: DAVSR | None) -> int:
    """LR frames that windows share, at the knee of the curve in docs/restoration.md.

    One on each side for the interpolation alone; a recurrent network and rounds along the motion look farther, and a
    recurrence that corrects the motion farther still. More where exposures reach into their neighbours.
    """
    s_t = degradation.scale[0]
    exposure = degradation.exposure or s_t
    beyond = max(degradation.phase + exposure - s_t, -degradation.phase, 0)
    far = 4 if _corrects_motion(model) else 2 if _looks_far(model) else 1
    return 2 * (far + math.ceil(beyond / s_t))


def default_margin(model: DAVSR | None) -> int:
    """LR pixels of context around a tile, at the knee of the curve in docs/restoration.md."""
    return 24 if _looks_far(model) else 8


def stated_margin(options: RestoreOptions, model: DAVSR | None) -> int:
    """`size_patch_margin`; where it is auto the default one, or what a stated tile leaves room for."""
    if options.size_patch_margin != "auto":
        return int(options.size_patch_margin)
    tile = 0 if options.size_patch_testing == "auto" else int(options.size_patch_testing)
    return min(default_margin(model), (tile - 1) // 2) if tile else default_margin(model)


def _looks_far(model: DAVSR | None) -> bool:
    """Whether what a pixel shows travels over many frames."""
    return model is not None and (
        model.options.enhancement.kind in ("rve", "recurrent") or model.options.rounds.count > 0
    )


def _corrects_motion(model: DAVSR | None) -> bool:
    enhancement = None if model is None else model.options.enhancement
    return enhancement is not None and enhancement.kind == "recurrent" and enhancement.alignment_groups > 0


def host_budget(memory: float) -> float:
    """Bytes for frames and pieces on the CPU: of `memory` GB if given, of what is free otherwise."""
    return memory * GIGABYTE - _PROCESS if memory else SHARE * free_memory(torch.device("cpu"))


def ceiling(memory: float) -> float:
    """Bytes of the process beyond which it keeps nothing that it has freed: of `memory` GB if given."""
    return _CEILING * (memory or MODEST) * GIGABYTE


@dataclass(frozen=True)
class Economy:
    """How reading and writing save memory (measured, docs/performance.md)."""

    x264: str = ""  # parameters of the encoder
    held: int = 130  # frames' worth of memory that it takes: look-ahead, references, and what it knows of them
    written: int = 8  # HR frames that may wait for it where windows lie on disk
    read: int | None = None  # LR frames that may be read ahead; None: as many as a window has

    @classmethod
    def of(cls, size: tuple[int, int], memory: float) -> Economy:
        """The one for frames (H, W) and the `memory` GB that are stated, if any."""
        frame = 1.5 * math.prod(size)  # bytes
        for economy, share in ((cls(), 6), (SHORT_LOOKAHEAD, 4)):
            if not memory or host_budget(memory) >= share * economy.held * frame:
                return economy
        return LEAST_MEMORY

    def encoder_bytes(self, pixels: int) -> float:
        """What an encoder takes for frames of so many pixels."""
        return 1.5 * pixels * self.held

    def reading_bytes(self, size: tuple[int, int], plan: Plan) -> float:
        """Bytes of LR frames (h, w) that may be read before they are needed."""
        return 4.0 * 3 * math.prod(size) * (self.read or plan.window or LONGEST)

    def writing_bytes(self, size: tuple[int, int], scale: tuple[int, int, int], plan: Plan) -> float:
        """Bytes of HR frames that may wait for the encoder: those of a window, if they lie in memory anyway.

        Args:
            size, scale: as of `choose_plan`.
        """
        frames = self.written if plan.on_disk else scale[0] * (plan.window or LONGEST)
        return 2.0 * 3 * math.prod(size) * math.prod(scale[1:]) * frames


SHORT_LOOKAHEAD = Economy("rc-lookahead=10", held=65)
LEAST_MEMORY = Economy("rc-lookahead=5:ref=1:bframes=1", held=36, written=2, read=2)


@dataclass(frozen=True)
class Cost:
    """What a plan costs."""

    work: float  # beside that of the whole clip in one piece
    frames: float  # bytes beside the pieces
    piece: float  # bytes of a piece
    after: float = 0.0  # bytes when the last piece is gone, which are not there before

    def need(self, device: bool) -> float:
        """Bytes on the CPU, where the pieces may be on a device."""
        return max(self.frames + (0.0 if device else self.piece), self.after)


def choose_plan(
    size: tuple[int, int],
    scale: tuple[int, int, int],
    per_pixel: float | Memory,
    host: float,
    *,
    device: float | None = None,
    frames: int | None = None,
    window: int | None = None,
    overlap: int = 2,
    tile: int | None = None,
    margin: int = 24,
    modest: float = float("inf"),
    economy: Economy = Economy(),
) -> Plan:
    """The windows and tiles that waste the least work on overlaps among those that fit into memory.

    Args:
        size: LR (h, w).
        scale: (s_t, s_h, s_w).
        per_pixel: bytes for each pixel of each HR frame of a piece, see `bytes_per_pixel`, or what else it takes.
        host: bytes that may be taken on the CPU.
        device: bytes for the pieces themselves, where they are computed elsewhere; None: they count with `host`.
        frames: LR frames of the clip; None: many.
        window, tile: given sizes (0: whole); None: chosen. What is not chosen is not questioned either.
        overlap, margin: see `Plan`.
        modest: bytes beyond which only what is worth it is taken: the least with nearly the least work.
        economy: of reading and writing.

    Raises:
        InputError: nothing fits; says what would be needed.
    """
    h, w = size
    cuts = [(side, 0) for side in [tile]] if tile is not None else _grids(h, w, margin)
    stated = window is not None and tile is not None
    fitting: list[tuple[float, float, Plan]] = []  # (work, bytes, plan)
    least = float("inf")
    # Whatever reads on for at least one frame beyond its window needs a window of more than the overlap.
    for length in [window] if window is not None else range(max(LONGEST, overlap + 1), overlap, -1):
        for (tall, wide), on_disk in product(cuts, (False, True)):
            plan = Plan(length, min(overlap, length - 1) if length else 0, tall, margin, wide, on_disk)
            cost = cost_of(plan, size, scale, per_pixel, frames, economy)
            need = cost.need(device is not None)
            fits = need <= host and (device is None or cost.piece <= device)
            least = min(least, need if device is None else max(need, cost.piece))
            if fits or stated:
                fitting.append((cost.work, need, plan))
    if not fitting:
        free = host if device is None else min(host, device)
        raise InputError(
            f"restore.memory: {w}x{h} at scale {scale} needs {least / GIGABYTE:.1f} GB beside the process, "
            f"{free / GIGABYTE:.1f} GB are free; give a smaller size_patch_testing or num_frame_testing"
        )
    best = min(work for work, _, _ in fitting)
    worth = [entry for entry in fitting if entry[0] <= _WORTH * best]
    little = [entry for entry in worth if entry[1] <= modest]
    return min(little, key=lambda entry: entry[:2])[2] if little else min(worth, key=lambda entry: entry[1])[2]


def _grids(h: int, w: int, margin: int) -> list[tuple[int, int]]:
    """(height, width) of the tiles of which there are 1, 2, ... in each direction; 0: whole."""

    def sides(size: int) -> list[int]:
        parts = [-(-(size + 2 * margin * (n - 1)) // n) for n in range(2, _MOST_CUTS + 1)]
        return [0, *(side for side in parts if 2 * margin + 15 < side < size)]

    whole = max(w, 2 * margin + 1)
    return [(tall, wide or (whole if tall else 0)) for tall in sides(h) for wide in sides(w)]


@lru_cache(maxsize=4096)
def _covered(size: int, tile: int, margin: int) -> tuple[int, int]:
    """How many tiles cover a side, and how long each of them is."""
    intervals = cover(size, tile, margin)
    return len(intervals), intervals[0][1]


def cost_of(
    plan: Plan,
    size: tuple[int, int],
    scale: tuple[int, int, int],
    per_pixel: float | Memory,
    frames: int | None = None,
    economy: Economy = Economy(),
) -> Cost:
    """What a plan costs; arguments as of `choose_plan`."""
    (h, w), (s_t, s_h, s_w) = size, scale
    memory = per_pixel if isinstance(per_pixel, Memory) else Memory(per_pixel)
    length = plan.window or frames or LONGEST
    windows = length / (length - plan.overlap)  # of an endless clip, per useful frame
    if frames is not None:
        length = min(length, frames)
        windows = (1 + -(-(frames - length) // max(length - plan.overlap, 1))) * length / frames
    (rows, tall), (columns, wide) = (
        _covered(h, plan.tile, plan.margin),
        _covered(w, plan.tile_width or plan.tile, plan.margin),
    )
    cover = rows * tall * columns * wide / (h * w)
    pixels = s_h * h * s_w * w  # of an HR frame
    # 16-bit frames of a window, and of its predecessor's end.
    kept = economy.written if plan.on_disk else cover * s_t * (length + plan.overlap / 2)
    reading = 4 * 3 * h * w * length + economy.reading_bytes(size, plan)
    held = 2 * 3 * pixels * kept + reading
    writing = economy.encoder_bytes(pixels) + _WRITING * pixels
    # A window's memory is given back where it is the last one: what is written then comes after it.
    alone = frames is not None and length >= frames
    return Cost(
        cover * windows * (_DISK if plan.on_disk else 1),
        held + (0 if alone else writing),
        (memory.per_pixel * s_t * length + memory.in_work) * s_h * tall * s_w * wide,
        held + writing if alone else 0,
    )
