"""What kinds of error cost more in one of two runs, first minus second.

dAP of the six types of TIDE (`errors`; boxes, all detections) in both runs, and the paired difference with
its 95 % percentile interval over images (1,000 draws of the same images for both): above 0 the type costs
the first run more. AP50 itself is the first row. A type's dAP is what mending it alone would gain, so the
rows do not add up to the difference in AP. The table has P, the share of draws in which the first is
higher, ties by half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import heading
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.objects.errors import errors_on
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, detected, paths
from analysis.figures.pairs.two_runs import explained, two
from analysis.figures.palette import ERRORS, INK
from analysis.numbers import error_causes
from analysis.numbers.error_types import BOXES, errors_of
from analysis.sources import labels
from analysis.sources.collection import PAIR
from svit.runs import pairing
from svit.runs.run import Run
from svit.system.text import counted


def frame(first: Run, second: Run, draws: int = 1000) -> pd.DataFrame:
    """A row a type, AP50 before them: `error_causes.difference_frame`.

    Raises:
        RenderError: the second lacks detections of an image of the first, or has other classes.
    """
    samples = ((trace.image_id, *rest) for trace, *rest in detected(first))
    own, other = errors_of(samples, first.class_names), errors_on(second, first, BOXES)
    if other is None:
        raise RenderError(
            f"{paths((first, second))}: the second lacks detections or classes of the first; "
            "record both on the same images"
        )
    return error_causes.difference_frame(own, other, draws)


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A line a type."""
    first, second = two(runs)
    with explained():
        pairing.check_pair(first, second)
        pairing.check_classes(first, second)
    table = frame(first, second)
    figure = Figure(figsize=(WIDTH * 0.75, 2.3))
    print(table, figure.subplots())
    heading(figure, f"{labels.versus(first, second)}, {counted(len(first), 'images')}")
    yield Product("error-deltas", figure, table)


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Differences with their intervals."""
    for place, row in enumerate(frame.to_dict("records")):
        colour = ERRORS.get(row["error"], INK)
        ax.plot([row["low"], row["high"]], [place] * 2, color=colour, lw=1.4)
        ax.scatter([row["cost"]], [place], s=22, color=colour, zorder=3)
    names = [f"{row['error']}  {row['cost']:+.1f}" for row in frame.to_dict("records")]
    ax.set_yticks(range(len(frame)), names)
    ax.axvline(0, color=INK, lw=0.7, ls="--")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("points, first − second")
    return ax


ENTRY = Entry("what kinds of error cost more in one of two runs", draw, PAIR, __doc__)
