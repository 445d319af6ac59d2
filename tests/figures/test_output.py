"""Files of figures: numbers with all digits, pictures of a fair size."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.style import context

from analysis import render
from analysis.figures import palette
from analysis.figures.canvas import pictures
from analysis.figures.output import Product, csv, save
from svit.core.types import TokenGrid


def test_a_table_is_read_back_to_the_last_digit():
    frame = pd.DataFrame({"share": [1 / 3, 2e-17, np.nan], "name": ["a", "b,c", ""]})
    read = pd.read_csv(io.StringIO(csv(frame)), float_precision="round_trip")
    pd.testing.assert_series_equal(read["share"], frame["share"], check_exact=True)


def test_ten_noisy_pictures_fit_into_a_megabyte_of_any_format(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8)
    grid = TokenGrid((640, 640), (640, 640), (40, 40))
    with context(palette.STYLE):
        figure = Figure(figsize=(7.2, 3.6))
        for ax in figure.subplots(2, 5).flat:
            pictures.usage_heatmap(np.ones((40, 40)), grid, ax, limits=(0, 12), image=image)
        paths = save(Product("many", figure, pd.DataFrame()), tmp_path, "", "")
    assert [path.suffix for path in paths] == [".pdf", ".svg", ".png", ".csv"]
    assert max(path.stat().st_size for path in paths) < 1_000_000


@pytest.mark.parametrize(
    ("asked", "crop", "shape"),
    [
        ([], None, (50, 80)),
        (["--paper"], (7, 12), (50, 80)),
        (["--crop", "5", "10", "--shape", "14x14"], (5, 10), (14, 14)),
    ],
)
def test_the_ranges_of_the_authors_are_an_option(asked, crop, shape):
    options = render.draw_options(render.parser().parse_args(["heatmap", "run", *asked]))
    assert options.crop == crop and options.shape == shape
