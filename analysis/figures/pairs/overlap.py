"""Which tokens two runs use alike, on the same images.

IoU: tokens that both use / tokens that either uses, per block, pooled over valid tokens of all
images; bars are 5 % to 95 % of single images. Chance: the same when masks of the same counts are
placed at random in every image; with a dense run the two are equal. The map: layers that use a
token in the first run minus in the second, resampled as in usage-map and averaged over images (red:
the first uses it more).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import heading, legend_above
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product
from analysis.figures.pairs.two_runs import difference_bar, explained, two
from analysis.figures.palette import DIVERGING, INK, USED
from analysis.figures.tokens.usage_map import drawn_ratio
from analysis.numbers import agreement
from analysis.numbers.run_counts import census
from analysis.sources import labels
from analysis.sources.collection import PAIR
from svit.runs.run import Run
from svit.system.text import counted


def frame(first: Run, second: Run) -> pd.DataFrame:
    """Overlap per block (`agreement.agreement_frame`)."""
    return agreement.agreement_frame(agreement.pairs(first, second), spread=True)


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Overlap left, the mean difference right."""
    first, second = two(runs)
    with explained():
        table = frame(first, second)
        mean = agreement.mean_difference(agreement.pairs(first, second), options.shape)
    figure = Figure(figsize=(WIDTH, 2.2))
    left, right = figure.subplots(1, 2)
    print(table, left)
    ratio = drawn_ratio(census(first), options.shape)
    mean_map(mean, right, limit=float(np.abs(mean).max()) or 1.0, ratio=ratio)
    heading(figure, f"{labels.versus(first, second)}, {counted(len(first), 'images')}")
    yield Product("overlap", figure, table)


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Overlap of the active sets of two runs per block, above what random masks of the same counts
    give."""
    block = frame["block"]
    ax.fill_between(block, frame["chance"], frame["iou"], color=USED, alpha=0.15, lw=0)
    if "iou_low" in frame:
        ax.vlines(block, frame["iou_low"], frame["iou_high"], color=USED, alpha=0.4, lw=3)
    ax.plot(block, frame["iou"], "o-", color=USED, markersize=2.5, label="both runs")
    label = "random masks, same counts"
    ax.plot(block, frame["chance"], color=INK, lw=0.7, ls="--", label=label)
    ax.set(xlabel="block", ylabel="IoU of the used tokens", ylim=(0, 1.03), xticks=block)
    legend_above(ax)
    return ax


def mean_map(values: np.ndarray, ax: Axes, *, limit: float, ratio: float) -> Axes:
    """`agreement.mean_difference`, colours as in `difference`.

    Args:
        ratio: height / width of the map as drawn (`usage_map.drawn_ratio`).
    """
    drawn = ax.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit)
    rows, columns = values.shape
    ax.set_aspect(ratio * columns / rows)
    told = f"mean over images,\naveraged as {rows} × {columns}"
    ax.set_title(told, pad=7)
    ax.set(xticks=[], yticks=[], anchor="W")
    ax.spines[:].set_visible(False)
    difference_bar(drawn, ax)
    return ax


ENTRY = Entry("tokens that two runs use alike, with the chance level", draw, PAIR, __doc__)
