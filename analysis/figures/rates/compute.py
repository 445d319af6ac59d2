"""Multiply-accumulates (MACs) of every module, and how much of the dense cost pruning saved.

Bars: mean over images; whiskers: 5 % to 95 %; percentages: share of the mean total. Counted by the
ledger from the recorded masks, padding included as the model computes it. The mask head counts the
recorded detections, the box head the configured number of proposals. Saved: 1 - total / total of
the same image with all tokens kept and nothing spent on choosing. Limit: the same without a single
token in the blocks that may prune.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.figures.canvas.axes import legend_above, over
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import BLOCKS, CHOOSING, INK, NEVER, USED
from analysis.numbers import budget, comparison
from analysis.sources.collection import RUN
from svit.runs.run import Run

LEAST = 0.01  # of the dense cost, that the histogram spans at least


def frame(run: Run) -> pd.DataFrame:
    """A row an image: MACs of every module, saved, reachable (`comparison.cost_frame`).

    Raises:
        RenderError: the run does not say what its model is.
    """
    try:
        return comparison.cost_frame(run, run.iter_traces(scores=False))
    except comparison.CostError as error:
        raise RenderError(str(error)) from error


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """The modules, and what was saved."""
    ledgers = frame(run)
    figure = Figure(figsize=(WIDTH, 2.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    limits = {
        "reachable": float(ledgers["reachable"].mean()),
        "of_backbone": float(ledgers["reachable_of_backbone"].mean()),
    }
    print(budget.module_frame(ledgers), left, **limits)
    print_savings(ledgers, right)
    over(run, figure)
    yield Product("compute", figure, ledgers)


def print(table: pd.DataFrame, ax: Axes, *, reachable: float, of_backbone: float) -> Axes:
    """Mean cost of every module (`budget.module_frame`), largest first, whiskers 5 % to 95 % of the
    images; what pruning works on is coloured.

    Args:
        reachable, of_backbone: mean shares of the dense network's and backbone's cost that pruning
            can reach, for the title.
    """
    rows = table.sort_values("mean", ascending=False)
    places, unit = np.arange(len(rows)), 1e9
    colours = [{"blocks": BLOCKS, "selection": CHOOSING}.get(n, NEVER) for n in rows["module"]]
    ax.barh(places, rows["mean"] / unit, color=colours, height=0.7)
    ax.hlines(places, rows["low"] / unit, rows["high"] / unit, color=INK, lw=0.8)
    reach = rows[["mean", "high"]].max(axis=1) / unit
    for place, x, share in zip(places, reach, rows["share"]):
        ax.annotate(f"{share:.1%}", (x, place), (3, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, rows["module"].str.replace("_", " "))
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="GMACs an image")
    ax.set_title(
        f"pruning can reach {reachable:.1%} of the network, {of_backbone:.1%} of the backbone"
    )
    ax.margins(x=0.14)
    return ax


def print_savings(ledgers: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the dense network's cost that pruning saved in each image (`comparison.cost_frame`),
    with the mean and the mean limit."""
    saved, reachable = ledgers["saved"], ledgers["reachable"].mean()
    bins = min(30, max(5, len(saved) // 4))
    ends = (saved.min(), saved.max())
    if ends[1] - ends[0] < LEAST:  # all alike: numpy would span a whole
        ends = (saved.mean() - LEAST / 2, saved.mean() + LEAST / 2)
    ax.hist(saved, bins=bins, range=ends, color=NEVER, edgecolor="white", lw=0.4)
    ax.axvline(saved.mean(), color=USED, lw=1.4, label=f"mean {round(saved.mean(), 3) + 0:.1%}")
    label = f"limit {reachable:.1%}"
    ax.axvline(reachable, color=INK, lw=0.7, ls="--", label=label)
    ax.set(xlabel="saved share of the dense cost", ylabel="images")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, columns=2)
    return ax


ENTRY = Entry("cost of every module and what pruning can reach", draw, RUN, __doc__)
