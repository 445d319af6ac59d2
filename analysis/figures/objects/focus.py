"""Where several models spend their tokens: a row a run, the one that tells objects best first.

Left: AUC of the usage map = P(a token of the kind is used by more layers than another) + P(equal) / 2,
all valid tokens of all images pooled; one half is chance. Kinds: objects cover more than 25 % of the
token; an object's outline passes it. Right: layers that use a token inside objects, on contours, on the
background, on average. Marks of a row stand below each other, so that none hides another. It says where a
model looks, not what that is worth: see controls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.objects.regions import REGIONS
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, annotated
from analysis.figures.palette import INK
from analysis.numbers import regions as objects
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.runs.run import Run

ROW, BESIDE = 0.27, 0.7  # inches: a run; of it, what its marks take


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a run (`regions.focus`), the one that tells objects best first.

    Raises:
        RenderError: a run is not annotated, or no token of it shows an object or an outline.
    """
    rows = []
    for name, run in zip(labels.row_names(runs), runs, strict=True):
        found = objects.focus(list(annotated(run)))
        if np.isnan([found["object_auc"], found["contour_auc"]]).all():
            raise RenderError(f"{run.path}: the ground truth holds no objects")
        rows.append({"model": name.replace("\n", ", "), **found})
    return pd.DataFrame(rows).sort_values("object_auc", ascending=False, ignore_index=True)


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Two panels with a row a run."""
    table = frame(runs)
    figure = Figure(figsize=(WIDTH, ROW * len(table) + 0.75))
    print(table, *figure.subplots(1, 2, sharey=True))
    yield Product("focus", figure, table)


def print(table: pd.DataFrame, left: Axes, right: Axes) -> tuple[Axes, Axes]:
    """Two axes with a row a model (`objects.focus`): AUC of its usage, and layers that use each region."""
    places = np.arange(len(table))
    kinds = {"object_auc": ("shows an object", "inside"), "contour_auc": ("an outline", "contour")}
    for beside, (column, (name, region)) in zip(spread(2, BESIDE), kinds.items(), strict=True):
        colour = REGIONS[region]
        left.plot(table[column], places + beside, "o", color=colour, markersize=4, label=name)
    left.axvline(0.5, color=INK, lw=0.7, ls="--")
    for beside, (region, colour) in zip(spread(3, BESIDE), REGIONS.items(), strict=True):
        right.plot(table[region], places + beside, "o", color=colour, markersize=4, label=region)
    left.set_yticks(places, table["model"])
    left.set(ylim=(len(table) - 0.5, -0.5), xlabel="AUC of the usage map")
    right.set(xlabel="layers that use a token, on average")
    for ax in (left, right):
        ax.grid(axis="both", lw=0.4)
        legend_above(ax)
    return left, right


ENTRY = Entry("where several models spend their tokens, a row a run", draw, RUNS, __doc__)
