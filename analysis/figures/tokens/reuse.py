"""Whether blocks use the same tokens: overlap of every pair of blocks (paper 3.3 on Evo-ViT).

IoU: tokens that both blocks use / tokens that either uses, pooled over valid tokens of all images; 1
is the same tokens again. Below the diagonal; above it what masks of the same counts placed at random
in every image give. Blocks that use all tokens are left out. Several runs stand side by side, never
averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.figures.canvas.axes import blank, over
from analysis.figures.canvas.sizes import SCALE, WIDTH, wrapped
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, paths
from analysis.numbers import lifetimes
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.runs.run import Run

SMALLEST = 9  # most blocks whose cells have their numbers


def frame(run: Run) -> pd.DataFrame:
    """Overlap of every pair of blocks that prune (`lifetimes.reuse_frame`)."""
    return lifetimes.reuse_frame(run.iter_traces(scores=False))


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A matrix a run, two in a row."""
    frames = [frame(run) for run in runs]
    if not any(map(len, frames)):
        raise RenderError(f"{paths(runs)}: fewer than two blocks prune a token")
    columns, rows = min(len(runs), 2), math.ceil(len(runs) / 2)
    side = (WIDTH - SCALE) / 2
    figure = Figure(figsize=(columns * side + SCALE, rows * (side + 0.35)))
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, run, name, table in zip(cells, runs, labels.places(runs), frames, strict=False):
        if len(table):
            drawn = print(table, ax)
        else:
            ax.set_axis_off()
        told = "" if len(table) else ": fewer than two blocks prune a token"
        if len(runs) > 1:
            ax.set_title(wrapped(labels.titled(run, name) + told, side))
    bar: Colorbar = figure.colorbar(drawn, ax=cells, fraction=0.03, aspect=30)
    bar.set_label("IoU of the used tokens")
    bar.outline.set_visible(False)
    blank(cells[len(runs) :])
    if len(runs) == 1:
        over(runs[0], figure)
    yield Product("reuse", figure, labels.labelled(runs, frames))


def print(frame: pd.DataFrame, ax: Axes) -> AxesImage:
    """The matrix of one run: overlap below the diagonal, chance above."""
    blocks = sorted({*frame["first"], *frame["second"]})
    values = np.full((len(blocks), len(blocks)), np.nan)
    for first, second, iou, chance in frame[["first", "second", "iou", "chance"]].to_numpy():
        low, high = blocks.index(first), blocks.index(second)
        values[high, low], values[low, high] = iou, chance
    drawn = ax.imshow(values, vmin=0, vmax=1, cmap="viridis")
    if len(blocks) <= SMALLEST:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "white" if value < 0.6 else "black"
                ax.text(
                    column, row, f"{value:.2f}".lstrip("0"), color=ink, ha="center", va="center"
                )
    places = range(len(blocks))
    ax.set_xticks(places, blocks)
    ax.set_yticks(places, blocks)
    ax.set(xlabel="block (above the diagonal: chance)", ylabel="block")
    ax.spines[:].set_visible(False)
    return drawn


ENTRY = Entry("whether blocks use the same tokens, beside chance", draw, RUNS, __doc__)
