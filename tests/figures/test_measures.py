"""Maps of what blocks did to tokens, of any recorded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.runs import write_foreign, write_run

from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.registry import entries

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
    assert len(titles) == 12 and titles[4] == f"block 5  {values.mean():.2g}"


def test_a_run_without_measures_is_refused_in_a_sentence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (3,))
    with pytest.raises(RenderError, match="holds no update of tokens: record a model with"):
        next(entries()["updates"].draw(run, DrawOptions()))
