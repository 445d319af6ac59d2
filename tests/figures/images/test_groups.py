"""The figure of merged tokens: one colour a group, lines between groups, nothing where a token is pruned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.runs import PROVENANCE, merged_trace, write_run

from analysis.figures.canvas import token_maps
from analysis.figures.images import groups
from analysis.figures.output import DrawOptions, RenderError
from analysis.numbers import usage
from svit.runs.run import RunWriter, open_run

TRACE = merged_trace()
IMAGE = np.random.default_rng(0).integers(0, 255, (*TRACE.grid.image_hw, 3), np.uint8)


def test_layers_are_those_where_groups_change() -> None:
    assert groups.merging_layers(TRACE) == [1, 3]
    assert groups.merging_layers(replace(TRACE, group=None)) == []


def test_a_group_has_the_mean_colour_of_its_tokens_and_pruned_ones_are_clear() -> None:
    keep = TRACE.keep.copy()
    keep[3, 1, 0] = False
    carrier = usage.carriers(replace(TRACE, keep=keep), 3)
    assert (carrier[0] == 0).all() and (carrier[1] == -1).all()
    means = np.random.default_rng(1).uniform(0, 255, (*carrier.shape, 3))
    shown = token_maps.group_colours(carrier, means)
    np.testing.assert_allclose(
        shown[0, :, :3], np.tile(means[0].mean(axis=0) / 255, (len(means[0]), 1))
    )
    np.testing.assert_allclose(shown[2, 1, :3], means[2, 1] / 255)
    assert not shown[1, :, 3].any() and shown[0, :, 3].all()


def test_lines_part_tokens_of_different_groups_alone() -> None:
    carrier = usage.carriers(TRACE, 1)
    rows, columns = carrier.shape
    lines = np.array(groups.borders(carrier, TRACE))
    upright = (rows - 1) * (columns - 1)  # none within the first row, which is one group
    assert len(lines) == upright + (rows - 1) * columns
    assert lines[..., 0].max() <= columns * 16 and lines[..., 1].max() <= rows * 16


def test_an_image_gives_a_picture_of_each_merge_and_a_table_of_carriers(tmp_path) -> None:
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(TRACE, image=IMAGE)
    (product,) = groups.draw(open_run(tmp_path / "run"), DrawOptions())
    assert isinstance(product.figure, Figure)
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in product.figure.axes]
    rows, columns = TRACE.grid.valid_hw
    assert titles[1] == f"block 2  {(rows - 1) * columns + 1} of {rows * columns}"
    assert {"block_2", "block_4"} <= set(product.table)
    assert product.table["block_2"].tolist()[:columns] == [0] * columns


def test_runs_without_merges_or_pictures_are_told_what_they_lack(tmp_path) -> None:
    with RunWriter(tmp_path / "bare", PROVENANCE) as writer:
        writer.add(TRACE)
    with pytest.raises(RenderError, match="holds no picture"):
        next(groups.draw(open_run(tmp_path / "bare"), DrawOptions()))
    with pytest.raises(RenderError, match="holds no merged tokens"):
        next(groups.draw(write_run(tmp_path / "pruned"), DrawOptions()))
