"""Maps of what blocks did to tokens, of any recorded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from support.runs import write_foreign, write_run

from analysis.figures.canvas import token_maps
from analysis.figures.canvas.pictures import beside
from analysis.figures.images import measures
from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.registry import entries
from svit.core.types import TokenTrace
from svit.runs.run import Run, open_run
from svit.runs.writer import RunWriter

NAMES = {"updates": "update", "norms": "norm", "attention": "attention"}


@pytest.mark.parametrize("name", NAMES)
def test_the_table_holds_the_recorded_numbers_of_every_block(name: str, tmp_path: Path) -> None:
    run = write_foreign(tmp_path / "run", (3,))
    (product,) = entries()[name].draw(run, DrawOptions())
    trace = run.trace(3)
    rows, columns = trace.grid.valid_hw
    values = trace.measures[NAMES[name]][4, :rows, :columns]
    np.testing.assert_array_equal(product.table["block_5"], values.ravel())
    titles = [ax.get_title() for ax in product.figure.axes if ax.get_title()]
    assert len(titles) == 12 and titles[4] == f"block 5: {values.mean():.2g}"
    assert "image 3; a number: the mean" in product.figure.get_suptitle()


def bar_of(name: str, run: Run) -> Axes:
    (product,) = entries()[name].draw(run, DrawOptions())
    product.figure.canvas.draw()
    *_, last = [ax for ax in product.figure.axes if ax.child_axes]
    return last.child_axes[0]


def test_small_numbers_stand_on_the_bar_without_a_factor_over_it(tmp_path: Path) -> None:
    trace = write_foreign(tmp_path / "run", (3,)).trace(3)
    small = {"update": trace.measures["update"] * 1e-6}
    with RunWriter(tmp_path / "small", {"method": "unknown", "class_names": []}) as writer:
        writer.add(TokenTrace(3, trace.grid, trace.keep, measures=small))
    bar = bar_of("updates", open_run(tmp_path / "small"))
    assert bar.yaxis.get_offset_text().get_text() == ""
    assert any("e-07" in label.get_text() for label in bar.get_yticklabels())


def test_the_bar_stands_clear_of_a_narrow_picture() -> None:
    gaps = {}
    for width in (100, 20):
        ax = Figure(figsize=(4, 4)).subplots()
        ax.imshow(np.zeros((100, width)))
        bar = beside(ax)
        ax.figure.draw_without_rendering()
        gaps[width] = bar.get_window_extent().x0 - ax.get_window_extent().x1
    assert gaps[20] == pytest.approx(gaps[100], rel=0.05) and gaps[20] > 2


def test_the_bar_of_attention_runs_from_a_quarter_to_four_times_the_even_share(tmp_path: Path):
    bar = bar_of("attention", write_foreign(tmp_path / "run", (3,)))
    assert [label.get_text() for label in bar.get_yticklabels()] == ["≤0.25", "1", "≥4"]


def test_attention_is_even_in_the_middle_of_its_colours_and_others_begin_at_nothing():
    values = np.array([[[0.01, 1.0, 9.0, np.nan]]])
    even = measures.norm("attention", values)
    assert [round(float(even(one)), 3) for one in (0.01, 1.0, 9.0)] == [0, 0.5, 1]
    assert measures.said(even, 5) == ("≤0.25", "0.5", "1", "2", "≥4")
    assert measures.said(measures.norm("norm", np.array([[[0.0, 2.0]]])), 3)[0] == "0"
    painted = token_maps.amounts(values[0], even, 0.5)
    assert painted[0, 3, 3] == 0, "what is not known stays clear"
    assert (painted[0, 0] != painted[0, 1]).any()


def test_a_run_without_measures_is_refused_in_a_sentence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (3,))
    with pytest.raises(RenderError, match="holds no update of tokens: record a model with"):
        next(entries()["updates"].draw(run, DrawOptions()))
