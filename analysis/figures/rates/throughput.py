"""Throughput over batch size: what batches gain on this machine, and whether pruning still pays in them.

Images a second: images of a call / its seconds, median over the rounds of one `svit benchmark --batch 1,2,4`;
lines are its quartiles. All sizes of batches of one benchmark were timed in one process, one after the other,
the variants of each in turn. A panel for each benchmark, part, picture size and setting; lines of different
benchmarks are never joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, NullLocator

from analysis.figures.canvas.axes import LINE, Named, names_beside
from analysis.figures.canvas.panels import panels
from analysis.figures.canvas.placing import short_names
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import LINES
from analysis.sources.benchmarks import Speed, names
from analysis.sources.collection import SPEEDS

HEIGHT, AROUND = 2.2, 0.9  # inches: a panel; its title and axis
MARKS = "osD^vP"


def frame(speeds: Sequence[Speed]) -> pd.DataFrame:
    """A row a variant and batch where there are several: benchmark, condition (without the batch), variant,
    batch, images_per_second with quartiles low and high, gmacs of a call.

    Raises:
        RenderError: no variant was timed at two sizes of batches.
    """
    called = names(speeds)
    rows = [
        {
            "benchmark": called[one.path],
            "condition": f"{called[one.path]}: {one.part}, {one.size}, {one.where}",
            "variant": one.variant,
            "batch": one.batch,
            "images_per_second": one.images_per_second,
            **dict(zip(("low", "high"), one.quartiles, strict=True)),
            "gmacs": one.gmacs,
        }
        for one in speeds
        if not one.recorded
    ]
    table = pd.DataFrame(rows)
    if len(table):
        several = table.groupby(["condition", "variant"])["batch"].transform("nunique") > 1
        table = table[several].sort_values(["condition", "variant", "batch"], ignore_index=True)
    if not len(table):
        raise RenderError(
            "no benchmark timed batches of several sizes: svit benchmark --batch 1,2,4 --out DIR"
        )
    return table


def draw(speeds: Sequence[Speed], options: DrawOptions) -> Iterator[Product]:
    """A panel a condition, two in a row."""
    table = frame(speeds)
    groups = list(table.groupby("condition", sort=False))
    height = max(HEIGHT, LINE * table.groupby("condition")["variant"].nunique().max() + AROUND)
    drawn = panels(len(groups), height)
    titles = short_names([condition for condition, _ in groups], 2 * drawn.letters)
    for ax, (condition, part) in zip(drawn.axes, groups, strict=True):
        print(part, ax, size=(drawn.width, height - AROUND))
        ax.set_title(drawn.wrapped(titles[condition]))
    yield Product("throughput", drawn.figure, table)


def print(frame: pd.DataFrame, ax: Axes, *, size: tuple[float, float] = (3.0, 1.3)) -> Axes:
    """Lines of one condition on paper, a variant each.

    Args:
        frame: of `frame`, rows of one condition.
        size: width and height of the Axes, about, in inches.
    """
    short, named = short_names(frame["variant"].tolist(), 30), []
    for index, (variant, rows) in enumerate(frame.groupby("variant", sort=False)):
        turn, at = divmod(index, len(LINES))
        middle = rows["images_per_second"]
        style = {"color": LINES[at], "marker": MARKS[turn % len(MARKS)], "markersize": 3.5}
        ax.errorbar(
            rows["batch"],
            middle,
            (middle - rows["low"], rows["high"] - middle),
            elinewidth=0.8,
            **style,
        )
        named.append(Named(rows["batch"].iloc[-1], middle.iloc[-1], short[variant], LINES[at]))
    ax.set_xscale("log", base=2)
    batches = sorted(frame["batch"].unique())
    ax.set_xticks(batches)
    ax.set(xlabel="images a call", ylabel="images a second")
    ax.grid(axis="y")
    ax.margins(x=0.08)
    names_beside(named, ax, *size)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FixedFormatter([str(round(tick)) for tick in ax.get_xticks()]))
    return ax


ENTRY = Entry("images a second over the size of a batch", draw, SPEEDS, __doc__)
