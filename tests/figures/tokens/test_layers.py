"""Strips of blocks: the legend names what the image shows, and has the room it takes."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from support.runs import PROVENANCE, merged_trace

from analysis.figures import palette
from analysis.figures.canvas import recorded
from analysis.figures.output import DrawOptions, save
from analysis.figures.registry import entries
from svit.core.types import TokenTrace
from svit.runs.run import open_run
from svit.runs.writer import RunWriter


@pytest.mark.parametrize("name", ["layers", "overlay"])
def test_merged_tokens_are_laid_out_without_a_warning(name: str, tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", {**PROVENANCE, "targets": [1.0] * 4}) as writer:
        writer.add(merged_trace())
    with mpl.style.context(palette.STYLE), warnings.catch_warnings():
        warnings.simplefilter("error")
        (product,) = entries()[name].draw(open_run(tmp_path / "run"), DrawOptions())
        save(product, tmp_path / "out", name, "")


def legend(trace: TokenTrace) -> list[str]:
    figure, _ = recorded.strip(trace, 2, None)
    ax = figure.subfigs[1].axes[0]
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_legend_names_carried_tokens_only_where_one_is_carried() -> None:
    trace = merged_trace()
    alone = np.broadcast_to(
        np.arange(trace.grid.tokens).reshape(trace.grid.grid_hw), trace.keep.shape
    )
    kept = TokenTrace(1, trace.grid, np.ones_like(trace.keep), group=np.ascontiguousarray(alone))
    assert "carried by another token" in legend(trace)
    assert len(legend(kept)) == 3 and "carried by another token" not in legend(kept)
