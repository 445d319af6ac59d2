"""The picture of where a network chooses tokens."""

from __future__ import annotations

import numpy as np
from support.runs import PROVENANCE, grid_for, write_dense, write_run

from analysis.figures.tokens import gates
from svit.core.types import TokenTrace
from svit.runs.run import RunWriter, open_run


def staged(path, neck="adapter"):
    """A run that chooses once a stage: before blocks 4 and 7 of 12."""
    grid, keep = grid_for((64, 64)), np.ones((12, 4, 4), bool)
    keep[3:, :2], keep[6:, 2] = False, False
    told = PROVENANCE | {"config": {"name": "mine", "backbone": {"neck": neck}}}
    with RunWriter(path, told) as writer:
        writer.add(TokenTrace(1, grid, keep))
    return open_run(path)


def test_a_block_decides_where_it_uses_other_tokens_than_the_block_before(tmp_path):
    frame = gates.frame(staged(tmp_path / "staged"))
    assert frame.loc[frame["decides"], "block"].tolist() == [4, 7]
    assert frame.loc[frame["quarter"], "block"].tolist() == [3, 6, 9, 12]
    assert not gates.frame(write_dense(tmp_path / "dense"))["decides"].any()
    every = gates.frame(write_run(tmp_path / "svit"))
    assert every.loc[every["decides"], "block"].tolist() == list(range(4, 13))


def test_diamonds_stand_before_the_blocks_that_decide_and_arrows_around_quarters(tmp_path, ax):
    gates.print(gates.frame(staged(tmp_path / "staged")), ax)
    (diamonds,) = [line for line in ax.lines if line.get_marker() == "D"]
    assert diamonds.get_xdata().tolist() == [3.5, 6.5]
    assert sum(not one.get_text() for one in ax.texts) == 8  # arrows have no words
    ax.clear()
    gates.print(gates.frame(staged(tmp_path / "plain", "pyramid")), ax)
    assert all(one.get_text() for one in ax.texts)


def test_the_screen_tells_who_decides(tmp_path):
    chart = gates.screen(staged(tmp_path / "staged")).to_dict()
    (rows,) = chart["datasets"].values()
    assert [row["block"] for row in rows if row["does"] == gates.WORDS["decides"]] == [4, 7]
