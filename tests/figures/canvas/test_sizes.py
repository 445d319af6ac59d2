"""Every figure of pictures in extreme shapes: drawn, large enough to be seen, without cut words."""

from __future__ import annotations

import pytest
from support.drawn import DPI, drawn_figures
from support.shapes_of_pictures import SHAPES, write_shape

from analysis.figures.canvas import sizes
from analysis.figures.canvas.sizes import figsize
from analysis.render import FIGURES
from analysis.sources.collection import Collection
from svit.core.types import TokenGrid

METHODS = ("svit", "dense")


@pytest.fixture(scope="module", params=SHAPES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp(request.param)
    return Collection([write_shape(folder / name, SHAPES[request.param], name) for name in METHODS])


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
    ratio = sizes.drawn_ratio(SHAPES[shape])
    assert 1 / sizes.LONGEST <= ratio <= sizes.LONGEST
    assert bool(sizes.stretch_note(SHAPES[shape])) == (shape != "dot")
    width, height = figsize(SHAPES[shape], columns=2)
    assert width >= 3.5 and height >= 0.6


@pytest.mark.parametrize("image_hw", [(427, 640), (640, 427), (375, 1242), (64, 64)])
def test_pictures_of_cameras_keep_their_shape(image_hw: tuple[int, int]) -> None:
    assert sizes.drawn_ratio(image_hw) == image_hw[0] / image_hw[1]
    assert sizes.stretch_note(image_hw) == ""


def test_the_size_that_a_model_was_given_is_told_where_it_is_not_the_pictures_own() -> None:
    resized = TokenGrid((512, 512), (800, 800), (50, 50))
    assert sizes.told(resized) == (
        "512 × 512 pixels · given to the model at 800 × 800 · 50 × 50 tokens of 16 pixels"
    )
    own = TokenGrid((32, 48), (32, 48), (2, 3))
    assert sizes.told(own) == "48 × 32 pixels · 3 × 2 tokens of 16 pixels"
