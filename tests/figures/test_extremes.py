"""Every figure on data that no figure was drawn for: words stay on the canvas and off each other."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.extremes import CASES, drawings, faults, sheet, written

from analysis.figures import palette
from analysis.figures.output import Product, save
from analysis.render import FIGURES
from analysis.sources.collection import Collection

LARGEST = 1 << 20  # bytes of a vector file
SAMPLE = {  # of the whole grid: where pictures once were cut, squeezed or unreadable
    "twenty series": ("tradeoff", "speed", "curves"),
    "names of 200 letters": ("tradeoff", "controls", "curves"),
    "a transferred mask": ("controls",),
    "two seeds": ("tradeoff-speed",),
    "one image": ("tradeoff", "speed", "misses", "errors", "compute"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory):
    """What a case leaves, written once."""
    known: dict[str, Collection] = {}

    def of(case: str) -> Collection:
        if case not in known:
            known[case] = written(case, tmp_path_factory.mktemp("case"))
        return known[case]

    return of


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case, names in SAMPLE.items() for name in names]
)
def test_words_can_be_read_where_they_once_could_not(case: str, name: str, kept):
    drawn = list(drawings(name, kept(case)))
    assert drawn
    assert [told for _, told in drawn if told] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_of_every_case_can_be_read_and_is_small(
    case: str, name: str, kept, tmp_path: Path
):
    for figure, told in drawings(name, kept(case)):
        assert told == []
        with mpl.style.context(palette.STYLE):
            paths = save(Product("drawn", figure, pd.DataFrame()), tmp_path, name, "")
        assert all(
            path.stat().st_size < LARGEST for path in paths if path.suffix in (".pdf", ".svg")
        )


def test_words_over_words_and_beyond_the_canvas_are_found():
    figure = Figure(figsize=(2, 1))
    for x in (0.5, 0.52):
        figure.text(x, 0.5, "here")
    figure.text(0.9, 0.1, "far out to the right")
    told = faults(figure)
    assert told == ["'far out to the right' leaves the canvas", "'here' lies over 'here'"]


def test_the_sheet_shows_every_drawing(kept):
    page = sheet(kept("a transferred mask"), ["tradeoff", "controls"], width=120)
    assert page.width == 360 and page.height > 50
