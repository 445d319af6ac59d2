"""AP against measured speed, where `svit benchmark` timed what was evaluated (paper Fig. 7 and Table 5).

Images a second: median over rounds, lines its quartiles; AP with its 95 % percentile interval over images,
as stated. A speed stands beside an AP only where the number type was the same, pictures of the size that
was timed could have been evaluated, and the model kept as many tokens in both: the same preset and base
keep ratio, and mean shares of tokens kept over all layers that differ by at most half a percent of all
tokens. A benchmark forces its ratios, a gate's own threshold keeps what it finds: kinds that keep another
share than was timed are named below and not drawn. A panel for each benchmark, part, size and machine;
speeds of different panels share no axis.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.panels import panels
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.rates import tradeoff
from analysis.figures.rates.points import Points
from analysis.sources import benchmarks, evaluations
from analysis.sources.collection import RESULTS, Collection

HEIGHT, LINE = 2.4, 0.14  # inches: a panel; a line of words below all
LETTERS = 150  # of small words in the text width
TITLE = "images a second, measured"


def frame(found: Collection) -> dict[str, pd.DataFrame]:
    """Benchmark and condition -> a row a result that was timed there (`benchmarks.speed_frames`)."""
    results = evaluations.own_masks(found.results)
    evaluations.same_data(results)
    return benchmarks.speed_frames(results, found.speeds)


def refused(found: Collection) -> str:
    """The kinds that were timed at another share of tokens than they keep, in words, or ""."""
    rows = benchmarks.unlike(evaluations.own_masks(found.results), found.speeds)
    told = [
        f"{row.model}{f', {row.inference}' if row.inference else ''} keeps {row.kept:.1%} of the tokens"
        f" and was timed at {'an unknown share' if np.isnan(row.timed) else format(row.timed, '.1%')}"
        for row in rows.itertuples()
    ]
    return f"Not drawn: {'; '.join(told)}." if told else ""


def draw(found: Collection, options: DrawOptions) -> Iterator[Product]:
    """Box and mask AP, a panel a condition."""
    timed, note = frame(found), refused(found)
    if not timed:
        raise RenderError(
            note
            or "no benchmark timed a model that was evaluated at the same ratios, in the same numbers and "
            "with pictures of that size"
        )
    table = pd.concat(
        [one.assign(condition=condition) for condition, one in timed.items()], ignore_index=True
    ).rename(columns={"slow": "low", "fast": "high"})
    for kind in tradeoff.measured(table):
        yield Product(f"tradeoff-speed-{kind}", compose(timed, kind, note), table)


def compose(timed: dict[str, pd.DataFrame], kind: str, note: str = "") -> Figure:
    """A panel a condition, and what is left out below."""
    words = textwrap.wrap(note, LETTERS)
    drawn = panels(len(timed), HEIGHT, LINE * (1 + len(words)))
    for ax, (condition, table) in zip(drawn.axes, timed.items(), strict=True):
        print(Points(table, kind, "images_per_second"), ax, width=drawn.width)
        ax.set_title(drawn.wrapped(condition))
    drawn.foot.text(0.01, 0.5, "\n".join(words), va="center", fontsize="small")
    return drawn.figure


def print(points: Points, ax: Axes, *, width: float = WIDTH / 2) -> Axes:
    """AP against images a second on paper, everything named.

    Args:
        width: of the Axes, about, in inches.
    """
    tradeoff.print(points, ax, named=points.means["series"].tolist(), size=(width, HEIGHT - 0.8))
    ax.set(xlabel=TITLE, ylabel=f"{points.kind} AP")
    return ax


ENTRY = Entry("AP against measured speed", draw, RESULTS, __doc__)
