"""The figure of attributions shows the areas of what was explained, and refuses runs without any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.explanations import GRID, explanation
from support.runs import write_run

from analysis.figures.objects import attribution
from analysis.figures.output import DrawOptions, RenderError
from svit.runs.attributions import Attributions, Decided
from svit.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = write_run(tmp_path / "run")
    kept = Attributions(run.path, {"steps": 4})
    kept.claim()
    for image_id, sets in ((3, True), (1, False)):
        kept.write(explanation(image_id, sets=sets), Decided(1.0))
    return run


def test_curves_are_means_with_the_areas_of_what_was_measured(run: Run) -> None:
    table = attribution.frame(attribution.explained(run))
    assert set(table["order"]) == {"gates", "picture-centre", "random"}
    areas = explanation().areas()
    for (mode, order), rows in table.groupby(["mode", "order"]):
        own = areas[(areas["mode"] == mode) & (areas["order"] == order)]["area"].mean()
        assert rows["area"].iloc[0] == pytest.approx(own)
        assert (rows["objects"] == 2).all() and len(rows) == len(attribution.GRID)
        # straight between its points, so the area of the mean is the mean area
        step = np.diff(rows["share"]) @ (
            rows["score"][1:].to_numpy() + rows["score"][:-1].to_numpy()
        )
        assert 100 * step / 2 == pytest.approx(own, abs=0.2)


def test_bands_hold_the_draws_of_one_object() -> None:
    table = attribution.frame([explanation()]).query("mode == 'insertion' and order == 'random'")
    assert (table["high"] - table["low"]).tolist() == pytest.approx([0.01] * len(table))
    gates = attribution.frame([explanation()]).query("order == 'gates'")
    assert (gates["high"] == gates["low"]).all()


def test_all_objects_come_first_and_then_those_with_sets(run: Run) -> None:
    products = list(attribution.draw(run, DrawOptions()))
    assert [one.name for one in products] == ["attribution", "attribution-3-annotation-1"]
    assert [one.name for one in attribution.draw(run, DrawOptions(images=("1",)))] == [
        "attribution"
    ]


def test_what_is_shown_of_a_set_is_the_set(run: Run) -> None:
    figure = list(attribution.draw(run, DrawOptions()))[1].figure
    titles = [ax.get_title() for ax in figure.axes]
    assert "smallest set, 3 tokens: 0.85" in titles and "at random: 0.30" in titles
    shown = figure.axes[titles.index("at random: 0.30")].images[-1].get_array()
    clear = np.flatnonzero(shown[..., 3] == 0).tolist()
    rows, columns = GRID.valid_hw
    assert clear == [place for place in (2, 4, 11 - GRID.grid_hw[1] + columns)]


def test_an_object_explained_twice_is_shown_once_with_what_tells_more(run: Run) -> None:
    more = Attributions(run.path, {"steps": 9})
    more.claim()
    more.write(explanation(1, sets=True), Decided(1.0))
    found = attribution.explained(run)
    assert len(found) == 2 and all(one.sets for one in found)


def test_objects_explained_in_other_blocks_are_not_averaged_as_if_they_were_of_the_same(
    run: Run,
) -> None:
    other = Attributions(run.path, {"steps": 4, "layers": [0, 2]})
    other.claim()
    other.write(replace(explanation(3), layers=(0, 2)), Decided(1.0))
    products = {one.name: one.table for one in attribution.draw(run, DrawOptions())}
    assert [*products] == [
        "attribution",
        "attribution-3-annotation-1",
        "attribution-blocks-1-3",
        "attribution-3-annotation-1-blocks-1-3",
    ]
    assert (products["attribution"]["objects"] == 2).all()
    assert (products["attribution-blocks-1-3"]["objects"] == 1).all()


def test_a_run_without_explanations_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="svit explain"):
        list(attribution.draw(write_run(tmp_path / "bare"), DrawOptions()))


def test_an_image_may_be_asked_for_by_its_file(run: Run) -> None:
    asked = DrawOptions(images=("3.jpg",))
    assert [one.name for one in attribution.draw(run, asked)][1:] == ["attribution-3-annotation-1"]
    with pytest.raises(RenderError, match=r"no image '7\.jpg'"):
        list(attribution.draw(run, DrawOptions(images=("7.jpg",))))
