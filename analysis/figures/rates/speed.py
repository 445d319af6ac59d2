"""Speed-up by pruning against the number of tokens, from `svit benchmark`.

Speed-up: seconds of the same model with all tokens kept / seconds with pruning, the same kernels,
round by round in one process; median with quartiles over rounds. Dashes: the same ratio of
multiply-accumulates, which arithmetic allows. Where the line crosses 1, pruning begins to pay. Colours are
variants, marks are benchmarks of one variant. A panel for each part, machine and setting; lines of
different benchmarks are never joined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, NullLocator

from analysis.figures import palette
from analysis.figures.canvas.axes import LINE, Named, names_beside
from analysis.figures.canvas.panels import panels
from analysis.figures.canvas.placing import short_names
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.sources import benchmarks
from analysis.sources.benchmarks import Speed
from analysis.sources.collection import SPEEDS

HEIGHT, AROUND, FOOT = 2.3, 0.9, 0.2  # inches: a panel; its title and axis; a row of the legend
KEYS = 3  # in a row of the legend
MARKS = "osD^vP"
APART = 1.7  # ratio from which the numbers of two ticks do not touch


def frame(speeds: Sequence[Speed]) -> pd.DataFrame:
    """A row a pruned variant and size (`benchmarks.speedups`).

    Raises:
        RenderError: there is none.
    """
    table = benchmarks.speedups(speeds)
    if not len(table):
        raise RenderError(
            "no benchmark timed a model both with all tokens and pruned: "
            "svit benchmark --keep dense,paper --sizes 224x224,640x640,800x1333 --out DIR"
        )
    return table


def draw(speeds: Sequence[Speed], options: DrawOptions) -> Iterator[Product]:
    """A panel a condition, two in a row, over what colours mean."""
    table = frame(speeds)
    groups = list(table.groupby("condition", sort=False))
    inks = colours(table)
    lines = table.drop_duplicates(["condition", "benchmark", "variant"])["condition"].value_counts()
    height = max(HEIGHT, LINE * lines.max() + AROUND)
    drawn = panels(len(groups), height, FOOT * math.ceil((len(inks) + 1) / KEYS))
    for ax, (condition, part) in zip(drawn.axes, groups, strict=True):
        print(part, ax, inks=inks, size=(drawn.width, height - AROUND))
        ax.set_title(drawn.wrapped(condition))
    drawn.foot.legend(handles=keys(inks), loc="center", ncols=KEYS)
    yield Product("speed", drawn.figure, table)


def colours(table: pd.DataFrame) -> dict[str, str]:
    """Variant -> colour."""
    return dict(zip(table["variant"].unique(), cycle(palette.LINES)))


def keys(inks: dict[str, str]) -> list[Line2D]:
    """What colours mean, for a legend."""
    names = short_names(list(inks), 30)
    lines = [Line2D([], [], color=ink, label=names[name]) for name, ink in inks.items()]
    dashes = {"ls": "--", "marker": "_", "color": palette.SOFT, "lw": 0.8}
    return [*lines, Line2D([], [], **dashes, label="limit by arithmetic")]


def print(
    frame: pd.DataFrame, ax: Axes, *, inks: dict[str, str], size: tuple[float, float] = (3.0, 1.4)
) -> Axes:
    """Lines of one condition, a benchmark and variant each, over their limits by arithmetic.

    Args:
        frame: of `frame`, rows of one condition.
        inks: of `colours`.
        size: width and height of the Axes, about, in inches.
    """
    looks, named = _looks(frame), []
    for (benchmark, variant), rows in frame.groupby(["benchmark", "variant"], sort=False):
        rows, ink = rows.sort_values("tokens"), inks[variant]
        mark, name = looks[benchmark, variant]
        ends = rows["speedup"] - rows["low"], rows["high"] - rows["speedup"]
        style = {"color": ink, "marker": mark, "markersize": 3.5, "elinewidth": 0.8}
        ax.errorbar(rows["tokens"], rows["speedup"], ends, **style)
        ax.plot(rows["tokens"], rows["limit"], "--_", color=ink, lw=0.8)
        last = rows.iloc[-1]
        named.append(Named(last["tokens"], last["speedup"], name, ink))
    ax.axhline(1, color=palette.SLATE, lw=0.6)
    ax.set_xscale("log")
    ticks = told_apart(frame["tokens"].unique())
    ax.set_xticks(ticks)
    ax.margins(x=0.1)
    ax.set(xlabel="tokens of the image", ylabel="times as fast as with all tokens")
    ax.grid(axis="y")
    names_beside(named, ax, *size)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    return ax


def told_apart(values: Iterable[float]) -> list[float]:
    """Ticks of a logarithmic axis whose numbers do not touch; the largest is one."""
    kept: list[float] = []
    for value in sorted(values, reverse=True):
        if not kept or kept[-1] > APART * value:
            kept.append(value)
    return kept[::-1]


def _looks(frame: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """Benchmark and variant -> mark of the benchmark, and what tells the line apart: the benchmark, or where
    there is but one of them the variant, or both."""
    lines = frame[["benchmark", "variant"]].drop_duplicates()
    several = lines["benchmark"].nunique() > 1
    alone = lines.groupby("benchmark")["variant"].transform("size") == 1
    full = [
        (one if single else f"{one}: {other}") if several else other
        for (one, other), single in zip(lines.to_numpy(), alone, strict=True)
    ]
    short, turns = short_names(full, 30), lines.groupby("variant").cumcount()
    return {
        (benchmark, variant): (MARKS[turn % len(MARKS)], short[name])
        for (benchmark, variant), turn, name in zip(lines.to_numpy(), turns, full, strict=True)
    }


ENTRY = Entry("speed-up by pruning against the number of tokens", draw, SPEEDS, __doc__)
