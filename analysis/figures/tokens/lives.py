"""How long tokens stay used or pruned without a break, and how often they return.

Left: spells of that length / all spells of the kind, over valid tokens of all images; spells of
pruning that end with a return are apart from those that last to the end. Right: tokens that
return so often / all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, over, percent_axis, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product
from analysis.figures.palette import LATER, NEVER, RULE, USED
from analysis.numbers import lifetimes
from analysis.sources.collection import RUN
from svit.runs.run import Run

KINDS = {
    "used": (USED, "used"),
    "pruned_ended": (LATER, "pruned, then returned"),
    "pruned_last": (NEVER, "pruned to the end"),
}


def frame(run: Run) -> pd.DataFrame:
    """`lifetimes.life_frame` and `return_frame` below each other, told apart by `part`."""
    spells = lifetimes.life_frame(run.iter_traces(scores=False))
    returns = lifetimes.return_frame(run.iter_traces(scores=False))
    both = {"spells": spells, "returns": returns}
    return pd.concat(both, names=["part"]).reset_index(level=0)


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Spells left, returns right."""
    table = frame(run)
    figure = Figure(figsize=(WIDTH, 2.3))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    print(table[table["part"] == "spells"], left)
    returns(table[table["part"] == "returns"], right)
    over(run, figure)
    yield Product("lives", figure, table)


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """How long unbroken spells last (`lifetimes.life_frame`); each kind adds up to one."""
    for shift, (name, (colour, label)) in zip(spread(3, 0.84), KINDS.items(), strict=True):
        style = {"width": 0.27, "color": colour, "label": label}
        ax.bar(frame["length"] + shift, frame[f"{name}_share"].fillna(0), **style)
    ax.set(xlabel="layers without a break", ylabel="share of spells", xticks=frame["length"])
    ax.margins(y=0.08)
    percent_axis(ax)
    legend_above(ax)
    return ax


def returns(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Tokens by how often they returned (`lifetimes.return_frame`); those that no layer pruned are
    the light part."""
    total = max(frame["tokens"].sum(), 1)
    pruned = frame["pruned"] / total
    ax.bar(frame["returns"], pruned, color=LATER, width=0.8, label="pruned in some layer")
    never = {"bottom": pruned, "color": RULE, "width": 0.8, "label": "never pruned"}
    ax.bar(frame["returns"], frame["share"] - pruned, **never)
    ax.set(xlabel="returns of a token", ylabel="share of all tokens", xticks=frame["returns"])
    ax.set_ylim(0, 1.08 * max(frame["share"].max(), 1e-3))
    percent_axis(ax)
    legend_above(ax, columns=2)
    return ax


ENTRY = Entry("how long tokens stay used or pruned, how often they return", draw, RUN, __doc__)
