"""Averages over a data set, by their artists."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.figures.rates import averages


def test_an_averaged_map_shows_its_values_within_the_limits(ax):
    values = np.linspace(5, 9, 15).reshape(3, 5)
    averages.mean_map(values, ax, limits=(3, 12))
    (drawn,) = ax.get_images()
    np.testing.assert_array_equal(drawn.get_array(), values)
    assert drawn.get_clim() == (3, 12) and drawn.colorbar.extend == "neither"


@pytest.mark.parametrize(
    ("limits", "extend"), [((6, 12), "min"), ((3, 8), "max"), ((6, 8), "both")]
)
def test_the_scale_points_to_values_beyond_a_crop(ax, limits, extend):
    averages.mean_map(np.linspace(5, 9, 15).reshape(3, 5), ax, limits=limits)
    assert ax.get_images()[0].colorbar.extend == extend
