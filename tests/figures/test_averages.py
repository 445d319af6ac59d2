"""Figures about a data set, by their artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures.rates import averages
from analysis.paper import claims

FRAME = pd.DataFrame(
    {
        "ratio": [0.9, 0.5, 0.7, 0.7, 1.0, np.nan],
        "ap": [51.0, 46.0, 49.0, 50.0, 52.0, 40.0],
        "half": 0.3,
        "series": ["svit", "svit", "svit", "svit", "dense", "svit"],
        "dense": [False, False, False, False, True, False],
    }
)


def tradeoff(frame, ax):
    return averages.tradeoff(frame, ax, x="ratio", y="ap", labels=("keep", "AP"), half="half")


def test_a_line_joins_the_means_and_every_result_has_a_point(ax):
    assert tradeoff(FRAME, ax) is ax
    line = ax.get_lines()[0]
    assert line.get_xdata().tolist() == [0.5, 0.7, 0.9]
    assert line.get_ydata().tolist() == [46, 49.5, 51]
    svit, dense = ax.containers
    np.testing.assert_array_equal(np.sort(svit[0].get_ydata()), [46, 49, 50, 51])
    assert svit[0].get_color() == line.get_color() and svit[0].get_linestyle() == "None"
    assert dense[0].get_marker() == "*" and dense[0].get_ydata().tolist() == [52]


def test_the_dense_point_has_a_line_at_its_height(ax):
    tradeoff(FRAME, ax)
    (level,) = (line for line in ax.get_lines() if line.get_linestyle() == ":")
    assert set(level.get_ydata()) == {52}
    tradeoff(FRAME[~FRAME.dense], ax.figure.add_subplot(2, 1, 2))  # without a dense result: none
    assert not [line for line in ax.figure.axes[1].get_lines() if line.get_linestyle() == ":"]


def test_series_have_colours_of_their_own_and_names(ax):
    other = FRAME.assign(series=FRAME.series.replace("svit", "evit"))
    tradeoff(pd.concat([FRAME, other[~other.dense]]), ax)
    assert [box.get_label() for box in ax.containers] == ["evit", "svit", "dense"]
    assert ax.containers[0][0].get_color() != ax.containers[1][0].get_color()


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


def test_printed_points_are_hollow_named_and_unjoined(ax):
    points = claims.printed_tradeoff("mask")
    averages.reference_points(points, ax, x="fps", y="ap")
    (drawn,) = ax.get_lines()
    assert drawn.get_linestyle() == "None" and drawn.get_markerfacecolor() == "white"
    assert drawn.get_xdata().tolist() == [18.45, 11.70, 22.32, 15.75]
    assert drawn.get_ydata().tolist() == [40.9, 42.8, 40.7, 42.5]
    assert [text.get_text() for text in ax.texts] == ["DeiT-T", "DeiT-S", "SViT-T", "SViT-S"]


def test_horizontal_bars_end_where_the_columns_say(ax):
    frame = pd.DataFrame({"fps": [4.0], "low": [3.5], "high": [5.0], "ap": [40.0]})
    frame = frame.assign(series="svit", dense=False)
    averages.tradeoff(frame, ax, x="fps", y="ap", labels=("", ""), ends=("low", "high"))
    (bar,) = [one for one in ax.collections if hasattr(one, "get_segments")]
    assert bar.get_segments()[0].tolist() == [[3.5, 40], [5, 40]]
