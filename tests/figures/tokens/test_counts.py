"""Histograms of tokens an image, overlap of blocks, attention beside masks: numbers and artists."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib import style
from support.runs import PROVENANCE, parts, write_run

from analysis.figures import palette
from analysis.figures.images import attention_beside_mask as attention
from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.tokens import counts, reuse
from analysis.numbers import lifetimes
from svit.core.types import TokenTrace
from svit.runs.run import RunWriter, open_run

TRACE = parts(1)["trace"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("counts") / "discs", (1, 2, 3))


def test_a_histogram_holds_every_image_once(run, ax):
    frame = counts.frame(run)
    trace = run.trace(2)
    row = frame[(frame.image_id == 2) & (frame.block == 7)].iloc[0]
    rows, columns = trace.grid.valid_hw
    assert row.kept_valid == trace.keep[6, :rows, :columns].sum()
    values, most = counts.measured(frame)
    counts.print(values[frame.block == 7], ax, most=most, title="block 7")
    assert sum(bar.get_height() for bar in ax.patches) == 3
    assert ax.get_xlim() == (0, most) and most == rows * columns


def test_images_of_unequal_size_are_counted_in_shares(run):
    frame = counts.frame(run)
    values, most = counts.measured(frame.assign(valid=frame.valid + (frame.image_id == 1)))
    assert most == 1 and values.between(0, 1).all()
    assert counts._bins(1)[-1] == 1 and counts._bins(9).tolist() == list(np.arange(11) - 0.5)


def test_blocks_stand_in_three_groups(run):
    (product,) = counts.draw(run, DrawOptions())
    legends = [ax.get_legend() for ax in product.figure.axes if ax.get_legend()]
    words = [[text.get_text() for text in one.get_texts()] for one in legends]
    assert words == [[f"block {3 * group + at}" for at in (1, 2, 3)] for group in (1, 2, 3)]


def test_the_same_tokens_again_overlap_wholly(ax):
    keep = np.ones((4, *TRACE.grid.grid_hw), bool)
    keep[1:3, :, ::2] = False
    frame = lifetimes.reuse_frame([TokenTrace(1, TRACE.grid, keep)])
    assert frame[["first", "second"]].to_numpy().tolist() == [[2, 3]]
    assert frame.iou.tolist() == [1] and frame.chance.iloc[0] == pytest.approx(1 / 3)
    matrix = reuse.print(frame, ax).get_array()
    assert matrix[1, 0] == 1 and matrix[0, 1] == pytest.approx(1 / 3)
    assert [text.get_text() for text in ax.texts] == [".33", "1.00"]


def test_overlap_of_blocks_is_pooled_over_images():
    traces = [parts(seed)["trace"] for seed in (1, 2)]
    frame = lifetimes.reuse_frame(traces).set_index(["first", "second"])
    keeps = [trace.keep[:, : trace.grid.valid_hw[0], : trace.grid.valid_hw[1]] for trace in traces]
    both = sum((keep[4] & keep[8]).sum() for keep in keeps)
    either = sum((keep[4] | keep[8]).sum() for keep in keeps)
    assert frame.loc[(5, 9), "both"] == both and frame.loc[(5, 9), "iou"] == both / either
    assert not len(lifetimes.reuse_frame([]))


def test_masks_that_never_prune_have_no_overlap_to_draw(run, tmp_path):
    with RunWriter(tmp_path / "dense", PROVENANCE) as writer:
        writer.add(TokenTrace(1, TRACE.grid, np.ones_like(TRACE.keep)))
    dense = open_run(tmp_path / "dense")
    with pytest.raises(RenderError, match="fewer than two blocks"):
        list(reuse.draw([dense], DrawOptions()))
    (product,) = reuse.draw([run, dense], DrawOptions())
    drawn, empty = product.figure.axes[:2]
    assert drawn.get_images() and "fewer than two blocks" in empty.get_title().replace("\n", " ")


@pytest.fixture
def attended(tmp_path):
    """Used tokens receive twice as much attention as others."""
    received = np.where(TRACE.keep, 2.0, 1.0).astype(np.float32)
    with RunWriter(tmp_path / "attended", PROVENANCE) as writer:
        trace = dataclasses.replace(TRACE, measures={"attention": received})
        writer.add(trace, image=parts(1)["image"])
    return open_run(tmp_path / "attended")


def test_attention_stands_beside_the_mask_of_its_block(attended):
    with style.context(palette.STYLE):
        (product,) = attention.draw(attended, DrawOptions(block=7))
    table = product.table
    assert product.name.startswith("attention-beside-mask-block7-")
    assert table.groupby("used").attention.mean().to_dict() == {False: 1, True: 2}
    left, right = product.figure.axes[:2]
    assert left.get_title(loc="left") == "attention received: used 2.00, others 1.00"
    assert right.get_title(loc="left").startswith("block 7")


def test_a_run_without_attention_says_how_to_record_it(run):
    with pytest.raises(RenderError, match="attach"):
        list(attention.draw(run, DrawOptions()))
