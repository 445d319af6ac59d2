"""The figure of what use follows."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from support.runs import write_dense, write_run

from analysis.figures import palette
from analysis.figures.objects import follows
from analysis.figures.output import DrawOptions, RenderError


def test_a_panel_a_kind_of_tokens_has_a_line_a_measure_and_mask(tmp_path):
    run = write_run(tmp_path / "run")
    with style.context(palette.STYLE):
        (product,) = follows.draw(run, DrawOptions())
    every, objects = product.figure.axes
    assert [text.get_text() for text in every.get_legend().get_texts()] == [
        *("contrast", "gradient", "contour", "object", "middle", "shuffled")
    ]
    assert len(objects.collections) == 12  # bands of six measures, own and shuffled
    blocks = [line.get_xdata() for line in every.lines if len(line.get_xdata()) > 2]
    assert all(list(one) == list(range(4, 13)) for one in blocks)
    assert set(product.table["block"]) == set(range(13))


def test_no_line_goes_on_where_a_block_uses_all_tokens(tmp_path):
    table = follows.frame(write_run(tmp_path / "run"), draws=3).query(
        "tokens == 'all tokens' and block > 3"
    )
    own = (table["masks"] == "own") & (table["block"] == 6)
    table.loc[own, "partial"] = float("nan")
    ax = follows.print(table, Figure().subplots(), title="")
    lines = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 10 and all(
        np.isnan(line).tolist() == [False] * 2 + [True] + [False] * 6 for line in lines
    )


def test_runs_without_pictures_or_pruning_are_refused(tmp_path):
    with pytest.raises(RenderError, match="holds no pictures"):
        follows.frame(write_run(tmp_path / "bare", picture_side=0))
    with pytest.raises(RenderError, match="tokens that a block left out"):
        follows.frame(write_dense(tmp_path / "dense"), draws=3)
