"""The files of the Compare page hold what its panels show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from support.runs import write_dense, write_run

from analysis.figures import palette
from analysis.numbers import comparison
from analysis.pages.parts.compare import tokens
from analysis.pages.parts.compare.parts import Comparison

LAYER = 5


@pytest.fixture
def view(tmp_path) -> Comparison:
    runs = write_run(tmp_path / "a", (1, 2)), write_dense(tmp_path / "b", (1, 2))
    return Comparison(runs, ("A · a", "B · b"), ("svit", "dense"), 1, 0.5)


def drawn(view: Comparison, shown: str):
    seen = comparison.traces_of(view.runs, view.image_id)
    return seen, tokens.figure(view, seen, shown, LAYER)


def test_a_difference_at_a_block_is_not_that_of_all_blocks(view):
    seen, figure = drawn(view, "Difference")
    assert figure.get_suptitle() == "Against the first run at block 6"
    second = np.asarray(figure.axes[1].get_images()[-1].get_array())
    alone = ~seen[0].keep[LAYER, :8, :10]  # the dense run uses them all
    assert alone.any() and not alone.all()
    np.testing.assert_array_equal(second[..., 3] > 0, alone)
    ink = np.rint(np.array(to_rgb(palette.ONLY_SECOND)) * 255)
    np.testing.assert_allclose(second[alone][:, :3], np.tile(ink, (alone.sum(), 1)))


def test_agreement_is_drawn_as_on_the_page(view):
    seen, figure = drawn(view, "Agreement")
    planes = [ax.get_images()[-1].get_array() for ax in figure.axes if ax.get_images()]
    np.testing.assert_array_equal(planes[0], comparison.users(seen)[LAYER])
    np.testing.assert_array_equal(planes[1], comparison.unanimous(seen))
    assert "at block 6, of 2 runs" in figure.axes[0].get_title()


@pytest.mark.parametrize("shown", tokens.VIEWS)
def test_every_view_has_a_file_that_says_what_it_shows(view, shown):
    _, figure = drawn(view, shown)
    assert figure.get_suptitle() == tokens.heading(shown, LAYER + 1)
    assert len([ax for ax in figure.axes if ax.get_images()]) == 2


def test_colours_of_usage_say_where_they_stand_for_fewer_blocks(view):
    seen = comparison.traces_of(view.runs, 1)
    assert list(tokens.legend(view, seen, "Usage"))[0] == "3"
    keep = seen[1].keep.copy()
    keep[:, 0, 0] = False  # a token that no block uses, though three never prune
    seen[1] = replace(seen[1], keep=keep)
    assert list(tokens.legend(view, seen, "Usage"))[0] == "≤3"


def test_the_file_of_usage_has_one_scale_for_all_panels(view):
    _, figure = drawn(view, "Usage")
    bars = [len(ax.child_axes) for ax in figure.axes if ax.get_images()]
    assert bars == [0, 1]
