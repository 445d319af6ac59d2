"""What tokens do from block to block, pooled over valid tokens of all images.

Left: tokens used in both blocks, dropped, returned, pruned in both / all tokens; the four add up
to one. Right: dropped / used in the block before; returned / pruned in the block before; bars are
5 % to 95 % of single images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, over, percent_axis, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import LATER, LOST, NEVER, USED
from analysis.numbers import lifetimes
from analysis.sources.collection import RUN
from svit.runs.run import Run

STEPS = {  # of `lifetimes.STEPS`: colour and name
    "stay": (USED, "used in both"),
    "drop": (LOST, "dropped"),
    "return": (LATER, "returned"),
    "away": (NEVER, "pruned in both"),
}
RATES = {
    "drop_of_used": (LOST, "a used token is dropped"),
    "return_of_pruned": (LATER, "a pruned token returns"),
}


def frame(run: Run) -> pd.DataFrame:
    """Steps and rates per block (`lifetimes.transition_frame`)."""
    return lifetimes.transition_frame(run.iter_traces(scores=False), spread=True)


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Shares left, rates right."""
    table = frame(run)
    if table.empty:
        raise RenderError(f"{run.path}: a single layer has no transition")
    figure = Figure(figsize=(WIDTH, 2.3))
    left, right = figure.subplots(1, 2)
    print(table, left)
    rates(table, right)
    over(run, figure)
    yield Product("transitions", figure, table)


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """What all tokens do between a block and the next, stacked to one."""
    bottom, places = np.zeros(len(frame)), frame["block"] + 1
    for name, (colour, label) in STEPS.items():
        share = frame[f"{name}_share"].to_numpy()
        ax.bar(places, share, bottom=bottom, color=colour, label=label, width=0.86)
        bottom += share
    ax.set(xlabel="from the block before to block", ylabel="share of all tokens", ylim=(0, 1))
    ax.set_xticks(places)
    percent_axis(ax)
    legend_above(ax, columns=4)
    return ax


def rates(frame: pd.DataFrame, ax: Axes) -> Axes:
    """The off-diagonal of the transition matrix per step: P(pruned | used), P(used | pruned); bars are
    5 % to 95 % of the images."""
    places = frame["block"] + 1
    for shift, (name, (colour, label)) in zip(spread(2, 0.3), RATES.items(), strict=True):
        ends = frame[f"{name}_low"], frame[f"{name}_high"]
        ax.vlines(places + shift, *ends, color=colour, alpha=0.4, lw=3)
        ax.plot(places + shift, frame[name], "o-", markersize=2.5, color=colour, label=label)
    ax.set(xlabel="from the block before to block", ylabel="rate", ylim=(0, 1.03))
    ax.set_xticks(places)
    percent_axis(ax)
    legend_above(ax, columns=2)
    return ax


ENTRY = Entry("used and pruned tokens from block to block", draw, RUN, __doc__)
