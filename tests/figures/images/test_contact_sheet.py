"""Many pictures beside their maps: which ones, in which order, with which numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.runs import write_run

from analysis import render
from analysis.figures.images import contact_sheet
from analysis.figures.output import DrawOptions, Product, RenderError, spaced
from analysis.numbers import usage
from svit.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("run") / "run", range(1, 10))


def drawn(run: Run, **options) -> Product:
    (product,) = contact_sheet.draw(run, DrawOptions(**options))
    return product


def test_every_picture_stands_left_of_its_map_and_its_mean(run: Run) -> None:
    product = drawn(run)
    axes = [ax for ax in product.figure.axes if ax.get_subplotspec() is not None and ax.axison]
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in axes]
    assert titles[::2] == [str(image_id) for image_id in range(1, 10)]
    maps = [usage.usage(run.trace(image_id)) for image_id in run.image_ids]
    assert titles[1::2] == [f"{one.mean():.1f}" for one in maps]
    for ax, one in zip(axes[1::2], maps, strict=True):
        assert np.array_equal(ax.images[-1].get_array(), one)
    assert product.table["mean_usage"].tolist() == [one.mean() for one in maps]


def test_named_pictures_come_in_their_order_and_unknown_ones_are_named(run: Run) -> None:
    assert drawn(run, images=("7", "3.jpg")).table["image"].tolist() == [7, 3]
    with pytest.raises(RenderError, match="no image '77'"):
        drawn(run, images=("77",))


@pytest.mark.parametrize(("held", "asked"), [(300, 24), (25, 24), (24, 24), (3, 24), (1, 6)])
def test_pictures_that_nobody_named_are_evenly_spaced(held: int, asked: int) -> None:
    found = spaced(range(held), asked)
    assert len(found) == min(held, asked) and found[0] == 0
    steps = np.diff(found)
    assert steps.size == 0 or (found[-1] == held - 1 and steps.max() - steps.min() <= 1)


def test_the_command_draws_it(run: Run, tmp_path: Path) -> None:
    assert render.main(["contact-sheet", str(run.path), "--out", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".svg", ".png", ".csv"}
