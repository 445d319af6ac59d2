"""Every figure of pictures in extreme shapes: drawn, large enough to be seen, without cut words."""

from __future__ import annotations

import warnings

import pytest
from matplotlib.figure import Figure
from matplotlib.style import context
from support.shapes_of_pictures import SHAPES, write_shape

from analysis.figures import figures
from analysis.figures.output import DrawOptions, RenderError, figsize
from analysis.render import FIGURES
from analysis.sources.collection import Collection

DPI = 40


@pytest.fixture(scope="module", params=SHAPES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp(request.param)
    return Collection([write_shape(folder / name, SHAPES[request.param], name) for name in METHODS])


METHODS = ("svit", "dense")


def drawn_figures(name: str, found: Collection) -> list[Figure]:
    """What an entry draws, laid out; none where the runs hold nothing for it."""
    entry, drawn = FIGURES[name], []
    with context(figures.STYLE), warnings.catch_warnings():
        warnings.simplefilter(
            "error", UserWarning
        )  # axes that collapse are only a warning of matplotlib's
        for subject in entry.takes.subjects(found):
            try:
                products = list(entry.draw(subject.given, DrawOptions(limit=1)))
            except RenderError:
                continue
            for product in products:
                product.figure.set_dpi(DPI)
                product.figure.draw_without_rendering()
                drawn.append(product.figure)
    return drawn


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_long_pictures_can_be_seen(name: str, runs: Collection) -> None:
    for figure in drawn_figures(name, runs):
        assert min(figure.get_size_inches()) > 0.9
        shown = [ax for ax in figure.axes if ax.images]
        for ax in shown:
            box = ax.get_window_extent()
            assert min(box.width, box.height) > 0.12 * DPI, (box.width / DPI, box.height / DPI)
        whole = figure.bbox
        for ax in shown:
            title = ax.title.get_window_extent()
            assert not ax.get_title() or (title.x0 >= 0 and title.x1 <= whole.width + 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_picture_is_drawn_five_times_as_long_as_wide_and_says_so(shape: str) -> None:
    ratio = figures.drawn_ratio(SHAPES[shape])
    assert 1 / figures.LONGEST <= ratio <= figures.LONGEST
    assert bool(figures.stretch_note(SHAPES[shape])) == (shape != "dot")
    width, height = figsize(SHAPES[shape], columns=2)
    assert width >= 3.5 and height >= 0.6


@pytest.mark.parametrize("image_hw", [(427, 640), (640, 427), (375, 1242), (64, 64)])
def test_pictures_of_cameras_keep_their_shape(image_hw: tuple[int, int]) -> None:
    assert figures.drawn_ratio(image_hw) == image_hw[0] / image_hw[1]
    assert figures.stretch_note(image_hw) == ""
