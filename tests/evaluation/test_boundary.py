"""The boundary of a mask."""

from __future__ import annotations

import numpy as np
import pytest

from svit.evaluation.boundary import boundary


def eroded_by_hand(mask: np.ndarray, reach: int) -> np.ndarray:
    """The band, pixel by pixel: something outside lies within `reach`, the outside of the image too."""
    height, width = mask.shape
    band = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        rows = range(y - reach, y + reach + 1)
        columns = range(x - reach, x + reach + 1)
        band[y, x] = not all(
            0 <= row < height and 0 <= column < width and mask[row, column]
            for row in rows
            for column in columns
        )
    return band


@pytest.mark.parametrize("hw", [(9, 12), (40, 60), (60, 81), (1, 30)])
def test_the_band_is_what_lies_near_the_outside(hw):
    random = np.random.default_rng(0)
    reach = max(1, round(0.02 * np.hypot(*hw)))
    for share in (0.0, 0.6, 0.97, 1.0):
        mask = random.random(hw) < share
        assert (boundary(mask) == eroded_by_hand(mask, reach)).all()
