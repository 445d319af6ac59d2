"""What pruning costs and masks are worth on one kind of picture and on another: box AP by slices.

A row is a model with its own masks, a colour a slice: crowded images have more objects than the median one,
sparse ones at most as many; other slices are texts that the data say of each image, as nuclei's `kind`. From
the left: the share of tokens kept in the gated layers; AP minus that of the dense model trained alike; AP
minus that with the same masks shuffled over positions; AP minus that with as many tokens around the middle
of the picture. AP is COCO's of the images of the slice alone, and the line its paired 95 % percentile
interval over them (300 draws), mean over training seeds. APs of two slices are not compared: their images are
not equally hard. Needs `matches.npz` and `images.csv` beside the summaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import palette
from analysis.figures.canvas.axes import LETTER, LINE, bands, percents, spread
from analysis.figures.canvas.placing import short_names, shortened
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.sources import labels, paired, slices
from analysis.sources.collection import RESULTS, Collection
from analysis.sources.evaluations import Evaluation
from svit.system.text import counted

MARK, GAP, AROUND = 0.11, 0.08, 0.75  # inches: a mark; between models; axis and legend
SIGN = 0.4  # inches: the mark of a legend's entry, and room after its words
LETTERS = 40  # of a text in the legend
KEPT = "kept"
PANELS = {
    KEPT: "tokens kept",
    paired.DENSE: "AP − dense",
    "shuffle": "AP − own, shuffled",
    "centre": "AP − middle",
}


def frame(results: Sequence[Evaluation]) -> pd.DataFrame:
    """`slices.frame` of results that have one.

    Raises:
        RenderError: none has.
        EvaluationError: matches are damaged, or the results are of different images.
    """
    table = slices.frame(results)
    if not len(table):
        raise RenderError(
            "no evaluation has matches.npz and images.csv beside its summary, pictures of two slices and "
            "another to be compared with: `svit compare`, or `svit evaluate --intervene learned,shuffle`"
        )
    return table


def draw(found: Collection, options: DrawOptions) -> Iterator[Product]:
    """A figure a slice."""
    for name, part in frame(found.results).groupby("slice"):
        yield Product(f"slices-{labels.file_name(str(name))}", compose(part), part)


def compose(part: pd.DataFrame) -> Figure:
    """All panels of one slice beside each other."""
    rows = _rows(part)
    texts = _legend(part)
    shown = [one for one in PANELS if one == KEPT or one in set(part["against"])]
    columns = max(1, int(WIDTH / (SIGN + 1.3 * LETTER * max(map(len, texts.values())))))
    lines = -(-len(texts) // columns)
    height = (MARK * len(texts) + GAP) * len(rows) + AROUND + 1.4 * LINE * lines
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True, width_ratios=_widths(shown))
    for ax, what in zip(grid[0], shown, strict=True):
        print(part, ax, what, rows, texts)
    first = grid[0][0]
    first.set_yticks(list(rows.values()), list(short_names(list(rows)).values()))
    first.set_ylim(len(rows) - 0.5, -0.5)
    marks, words = first.get_legend_handles_labels()
    title = {"title": shortened(str(part["slice"].iloc[0]), LETTERS), "alignment": "left"}
    figure.legend(marks, words, loc="outside upper left", ncols=columns, **title)
    return figure


def _legend(part: pd.DataFrame) -> dict[str, str]:
    """Text of the slice -> what the legend says of it."""
    images = part.drop_duplicates("of").set_index("of")["images"]
    short = short_names(images.index.tolist(), LETTERS)
    return {text: f"{short[text]}, {counted(count, 'images')}" for text, count in images.items()}


def _widths(shown: list[str]) -> list[float]:
    return [0.7 if one == KEPT else 1.0 for one in shown]


def _rows(part: pd.DataFrame) -> dict[str, int]:
    """Name -> row, from the best on by the mean over slices."""
    order = part.groupby("name")["ap"].mean().sort_values(ascending=False)
    return {name: place for place, name in enumerate(order.index)}


def print(
    part: pd.DataFrame, ax: Axes, what: str, rows: Mapping[str, int], texts: Mapping[str, str]
) -> Axes:
    """One panel on paper.

    Args:
        part: `slices.frame` of one slice.
        what: of `PANELS`.
        rows: name of a model -> its row.
        texts: of the slice -> what the legend says of it.
    """
    offsets = spread(len(texts), 0.75)
    for (text, label), beside, ink in zip(texts.items(), offsets, palette.LINES * len(texts)):
        mine = part[part["of"] == text]
        mine = mine.drop_duplicates("name") if what == KEPT else mine[mine["against"] == what]
        height = mine["name"].map(rows) + beside
        if what != KEPT:
            ax.hlines(height, mine["low"], mine["high"], color=ink, lw=1)
        value = mine["keep_ratio" if what == KEPT else "value"]
        ax.plot(value, height, "o", color=ink, markersize=4, label=label)
    if what == KEPT:
        percents(ax.xaxis)
    else:
        ax.axvline(0, color=palette.INK, lw=0.7, zorder=0)
    bands(ax, list(rows.values()))
    ax.set_xlabel(PANELS[what])
    ax.grid(axis="x")
    ax.margins(x=0.08)
    return ax


ENTRY = Entry("box AP, its cost and the worth of masks by slices of images", draw, RESULTS, __doc__)
