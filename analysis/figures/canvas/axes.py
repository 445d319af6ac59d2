"""Axes and marks that several figures share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.figures.canvas.placing import apart
from analysis.figures.canvas.sizes import wrapped
from analysis.figures.palette import FIELD
from analysis.sources import labels
from svit.runs.run import Run

LETTER, LINE = 0.05, 0.12  # inches: a letter and a line of small words
TICK = 0.3  # inches from a tick to the next
HEADING = 0.15  # inches: a line of a heading


class Named(NamedTuple):
    """A point and the words that stand right of all points at its height."""

    x: float
    y: float
    name: str
    colour: str


def spread(count: int, width: float = 0.6) -> np.ndarray:
    """Offsets that set `count` marks side by side around zero."""
    return (np.arange(count) - (count - 1) / 2) * width / max(count, 1)


def bands(ax: Axes, rows: Sequence[float]) -> None:
    """A faint band behind every second row, to be followed across panels."""
    for row in rows[1::2]:
        ax.axhspan(row - 0.5, row + 0.5, color=FIELD, lw=0, zorder=-1)


def blank(axes: Iterable[Axes]) -> None:
    """Those of a grid that nothing is drawn on."""
    for empty in axes:
        empty.set_axis_off()


def percents(axis: Axis) -> None:
    """Shares of 0 to 1 read as percents, with the decimals that a tick has: 5%, 2.5%."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6) + 0:g}%"))


def percent_axis(ax: Axes) -> None:
    """Shares of 0 to 1 on the y axis read as percents, with horizontal lines."""
    percents(ax.yaxis)
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)


def legend_above(ax: Axes, columns: int = 3) -> None:
    """The legend in columns between title and axes, where it hides no data."""
    over = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    small = mpl.rcParams["font.size"] * 0.9
    ax.legend(**over, ncols=columns, columnspacing=1.2, fontsize=small)


def names_beside(points: Sequence[Named], ax: Axes, width: float, height: float) -> None:
    """Names right of the points, in room that the x axis gets for them, each as near to the height of its
    point as the others allow. Call it last: it fixes the limits and ticks of both axes.

    Args:
        width, height: of the Axes, about, in inches.
    """
    if not points:
        return
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    share = min(LETTER * max(len(one.name) for one in points) / width, 0.6)
    scale = ax.xaxis.get_transform()
    start, end = scale.transform([left, right])
    room = (end - start) * share / (1 - share)
    ticks = [tick for tick in ax.get_xticks() if left <= tick <= right]
    ticks = ticks[:: max(1, math.ceil(len(ticks) * TICK / (width * (1 - share))))]
    step = (high - low) * LINE / height
    places = apart([one.y for one in points], step, low + step / 2, high - step / 2)
    ax.set(xlim=(left, float(scale.inverted().transform(end + room))), ylim=(low, high))
    ax.set_xticks(ticks)
    for one, place in zip(points, places, strict=True):
        line = {"arrowstyle": "-", "color": one.colour, "lw": 0.7, "ls": ":", "alpha": 0.7}
        line |= {"shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
        words = {"color": one.colour, "fontsize": "small", "va": "center", "arrowprops": line}
        # the room is in the axis: the layout must not make it again
        ax.annotate(one.name, (one.x, one.y), (right, place), **words).set_in_layout(False)


def heading(figure: Figure, text: str) -> None:
    """A heading over a figure, which grows by its lines."""
    width, height = figure.get_size_inches()
    lines = wrapped(text, width)
    figure.set_size_inches(width, height + HEADING * (1 + lines.count("\n")))
    figure.suptitle(lines, ha="left", x=0.01)


def over(run: Run, figure: Figure) -> None:
    """The heading of a figure of a single run: which, and of how many images."""
    heading(figure, labels.titled(run))
