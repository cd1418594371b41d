"""Scene cuts: found where shots change, not where a shot moves, flashes or fades."""

from __future__ import annotations

import numpy as np

from davsr.data.scenes import CutDetector, shots_of


def shot(seed: int, length: int, motion: int = 3) -> list[np.ndarray]:
    """Frames of a window that moves over coarse random colours."""
    rng = np.random.default_rng(seed)
    tint = rng.integers(0, 160, 3)
    wide = np.kron(rng.integers(0, 96, (20, 80, 3)), np.ones((8, 8, 1), int)) + tint
    return [wide[:144, motion * i : motion * i + 256].astype(np.uint8) for i in range(length)]


def test_cuts_are_found_exactly() -> None:
    frames = [*shot(1, 12), *shot(2, 1), *shot(3, 20, motion=9)]
    assert shots_of(frames) == ((0, 12), (12, 13), (13, 33))


def test_fast_motion_flashes_and_fades_are_no_cuts() -> None:
    moving = shot(4, 20, motion=15)
    fading = [np.clip(frame * (1 - i / 20), 0, 255).astype(np.uint8) for i, frame in enumerate(shot(5, 20))]
    still = [shot(6, 1)[0]] * 5
    for frames in (moving, fading, still):
        assert len(shots_of(frames)) == 1


def test_empty_clip_and_first_frame() -> None:
    assert shots_of([]) == ()
    assert not CutDetector().is_cut(shot(7, 1)[0])
