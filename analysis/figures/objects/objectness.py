"""How well usage tells object tokens from others, beside three maps that need no network.

AUC = P(a token of the kind scores higher than another) + P(equal) / 2; one half is chance. Kinds:
objects cover more than 25 % of the token; an object's outline passes it. Dots and numbers: all
valid tokens of all images pooled; tick and bar: mean and 5 % to 95 % over single images. The table
tells how far usage is above each map over single images, paired, with its 95 % interval, for slices of
the images, too. Local contrast is the standard deviation of grey in the token, colour distance that of
its mean colour from the image's, nearness 1 - distance from the middle of the image / half its diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, over, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, annotated
from analysis.figures.palette import INK, LINES, SOFT, USED
from analysis.numbers import regions as objects
from analysis.sources.collection import RUN
from svit.runs.run import Run

MAP_COLOURS = {"usage": USED, "centre": SOFT, "contrast": LINES[1], "colour": LINES[3]}
MAP_NAMES = {
    "usage": "usage (layers)",
    "centre": "nearness to the middle",
    "contrast": "local contrast",
    "colour": "colour distance",
}


def frame(run: Run) -> pd.DataFrame:
    """A row a map and goal, of all images and of each slice (`regions.objectness_by`).

    Raises:
        RenderError: the run lacks pictures or annotations, or no image has both kinds of tokens.
    """
    single = objects.objectness_frame(annotated(run, "picture"))
    table = objects.objectness_by(single, run.images[["image_id", *run.slices]])
    if table["pooled"].isna().all():
        raise RenderError(f"{run.path}: no image has both object and other tokens")
    return table


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """One panel, a group of rows a goal."""
    table = frame(run)
    figure = Figure(figsize=(WIDTH * 0.7, 2.2))
    print(table[table["slice"] == "all"], figure.subplots())
    over(run, figure)
    yield Product("objectness", figure, table)


def print(table: pd.DataFrame, ax: Axes) -> Axes:
    """AUC of each map against each goal (`objects.objectness_table`): a dot for all tokens pooled, a
    bar for 5 % to 95 % of the single images with a tick at their mean. One half is chance."""
    goals = list(dict.fromkeys(table["goal"]))
    maps = [name for name in MAP_NAMES if name in set(table["map"])]
    for shift, name in zip(spread(len(maps)), maps, strict=True):
        rows = table[table["map"] == name].set_index("goal").reindex(goals)
        places, colour = np.arange(len(goals)) + shift, MAP_COLOURS[name]
        ax.hlines(places, rows["low"], rows["high"], color=colour, alpha=0.3, lw=4)
        ax.plot(rows["mean"], places, "|", color=colour, markersize=7)
        ax.plot(rows["pooled"], places, "o", color=colour, markersize=4, label=MAP_NAMES[name])
        for x, y in zip(rows["pooled"], places):
            ax.annotate(f"{x:.3f}", (1.01, y), xycoords=("axes fraction", "data"), va="center")
    ax.axvline(0.5, color=INK, lw=0.7, ls="--")
    names = {"foreground": "shows an object\n(over 25 % covered)", "contour": "an outline passes"}
    ax.set_yticks(np.arange(len(goals)), [names[goal] for goal in goals])
    ax.set(ylim=(len(goals) - 0.5, -0.5), xlabel="AUC; dot: all tokens, tick and bar: images")
    legend_above(ax)
    return ax


ENTRY = Entry("usage as objectness (AUC) beside maps without a network", draw, RUN, __doc__)
