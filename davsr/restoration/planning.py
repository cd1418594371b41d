"""Sizes of windows and tiles from the memory that is free."""

from __future__ import annotations

import math

import torch

from davsr.errors import InputError
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration.cutting import Plan
from davsr.restoration.memory import free_memory

GIGABYTE = 2**30
LONGEST = 10  # LR frames of a window: the published protocol's
_SHARE = 0.6  # of the free memory: the rest stays for the file cache and for others
_QUEUES = 0.1  # of the memory, for frames that wait between reading, network and writing
_PROCESS = 0.6 * GIGABYTE  # interpreter, torch and the model's code
# Bytes for every pixel of every HR frame of a piece, measured (docs/restoration.md).
_TRAINING_FREE = 48.0  # measured 40 to 43: x, z, and the interpolation's resized frames and flows
# Measured 50 to 58 in all: three volumes that take turns and the motion; a recurrent prior begins when two are free.
_ROUNDS = 16.0
_LEARNED_ROUNDS = 70.0  # 73 to 111 in all: the support too, and cells
_PER_CHANNEL = 3.75  # of the network: features and four branches at a quarter of the side, and what makes the next one
_ENCODER_FRAMES = 80  # that an encoder holds for its look-ahead and its references


def bytes_per_pixel(model: DAVSR | None) -> float:
    """Peak bytes that a model takes for every pixel of every HR frame of a piece (measured, see
    docs/restoration.md).
    """
    if model is None:
        return _TRAINING_FREE
    options = model.options
    rounds = (_LEARNED_ROUNDS if options.rounds.channels else _ROUNDS) if options.rounds.count else 0.0
    network = _PER_CHANNEL * options.enhancement.channels if options.enhancement.kind == "rve" else 0.0
    return _TRAINING_FREE + rounds + network


def default_overlap(degradation: DegradationOptions, model: DAVSR | None) -> int:
    """LR frames that windows share, at the knee of the curve in docs/restoration.md.

    One on each side for the interpolation alone; a recurrent network and rounds along the motion look farther. More
    where exposures reach into their neighbours.
    """
    s_t = degradation.scale[0]
    exposure = degradation.exposure or s_t
    beyond = max(degradation.phase + exposure - s_t, -degradation.phase, 0)
    return 2 * ((2 if _looks_far(model) else 1) + math.ceil(beyond / s_t))


def shorter_overlap(degradation: DegradationOptions, model: DAVSR | None) -> int:
    """LR frames that windows share where memory is so short that `default_overlap` would double the work.

    Still over 50 dB.
    """
    return default_overlap(degradation, model) - (2 if _looks_far(model) else 0)


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


def host_budget(memory: float) -> float:
    """Bytes for frames and pieces on the CPU: of `memory` GB if given, of what is free otherwise."""
    if memory:
        return (1 - _QUEUES) * memory * GIGABYTE - _PROCESS
    return _SHARE * free_memory(torch.device("cpu"))


def queue_bytes(memory: float, size: tuple[int, int], scale: tuple[int, int, int], plan: Plan) -> float:
    """Bytes of frames that may wait between two stages: a window of them where there is memory, else some of them.

    Args:
        memory, size, scale: as of `host_budget` and `choose_plan`.
    """
    whole = memory * GIGABYTE if memory else free_memory(torch.device("cpu"))
    window = 2 * 3 * math.prod(size) * math.prod(scale) * (plan.window or LONGEST)
    return min(window, _QUEUES / 2 * whole)


def choose_plan(
    size: tuple[int, int],
    scale: tuple[int, int, int],
    per_pixel: float,
    host: float,
    *,
    device: float | None = None,
    window: int | None = None,
    overlap: int = 2,
    shorter: int | None = None,
    tile: int | None = None,
    margin: int = 24,
) -> Plan:
    """The windows and tiles that waste the least work on overlaps among those that fit into memory.

    Args:
        size: LR (h, w).
        scale: (s_t, s_h, s_w).
        per_pixel: bytes for each pixel of each HR frame of a piece, see `bytes_per_pixel`.
        host: bytes that may be taken on the CPU.
        device: bytes for the pieces themselves, where they are computed elsewhere; None: they count with `host`.
        window, tile: given sizes (0: whole); None: chosen. What is not chosen is not questioned either.
        overlap, margin: see `Plan`.
        shorter: an overlap that is taken instead where this halves the work; None: none is.

    Raises:
        InputError: nothing fits; says what would be needed.
    """
    h, w = size
    sides = [0, *range(_ceil(max(h, w), 32) - 32, 2 * margin + 15, -32)] if tile is None else [tile]
    if tile is None and len(sides) == 1:
        sides = [0]
    best: tuple[float, Plan] | None = None
    least = float("inf")
    for shared in dict.fromkeys([overlap, overlap if shorter is None else shorter]):
        penalty = 1 if shared == overlap else 2
        # Whatever reads on for at least one frame beyond its window needs a window of more than the overlap.
        for length in [window] if window is not None else range(max(LONGEST, shared + 1), shared, -1):
            for side in sides:
                plan = Plan(length, min(shared, length - 1) if length else 0, side, margin)
                work, frames, pieces = _cost(plan, size, scale, per_pixel)
                need = frames + pieces if device is None else max(frames, 0)
                fits = need <= host and (device is None or pieces <= device)
                least = min(least, need if device is None else max(need, pieces))
                if (fits or (window is not None and tile is not None)) and (best is None or penalty * work < best[0]):
                    best = penalty * work, plan
    if best is None:
        free = host if device is None else min(host, device)
        raise InputError(
            f"restore.memory: {w}x{h} at scale {scale} needs {least / GIGABYTE:.1f} GB beside the process, "
            f"{free / GIGABYTE:.1f} GB are free; give a smaller size_patch_testing or num_frame_testing"
        )
    return best[1]


def _cost(
    plan: Plan, size: tuple[int, int], scale: tuple[int, int, int], per_pixel: float
) -> tuple[float, float, float]:
    """(work per useful pixel, bytes of whole frames, bytes of a piece)."""
    (h, w), (s_t, s_h, s_w) = size, scale
    length = plan.window or LONGEST
    rows, columns = plan.cuts(h, w)
    tall, wide = rows[0][1], columns[0][1]
    work = len(rows) * tall * len(columns) * wide / (h * w) * length / (length - plan.overlap)
    frame = 3 * s_h * h * s_w * w  # samples
    kept = 2 * frame * s_t * (length + plan.overlap)  # 16-bit frames of a window, and of its predecessor's end
    # Twice the band: once was measured to be too little, with what frames in passing take.
    band = 0 if len(rows) == len(columns) == 1 else 2 * 4 * frame * s_t * length * tall / h
    encoder = 1.5 * s_h * h * s_w * w * _ENCODER_FRAMES
    reading = 2 * 4 * 3 * h * w * 2 * length
    check = 4 * frame
    return work, kept + band + encoder + reading + check, per_pixel * s_t * length * s_h * tall * s_w * wide


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step
