"""What kinds of error cost more in one of two runs."""

from __future__ import annotations

import pytest
from matplotlib import style
from matplotlib.figure import Figure
from support.runs import write_misses, write_run

from analysis.figures import palette
from analysis.figures.objects import error_deltas
from analysis.figures.output import DrawOptions, RenderError
from analysis.numbers.error_types import TYPES


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return write_misses(folder / "sparse"), write_misses(folder / "dense", "dense", find=True)


def test_a_run_that_misses_more_pays_more_for_it(pair):
    table = error_deltas.frame(*pair, draws=20).set_index("error")
    assert list(table.index) == ["AP50", *TYPES]
    assert table.loc["missed", "cost"] > 0 > table.loc["AP50", "cost"]
    assert (
        table.loc["missed", "first"] - table.loc["missed", "second"] == table.loc["missed", "cost"]
    )


def test_a_line_a_type_names_its_difference(pair):
    with style.context(palette.STYLE):
        (product,) = error_deltas.draw(pair, DrawOptions())
        ax = error_deltas.print(error_deltas.frame(*pair, draws=5), Figure().subplots())
    assert [tick.get_text().split()[0] for tick in ax.get_yticklabels()] == ["AP50", *TYPES]
    assert product.name == "error-deltas" and len(product.table) == 7


def test_runs_of_other_images_are_refused(pair, tmp_path):
    other = write_run(tmp_path / "other", image_ids=(7, 8, 9))
    with pytest.raises(RenderError, match="saw other images"):
        list(error_deltas.draw((pair[0], other), DrawOptions()))
