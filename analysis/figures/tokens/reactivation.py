"""Pruned tokens of each block and what becomes of them, over all images (paper Fig. 5a).

Pooled over valid tokens of all images. Reactivated later (wide, cyan) and never used again (grey)
add up to the pruned tokens; those used in the very next layer are part of the reactivated ones and
drawn inside them. Left as shares of all valid tokens, with the pruned share over each bar; right of
the pruned ones, with the reactivated share over its part. Several runs stand below each other,
never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import percents
from analysis.figures.canvas.sizes import WIDTH, wrapped
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, paths
from analysis.figures.palette import LATER, NEVER, NEXT, SOFT
from analysis.numbers import per_image
from analysis.numbers import usage as metrics
from analysis.numbers.run_counts import Census, census
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.runs.run import Run

STATES = {"back in the next block": NEXT, "back later": LATER, "never again": NEVER}
# denominator -> ending of its columns, column of the numbers and of the bar they stand over
DENOMINATORS = {
    "all": ("share", "pruned_share", "pruned_share"),
    "pruned": ("of_pruned", "later_of_pruned", "later_of_pruned"),
}


def frame(counted: Census) -> pd.DataFrame:
    """The shares of a run, pooled, and of single images their 5 % to 95 % (`per_image.spread_frame`)."""
    return per_image.spread_frame(counted.by_image())


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Both denominators side by side, a row a run."""
    frames = [census(run).reactivation() for run in runs]
    heights = [2.4 if frame["pruned"].any() else 0.3 for frame in frames]
    if max(heights) < 1:
        raise RenderError(f"{paths(runs)}: no layer prunes a token, so nothing can be reactivated")
    figure = Figure(figsize=(WIDTH, sum(heights)))
    rows = figure.subfigures(len(runs), 1, squeeze=False, height_ratios=heights)[:, 0]
    left: list[Axes] = []
    for row, run, name, table in zip(rows, runs, labels.places(runs), frames, strict=True):
        row.suptitle(wrapped(f"{labels.titled(run, name)}: {_found(table)}"), ha="left", x=0.01)
        if table["pruned"].any():
            axes = row.subplots(1, 2)
            for ax, of in zip(axes, DENOMINATORS, strict=True):
                print(table, ax, of=of)
            left.append(axes[0])
    for ax in left:  # runs are compared: one scale
        ax.set_ylim(top=max(one.get_ylim()[1] for one in left))
    yield Product("reactivation", figure, labels.labelled(runs, frames))


def _found(table: pd.DataFrame) -> str:
    if not table["pruned"].any():
        return "no layer prunes a token"
    if not table["later"].any():
        return "no pruned token is used again"
    return f"{metrics.immediate_share(table):.0%} of all reactivations come in the very next layer"


def print(frame: pd.DataFrame, ax: Axes, *, of: str = "all") -> Axes:
    """The bars of one run on paper; blocks that prune nothing are left out.

    Args:
        frame: `Census.reactivation`.
        of: the denominator: "all" tokens or the "pruned" ones, whose bars reach 1.
    """
    ending, number, under = DENOMINATORS[of]
    rows = frame[frame["pruned"] > 0]
    block, later, never = rows["block"], rows[f"later_{ending}"], rows[f"never_{ending}"]
    ax.bar(block, later, width=0.72, color=LATER, label="reactivated later")
    ax.bar(block, rows[f"next_{ending}"], width=0.3, color=NEXT, label="of these, next layer")
    ax.bar(block, never, width=0.72, bottom=later, color=NEVER, label="never again")
    small = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
    for x, top, share in zip(block, rows[under], rows[number], strict=True):
        ax.annotate(f"{share:.0%}", (x, top), (0, 2), **small)
    # a limit of its own: bars without height would keep the axis from reaching over the numbers
    ax.set(ylim=(0, 1.12 * (later + never).max()) if len(rows) else None, xticks=block.tolist())
    ax.set(xlabel="block", ylabel=f"share of {of} tokens")
    percents(ax.yaxis)
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)
    over = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3, "borderaxespad": 0.2}
    ax.legend(**over, borderpad=0, columnspacing=1.2, fontsize="small")
    return ax


def screen(frame: pd.DataFrame) -> alt.LayerChart:
    """Pruned share per block by what becomes of it; whiskers are 90 % of the images. A click picks a
    block and a state of `STATES`.

    Args:
        frame: of `frame`.
    """
    rows = frame[frame["pruned"] > 0]
    shares = dict(zip(STATES, ("next_share", "wait_share", "never_share"), strict=True))
    parts = [
        pd.DataFrame({"block": rows["block"], "state": name, "share": rows[share], "order": order})
        for order, (name, share) in enumerate(shares.items())
    ]
    pick = shared.picked("block", "state")
    bars = (
        alt.Chart(pd.concat(parts, ignore_index=True))
        .mark_bar(width=alt.RelativeBandSize(0.72), cursor="pointer")
        .encode(
            x=shared.blocks(),
            y=alt.Y("share:Q", title="pruned tokens", axis=shared.SHARES),
            order="order:Q",
            color=shared.colours(STATES, "state"),
            opacity=shared.faded(pick),
            tooltip=["block", "state", *shared.percents(share="of all tokens")],
        )
        .add_params(pick)
    )
    ends = {f"pruned_share{end}": f"pruned{end}" for end in ("", "_low", "_high")}
    whiskers = (
        alt.Chart(rows)
        .mark_rule(color=SOFT, strokeWidth=1.5)
        .encode(
            x=shared.blocks(),
            y="pruned_share_low:Q",
            y2="pruned_share_high:Q",
            tooltip=shared.percents(**ends),
        )
    )
    about = "What becomes of the tokens that each block prunes: back in the next, later, or never"
    return (bars + whiskers).properties(height=300, padding=shared.PADDING, description=about)


ENTRY = Entry(
    "pruned and reactivated share of tokens per block, all images",
    draw,
    RUNS,
    __doc__,
    screen=lambda runs: screen(frame(census(runs[0]))),
    screen_about="Pruned tokens of each block as a share of all valid tokens of all images, by what becomes "
    "of them: back in the next block, back later, never again; the three add up to the pruned share. Lines: "
    "the pruned share of single images, 5 % to 95 %.",
)
