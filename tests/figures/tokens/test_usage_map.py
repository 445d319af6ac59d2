"""The averaged map by its artists: values, limits, shape."""

from __future__ import annotations

import numpy as np
import pytest
from support.runs import PROVENANCE, census_of, trace_of, write_run

from analysis.figures.output import DrawOptions
from analysis.figures.tokens import usage_map
from svit.core.types import TokenGrid
from svit.runs.run import RunWriter, open_run


def test_an_averaged_map_shows_its_values_within_the_limits(ax):
    values = np.linspace(5, 9, 15).reshape(3, 5)
    usage_map.print(values, ax, limits=(3, 12))
    (drawn,) = ax.get_images()
    np.testing.assert_array_equal(drawn.get_array(), values)
    assert drawn.get_clim() == (3, 12) and drawn.colorbar.extend == "neither"


@pytest.mark.parametrize(
    ("limits", "extend"), [((6, 12), "min"), ((3, 8), "max"), ((6, 8), "both")]
)
def test_the_scale_points_to_values_beyond_a_crop(ax, limits, extend):
    usage_map.print(np.linspace(5, 9, 15).reshape(3, 5), ax, limits=limits)
    assert ax.get_images()[0].colorbar.extend == extend


def counted(*sides: tuple[int, int]):
    traces = []
    for rows, columns in sides:
        grid = TokenGrid((16 * rows, 16 * columns), (16 * rows, 16 * columns), (rows, columns))
        traces.append(trace_of(1, grid, np.zeros(grid.grid_hw), 0))
    return census_of(*traces)


def test_images_of_one_shape_are_drawn_in_it(ax):
    square = counted((8, 8), (8, 8))
    ratio = usage_map.drawn_ratio(square, (50, 80))
    usage_map.print(square.mean_usage(), ax, limits=(0, 12), ratio=ratio)
    assert ratio == 1 and ax.get_aspect() == 80 / 50  # 50 rows are as high as 80 columns wide
    assert "8 × 8 tokens, averaged as 50 × 80" in usage_map.described(square, np.ones(1), (50, 80))


def test_images_of_several_shapes_are_drawn_as_asked_and_it_says_so():
    mixed = counted((8, 8), (8, 12))
    assert usage_map.drawn_ratio(mixed, (50, 80)) == 50 / 80
    assert "aspect ratios not kept" in usage_map.described(mixed, np.ones(1), (50, 80))


def test_maps_beside_each_other_have_one_scale_whichever_run_is_first(tmp_path):
    early = [0.5] + [1.0] * 11
    late = write_run(tmp_path / "late", (1,))
    with RunWriter(tmp_path / "early", {**PROVENANCE, "targets": early}) as writer:
        writer.add(trace_of(1, late.trace(1).grid, np.zeros((8, 10)), 0, early))
    runs = [late, open_run(tmp_path / "early")]
    scales = set()
    for some in (runs, runs[::-1]):
        (product,) = usage_map.draw(some, DrawOptions())
        scales |= {ax.get_images()[0].get_clim() for ax in product.figure.axes if ax.get_images()}
    assert scales == {(3, 12)}, "nine blocks of the one prune, one of the other"
    (product,) = usage_map.draw(runs, DrawOptions(crop=(11, 12)))
    (bar,) = [ax.get_images()[0].colorbar for ax in product.figure.axes if ax.get_images()][1:]
    assert bar.extend == "min", "the bar stands for the map without one, too"
