"""What became of one token, block by block: a square a block, a row a run.

A used token takes part in the block. A pruned one skips it and stays in the feature map; it is called back
(the paper: reactivated) where a later block uses it again. A carried one takes part as a part of another.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from analysis.figures import palette
from analysis.figures.canvas import screen as shared
from analysis.numbers import biography
from svit.core.types import TokenTrace

STATES = {  # `comparison.STATES` in words, and the colour of each
    "used": ("used", palette.USED),
    "never": ("pruned for good", palette.PRUNED),
    "later": ("back later (reactivated)", palette.LATER),
    "next": ("back in the next block", palette.NEXT),
    "carried": ("carried by another", palette.CARRIED),
}
NAME = 220  # screen pixels of a run's name at most
ROW, AROUND = 32, 112  # screen pixels: a run, and what stands around all


def frame(traces: Mapping[str, TokenTrace], token: tuple[int, int]) -> pd.DataFrame:
    """`biography.token_frame` of a valid token in each run, with run and word.

    Args:
        traces: name of the run -> its trace of the image.
        token: row and column.
    """
    frames = [biography.token_frame(trace, *token).assign(run=run) for run, trace in traces.items()]
    table = pd.concat(frames, ignore_index=True)
    return table.assign(word=[STATES[state][0] for state in table["state"]])


def screen(runs: int, indent: int = 0) -> alt.LayerChart:
    """The squares of so many runs; those of the shown block are framed.

    Args:
        indent: pixels left of a single run, which has no name there.

    Returns: a chart of the table "life" (`frame`, and `here`: whether the block is shown).
    """
    words, colours = zip(*STATES.values(), strict=True)
    key = {"symbolType": "square", "symbolStrokeWidth": 0.6, "symbolStrokeColor": palette.SOFT}
    bare = {"domain": False, "ticks": False}
    names = alt.Axis(labelLimit=NAME, labelOverlap=False, labelExpr=shared.BY_LETTER, **bare)
    key |= {"columns": shared.columns_of(words, NAME, by_letter=True)} if runs > 1 else {}
    if runs == 1:
        names = alt.Axis(labels=False, minExtent=indent, maxExtent=indent, **bare)
    base = alt.Chart(alt.NamedData("life")).encode(
        x=shared.blocks(),
        y=alt.Y("run:N", title=None, sort=None, axis=names),
    )
    squares = base.mark_rect(stroke=palette.SOFT, strokeWidth=0.6, cornerRadius=3).encode(
        color=shared.colours(dict(zip(words, colours)), "word", shared.legend_above(words, **key)),
        tooltip=[
            *(["run:N"] if runs > 1 else []),
            "block:O",
            alt.Tooltip("word:N", title="state"),
            alt.Tooltip("score:Q", format="+.2f"),
            alt.Tooltip("margin:Q", format="+.2f"),
            alt.Tooltip("rank:Q", format=".0%", title="tokens that score lower"),
        ],
    )
    here = base.transform_filter("datum.here").mark_rect(
        fillOpacity=0, stroke=palette.HERE, strokeWidth=2.5, cornerRadius=3
    )
    about = "What becomes of the chosen token in each block"
    size = {"height": ROW * runs + AROUND, "padding": shared.PADDING}
    return (squares + here).properties(description=about, **size)
