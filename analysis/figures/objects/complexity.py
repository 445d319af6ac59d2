"""Do complex images keep more tokens? Keep ratio of every image against three measures of it.

Keep ratio: mean over blocks that may prune (all where the run states no targets) of kept valid /
valid tokens. Annotated objects without
crowds; pixels that they cover / pixels of the image; pixels of the stored picture whose grey
changes by more than 16 levels a pixel / its pixels. ρ: Spearman's rank correlation over images
with its 95 % percentile interval.
"""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import over
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import USED
from analysis.numbers import budget
from analysis.sources.collection import RUN
from svit.core.statistics import Interval
from svit.runs.run import Run

KEPT = "keep ratio, mean over blocks"
MEASURES = {
    "objects": "annotated objects",
    "area": "share of the image that objects cover",
    "edges": "edge density of the picture",
}


def frame(run: Run) -> pd.DataFrame:
    """A row an image (`budget.complexity_frame`).

    Raises:
        RenderError: there is nothing to measure, or nothing is pruned.
    """
    table = budget.complexity_frame(run)
    if not measures(table):
        raise RenderError(f"{run.path} holds neither annotations nor pictures to measure")
    if (table["keep_ratio"] == 1).all():
        raise RenderError(f"{run.path}: no layer prunes a token, so all images keep as many")
    return table


def measures(frame: pd.DataFrame) -> list[str]:
    """The measures of complexity that any image has."""
    return [name for name in budget.COMPLEXITY if frame[name].notna().any()]


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A panel a measure."""
    table = frame(run)
    shown = measures(table)
    figure = Figure(figsize=(WIDTH, 2.1))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for name, ax in zip(shown, axes, strict=True):
        interval = budget.spearman(table[name], table["keep_ratio"])
        print(table, ax, name=name, interval=interval)
    axes[0].set_ylabel(KEPT)
    over(run, figure)
    yield Product("complexity", figure, table)


def print(frame: pd.DataFrame, ax: Axes, *, name: str, interval: Interval) -> Axes:
    """Keep ratio of every image against one measure of complexity (`budget.complexity_frame`)."""
    rows = frame.dropna(subset=[name])
    size = float(np.clip(600 / max(len(rows), 1), 1, 9))
    ax.scatter(rows[name], rows["keep_ratio"], s=size, color=USED, alpha=0.6, lw=0)
    ax.set(xlabel=MEASURES[name])
    ax.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
    known = f"ρ = {interval.value:+.2f}  [{interval.low:+.2f}, {interval.high:+.2f}]"
    ax.set_title("ρ undefined: nothing varies" if np.isnan(interval.value) else known)
    return ax


def screen(frame: pd.DataFrame, measure: str) -> alt.Chart:
    """Keep ratio of every image against a measure of complexity; a click picks the image."""
    pick = alt.selection_point(name="picked", fields=["image_id"], toggle=False, empty=False)
    rows = frame.dropna(subset=[measure])
    rows = rows.assign(
        image_id=rows["image_id"].astype(str)
    )  # a browser rounds numbers beyond 2^53
    shown = {"format": "%"} if measure != "objects" else {"tickMinStep": 1}
    tips = [alt.Tooltip("keep_ratio", title="keep ratio", format=".1%")]
    tips += [
        alt.Tooltip(name, title=title, format="d" if name == "objects" else ".1%")
        for name, title in MEASURES.items()
    ]
    return (
        alt.Chart(rows)
        .mark_circle(size=70, color=USED, opacity=0.65, cursor="pointer")
        .encode(
            x=alt.X(
                f"{measure}:Q",
                title=MEASURES[measure],
                axis=alt.Axis(**shown),
                scale=alt.Scale(padding=12, nice=False, zero=False),
            ),
            y=alt.Y(
                "keep_ratio:Q",
                title=KEPT,
                axis=shared.SHARES,
                scale=alt.Scale(zero=False, padding=12),
            ),
            tooltip=["image_id:N", *tips],
        )
        .add_params(pick)
        .properties(
            height=440,
            padding=shared.PADDING,
            description=f"Kept tokens of every image against {measure}",
        )
    )


ENTRY = Entry("tokens against objects, area and edges of an image", draw, RUN, __doc__)
