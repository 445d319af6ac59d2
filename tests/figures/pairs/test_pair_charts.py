"""Overlap, differences and deltas by their artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from support.runs import parts, trace_of

from analysis.figures.pairs import deltas, difference, overlap
from analysis.numbers import agreement
from svit.core.statistics import Interval

ONE = parts(1)
TRACE, GRID = ONE["trace"], ONE["trace"].grid


def test_overlap_stands_above_chance(ax):
    other = trace_of(1, GRID, np.zeros(GRID.grid_hw), 9)
    frame = agreement.agreement_frame([(TRACE, other)])
    overlap.print(frame, ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), frame["iou"])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), frame["chance"])


def test_an_overlap_has_the_spread_of_its_images(ax):
    others = [trace_of(1, GRID, np.zeros(GRID.grid_hw), seed) for seed in (9, 10)]
    couples = [(TRACE, other) for other in others]
    frame = agreement.agreement_frame(couples, spread=True)
    single = [agreement.agreement_frame([couple])["iou"] for couple in couples]
    np.testing.assert_allclose(frame["iou_low"], np.quantile(single, 0.05, axis=0))
    overlap.print(frame, ax)
    (bars,) = (one for one in ax.collections if hasattr(one, "get_segments"))
    np.testing.assert_allclose(
        [segment[:, 1] for segment in bars.get_segments()], frame[["iou_low", "iou_high"]]
    )


def test_a_difference_map_is_symmetric_about_white(ax):
    values = np.zeros(GRID.valid_hw, int)
    values[0, 0] = 3
    difference.print(values, GRID, ax, limit=4, image=ONE["image"])
    drawn = ax.get_images()[1]
    assert drawn.norm.boundaries.tolist() == np.arange(-4.5, 5).tolist()  # whole steps
    assert len({tuple(drawn.cmap(drawn.norm(one))) for one in range(-4, 5)}) == 9
    assert np.ptp(drawn.cmap(drawn.norm(0))[:3]) < 0.02  # no colour where equal
    red, _, blue = to_rgb(drawn.cmap(drawn.norm(4)))
    assert red > blue
    left, right, bottom, _ = drawn.get_extent()
    assert right == pytest.approx(GRID.valid_hw[1] * 16) and ax.get_xlim() == (0, 150)
    ticks = ax.child_axes[0].get_yticks()
    assert ticks.min() >= -4 and ticks.max() <= 4 and 0 in ticks
    with pytest.raises(ValueError, match="valid tokens"):
        difference.print(np.zeros((2, 2)), GRID, ax, limit=1)


def test_a_histogram_of_differences_shows_the_interval(ax):
    interval = Interval(0.1, 0.05, 0.15, 100)
    deltas.print(pd.Series([0.0, 0.1, 0.2, np.nan]), interval, ax, label="keep")
    assert ax.get_title(loc="left") == "+0.100 [+0.050, +0.150]"
    assert sum(bar.get_height() for bar in ax.patches[1:]) == 3


def test_equal_runs_have_a_histogram_with_readable_numbers(ax):
    deltas.print(pd.Series([0.0] * 24), Interval(0.0, 0.0, 0.0, 24), ax, label="keep")
    low, high = ax.get_xlim()
    assert high - low > 0.01
