"""The figure of error types: bars that add up, objects at their last block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from support.runs import OTHER_DATA, write_misses, write_others

from analysis.figures import palette
from analysis.figures.objects import errors
from analysis.figures.output import DrawOptions
from analysis.numbers.error_types import TYPES
from svit.core.types import Detections, Target
from svit.runs.run import open_run
from svit.runs.writer import RunWriter


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A run that misses the disc whose tokens it prunes from block 5 on, and a dense one that finds it."""
    folder = tmp_path_factory.mktemp("runs")
    return write_misses(folder / "sparse"), write_misses(folder / "dense", "dense", find=True)


def drawn(*runs):
    with style.context(palette.STYLE):
        (product,) = errors.draw(runs, DrawOptions(score=0.2))
    return product


def test_bars_are_the_costs_of_the_types_one_after_the_other(pair):
    table = errors.frame(pair[0], draws=5).assign(name="sparse")
    ax = errors.print(table, Figure().subplots())
    assert [bar.get_width() for bar in ax.patches] == table["cost"].tolist()
    assert ax.patches[-1].get_x() == pytest.approx(table["cost"].iloc[:-1].sum())
    assert table["error"].tolist() == list(TYPES) and table["cost"].iloc[-1] > 0


def test_objects_stand_at_the_last_block_that_held_them_and_the_dense_run_is_marked(pair):
    figure = drawn(*pair).figure
    lower = figure.subfigs[1].axes[0]
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in lower.patches}
    assert [block for block, height in heights.items() if height] == [4] and heights[4] == 3
    (marks,) = lower.collections
    assert marks.get_segments()[0][:, 1].tolist() == [3, 3]
    assert "found by dense" in lower.get_legend().get_texts()[0].get_text()
    assert figure.subfigs[1].get_suptitle().startswith("sparse: 3 objects not found")


def test_a_single_run_has_no_marks(pair):
    assert not drawn(pair[0]).figure.subfigs[1].axes[0].collections


def test_a_dense_run_of_other_pictures_under_the_same_ids_has_no_marks(pair, tmp_path):
    others = write_others(tmp_path / "others", provenance={**OTHER_DATA, "method": "dense"})
    lower = drawn(pair[0], others).figure.subfigs[1].axes[0]
    assert not lower.collections and lower.get_legend() is None


def test_a_run_without_an_object_says_so(pair, tmp_path):
    sample = next(pair[0].iter_traces())
    with RunWriter(tmp_path / "empty", pair[0].provenance) as writer:
        hw = sample.grid.image_hw
        target = Target([], [], np.zeros((0, *hw), bool))
        writer.add(sample, target=target, detections=Detections([], [], []))
    with pytest.raises(errors.RenderError, match="holds no objects"):
        drawn(open_run(tmp_path / "empty"))


def test_where_nothing_costs_anything_the_axis_says_so():
    rows = [{"name": "sparse", "error": error, "cost": 0.0} for error in TYPES]
    ax = errors.print(pd.DataFrame(rows), Figure().subplots())
    assert ax.get_xlim() == (0, 1) and [one.get_text() for one in ax.texts] == [
        "no type costs anything"
    ]


def test_what_a_dense_run_finds_is_told_by_the_object_whatever_order_its_annotations_have(
    pair, tmp_path
):
    with RunWriter(tmp_path / "dense", {**pair[1].provenance, "data_sha256": "c" * 64}) as writer:
        for trace, found, target in pair[1].samples("trace", "detections", "target", masks=True):
            turned = target.decoded()[::-1]
            picture = pair[1].picture(trace.image_id)
            writer.add(trace, found[1:], turned, picture, f"{trace.image_id}.jpg")
    lower = drawn(pair[0], open_run(tmp_path / "dense")).figure.subfigs[1].axes[0]
    (marks,) = lower.collections
    assert marks.get_segments()[0][:, 1].tolist() == [3, 3]


def test_objects_that_show_in_no_token_are_told_where_they_have_no_bar(pair, tmp_path):
    with RunWriter(tmp_path / "run", pair[0].provenance) as writer:
        for trace, found, target in pair[0].samples("trace", "detections", "target"):
            whole = target.decoded()
            masks = whole.masks & (np.arange(len(whole)) != 1)[:, None, None]
            writer.add(trace, found, replace(whole, masks=masks))
    figure = drawn(open_run(tmp_path / "run")).figure
    title = " ".join(figure.subfigs[1].get_suptitle().split())
    assert "3 objects not found (3 of them in no token, which have no bar)" in title
