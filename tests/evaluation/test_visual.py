"""Comparison pictures show the detail that differs, and every version of it."""

from __future__ import annotations

import numpy as np
import pytest

from davsr.evaluation.comparison import ACCENT, Version, comparison, enlarge_pixels, most_different


def test_the_most_different_region_is_found() -> None:
    a = np.zeros((120, 200, 3), np.uint8)
    b = a.copy()
    b[70:90, 150:170] = 90
    top, left, height, width = most_different(a, b)
    assert height == width == 36
    assert top <= 70 and top + height >= 90 and left <= 150 and left + width >= 170


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(64, 80), (48, 200), (300, 120)])
def test_every_version_is_in_the_picture(count: int, size: tuple[int, int]) -> None:
    colours = [(40 * i + 10, 200 - 30 * i, 90) for i in range(count)]
    versions = [
        Version(f"version {i}", np.full((*size, 3), colour, np.uint8), "12.34 dB", best=i == count - 1)
        for i, colour in enumerate(colours)
    ]
    picture = comparison("title", versions, "a footer " * 40, box=(4, 8, 24, 24))
    for colour in colours:
        assert (picture == np.array(colour, np.uint8)).all(axis=2).sum() > 3000
    assert (picture == np.array(ACCENT, np.uint8)).all(axis=2).sum() > 300


def test_enlarged_pixels_stay_what_they_are() -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    large = enlarge_pixels(image, (4, 2))
    assert large.shape == (8, 6, 3)
    np.testing.assert_array_equal(large[::4, ::2], image)
    np.testing.assert_array_equal(large[3::4, 1::2], image)
