"""How many tokens single images keep, block by block: histograms over images.

Above: a panel a block that may prune (the last nine); dotted lines at a quarter, half and three
quarters. Below: the same blocks in three groups, a step line a block. Tokens where all images have
equally many, else the share of an image's own; valid tokens only. The official code draws blocks 4 to
12 of ImageNet so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas.axes import blank, over, percents
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product
from analysis.figures.palette import LINES, SOFT, USED
from analysis.numbers.usage import gated_layers
from analysis.sources.collection import RUN
from svit.runs.run import Run

PANELS, GROUPS, IN_A_ROW = 9, 3, 3
BINS = 40


def frame(run: Run) -> pd.DataFrame:
    """A row an image and block: kept and valid tokens, and their share."""
    table = run.keep_counts()[["image_id", "layer", "kept_valid", "valid"]]
    table = table.assign(block=table["layer"] + 1, share=table["kept_valid"] / table["valid"])
    return table[["image_id", "block", "kept_valid", "valid", "share"]]


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Panels over groups."""
    table = frame(run)
    blocks = [layer + 1 for layer in gated_layers(run.layers, run.targets)][-PANELS:]
    values, most = measured(table)
    rows = math.ceil(len(blocks) / IN_A_ROW)
    figure = Figure(figsize=(WIDTH, 1.05 * rows + 1.7))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.05 * rows, 1.7])
    cells = list(upper.subplots(rows, IN_A_ROW, sharex=True, squeeze=False).flat)
    for block, ax in zip(blocks, cells, strict=False):
        print(values[table["block"] == block], ax, most=most, title=f"block {block}")
    blank(cells[len(blocks) :])
    groups = [list(part) for part in np.array_split(blocks, GROUPS) if len(part)]
    axes = lower.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for group, ax in zip(groups, axes, strict=True):
        steps({block: values[table["block"] == block] for block in group}, ax, most=most)
    axes[0].set_ylabel("images")
    over(run, figure)
    yield Product("counts", figure, table)


def measured(table: pd.DataFrame) -> tuple[pd.Series, int]:
    """Tokens and how many there are, where all images have as many; else shares and 1."""
    if table["valid"].nunique() == 1:
        return table["kept_valid"], int(table["valid"].iloc[0])
    return table["share"], 1


def print(values: pd.Series, ax: Axes, *, most: int, title: str) -> Axes:
    """The histogram of one block.

    Args:
        most: the tokens of an image; 1 where `values` are shares.
    """
    ax.hist(values, bins=_bins(most), color=USED)
    for part in (0.25, 0.5, 0.75):
        ax.axvline(part * most, color=SOFT, lw=0.6, ls=":", zorder=0)
    ax.set_title(title)
    return _axis(ax, most)


def steps(values: dict[int, pd.Series], ax: Axes, *, most: int) -> Axes:
    """A step line a block."""
    for (block, kept), colour in zip(values.items(), LINES, strict=False):
        style = {"histtype": "step", "lw": 1.1, "color": colour, "label": f"block {block}"}
        ax.hist(kept, bins=_bins(most), **style)
    ax.legend(loc="best", handlelength=0.8)
    ax.set_xlabel("share of tokens kept" if most == 1 else f"kept of {most} tokens")
    return _axis(ax, most)


def _bins(most: int) -> np.ndarray:
    """Edges up to `most`; of few tokens each number has its bin."""
    if most == 1:
        return np.linspace(0, 1, BINS + 1)
    width = max(1, math.ceil((most + 1) / BINS))
    return np.arange(0, most + 1 + width, width) - 0.5


def _axis(ax: Axes, most: int) -> Axes:
    ax.set_xlim(0, most)
    if most == 1:
        percents(ax.xaxis)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=most > 1))
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return ax


ENTRY = Entry("how many tokens single images keep, block by block", draw, RUN, __doc__)
