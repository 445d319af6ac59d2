"""Where in the network tokens are chosen: the blocks in their order, a diamond at each that decides.

A block decides if it uses other tokens than the block before, in one of the first 8 images; behind a decision
blocks without a diamond use the same tokens again. Filled: kept valid / valid tokens of the block, all images
pooled; dashes: the target of its stage. Arrows of a ViT-Adapter: an injector adds prior features before, an
extractor reads the tokens behind every quarter of the blocks. The detector's neck reads the last block.
"""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import palette
from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import over
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product
from analysis.figures.tokens import keep
from analysis.numbers.usage import valid_keep
from analysis.sources.collection import RUN
from svit.runs.run import Run

FIRST = 8  # images whose masks are compared
QUARTERS = 4  # of the blocks, between which a ViT-Adapter interacts
HALF = 0.36  # width of a block
READ, FLOW = -0.28, 0.3  # height of both ends of an arrow
MOST = 16  # blocks that all have their numbers
WORDS = {"decides": "chooses anew", "keeps": "as the block before"}


def frame(run: Run) -> pd.DataFrame:
    """A row a block: the columns of `keep.frame`; `decides`; `quarter`, whether an adapter's extractor reads
    behind it."""
    decides = np.zeros(run.layers, bool)
    for image_id in run.image_ids[:FIRST]:
        used = valid_keep(run.trace(image_id))
        before = np.concatenate([np.ones_like(used[:1]), used[:-1]])
        decides |= (used != before).any(axis=(1, 2))
    table = keep.frame(run).assign(decides=decides)
    body = run.provenance.get("config")
    body = body.get("backbone", {}) if isinstance(body, dict) else {}
    ends = max(run.layers // QUARTERS, 1)
    return table.assign(quarter=(table["block"] % ends == 0) & (body.get("neck") == "adapter"))


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """One row of blocks."""
    table, figure = frame(run), Figure(figsize=(WIDTH, 1.5))
    print(table, figure.subplots())
    over(run, figure)
    yield Product("gates", figure, table)


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """The blocks of a network from left to right (`frame`)."""
    blocks, kept = frame["block"], frame["pooled"]
    ax.plot([0.2, len(frame) + 0.8], [0.5, 0.5], color=palette.SOFT, lw=0.8, zorder=0)
    ax.bar(blocks, 1, 2 * HALF, facecolor=palette.FIELD, edgecolor=palette.SLATE, lw=0.7)
    ax.bar(blocks, kept, 2 * HALF, color=palette.USED)
    ax.hlines(frame["target"], blocks - HALF, blocks + HALF, color=palette.INK, ls=":", lw=1)
    gates = blocks[frame["decides"]] - 0.5
    style = {"marker": "D", "ls": "", "ms": 4.5, "mfc": palette.HERE, "mec": palette.INK}
    ax.plot(gates, np.full(len(gates), 0.5), mew=0.6, **style)
    some = slice(None, None, -(-len(frame) // MOST))
    for block, share in zip(blocks[some], kept[some], strict=True):
        ax.text(block, 1.05, f"{share:.0%}", ha="center", va="bottom", fontsize="small")
    for end in blocks[frame["quarter"]]:
        _arrow(ax, end + 0.43, FLOW, READ)
        _arrow(ax, end - frame["quarter"].idxmax() - 0.43, READ, FLOW)
    for place, side, words in (
        (0.1, "right", "patches"),
        (len(frame) + 0.9, "left", "neck,\nheads"),
    ):
        ax.text(place, 0.5, words, ha=side, va="center")
    ax.set(xlim=(-0.9, len(frame) + 1.9), ylim=(READ - 0.02, 1.28), yticks=[])
    ax.set_xticks(blocks[some])
    ax.set_xlabel("block")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def _arrow(ax: Axes, place: float, start: float, end: float) -> None:
    style = {"arrowstyle": "->", "color": palette.CONTOUR, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (place, end), (place, start), arrowprops=style)


def screen(run: Run) -> alt.LayerChart:
    """The blocks from left to right, filled by what they keep, and who decides."""
    table = frame(run)
    table["does"] = np.where(table["decides"], WORDS["decides"], WORDS["keeps"])
    base = alt.Chart(table).encode(x=shared.blocks())
    bars = base.mark_bar(color=palette.USED).encode(
        y=alt.Y(
            "pooled:Q", title="kept tokens", axis=shared.SHARES, scale=alt.Scale(domain=[0, 1])
        ),
        tooltip=["block:O", "does:N", *shared.percents(pooled="kept", target="target")],
    )
    targets = base.transform_filter("isValid(datum.target)").mark_tick(
        color=palette.TARGET, thickness=2
    )
    gates = base.transform_filter("datum.decides").mark_point(
        filled=True, size=110, opacity=1, shape="diamond", color=palette.HERE
    )
    marks = gates.encode(y=alt.value(-10), tooltip=["block:O", "does:N"])
    about = "Share of tokens that each block keeps, and where in the network tokens are chosen"
    chart = alt.layer(bars, targets.encode(y="target:Q"), marks)
    return chart.properties(height=220, description=about)


ENTRY = Entry(
    "where in the network tokens are chosen",
    draw,
    RUN,
    __doc__,
    screen,
    "Blocks in their order. Diamonds: the block uses other tokens than the one before in one of the first 8 "
    "images. Bars: kept valid / valid tokens, all images pooled. Ticks: the target of the stage.",
)
