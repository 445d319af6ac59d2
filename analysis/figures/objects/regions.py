"""Where tokens are used: inside objects, on their contours, on the background.

Left: used tokens of a region / all tokens of that region, per block, pooled over valid tokens of
all images. Contour: an object covers between 2 % and 98 % of the token; inside: no contour and
objects cover more than half; background: the rest; tokens with crowd annotations alone are left
out. Right: layers that use an object's tokens, each weighted by the share of it that the object
covers: mean and 5 % to 95 % over objects, by COCO size and class (those with most objects).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import legend_above, over, percent_axis
from analysis.figures.canvas.placing import short_names
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, annotated
from analysis.figures.palette import BACKGROUND, CONTOUR, INK, INSIDE, NEVER, SOFT, USED
from analysis.numbers import regions as objects
from analysis.sources.collection import RUN
from svit.core.coverage import SIZES
from svit.runs.run import Run

LETTERS, LEAST = 22, 0.5  # of a class; layers that an axis spans at least
REGIONS = {"contour": CONTOUR, "inside": INSIDE, "background": BACKGROUND}


def frame(run: Run) -> pd.DataFrame:
    """A row a region and block (`regions.region_frame`).

    Raises:
        RenderError: the run is not annotated, or nothing but crowds is.
    """
    table = objects.region_frame(annotated(run))
    if not table["tokens"].any():
        raise RenderError(f"{run.path}: no image shows a token outside crowd annotations")
    return table


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Uses by region, and of the tokens of objects by size and class.

    Raises:
        RenderError: as `frame`, or no object shows in a token.
    """
    table = frame(run)
    single = objects.object_frame(annotated(run), run.class_names)
    if single.empty:
        raise RenderError(f"{run.path}: the ground truth holds no objects")
    figure = Figure(figsize=(WIDTH, 2.6))
    figure_axes = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    print(table, figure_axes[0], targets=run.targets)
    mean = table["used"].sum() / table[table["layer"] == 0]["tokens"].sum()
    figure_axes[2].sharex(figure_axes[1])
    for by, ax in zip(("size", "class"), figure_axes[1:], strict=True):
        print_groups(objects.group_frame(single, by), ax, by=by, mean=mean)
    over(run, figure)
    yield Product("regions", figure, table)


def print(frame: pd.DataFrame, ax: Axes, *, targets: Sequence[float] = ()) -> Axes:
    """Share of tokens used per block in every region (`objects.region_frame`); regions without
    tokens are left out, dashes are the target ratio of all tokens."""
    for region, rows in frame.dropna(subset=["share"]).groupby("region", sort=False):
        style = {"color": REGIONS[region], "marker": "o", "markersize": 2.5}
        ax.plot(rows["block"], rows["share"], label=region, **style)
    if len(targets):
        blocks = np.arange(1, len(targets) + 1)
        ax.plot(blocks, targets, color=INK, lw=0.7, ls="--", label="target, all tokens", zorder=1)
    ax.set(xlabel="block", ylabel="share of the region's tokens used", ylim=(0, 1.03))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    percent_axis(ax)
    legend_above(ax, columns=2)
    return ax


def print_groups(frame: pd.DataFrame, ax: Axes, *, by: str, mean: float, limit: int = 10) -> Axes:
    """Usage of objects in groups (`objects.group_frame`): mean, and 5 % to 95 % of the objects.

    Args:
        mean: usage of all tokens, drawn as a line.
        limit: shows the groups with most objects; COCO's sizes stand in their order.
    """
    rows = frame.head(limit)
    if by == "size":
        rows = rows.sort_values("size", key=lambda names: names.map(list(SIZES).index))
    places = np.arange(len(rows))
    ax.hlines(places, rows["low"], rows["high"], color=NEVER, lw=3)
    ax.plot(rows["mean"], places, "o", color=USED, markersize=3.5)
    ax.axvline(mean, color=INK, lw=0.7, ls="--")
    names = short_names(rows[by].tolist(), LETTERS)
    labels = [f"{names[name]} ({count})" for name, count in zip(rows[by], rows["objects"])]
    ax.set_yticks(places, labels)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="layers that use its tokens")
    low, high = ax.get_xlim()
    if high - low < LEAST:  # all alike: an axis of digits that nobody can read
        ax.set_xlim((low + high - LEAST) / 2, (low + high + LEAST) / 2)
    below = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    ax.annotate("all tokens", (mean, 0), (2, 2), **below, fontsize="small", color=SOFT)
    ax.set_title(f"objects by {by}" + f" ({limit} of {len(frame)})" * (len(frame) > limit))
    return ax


def screen(frame: pd.DataFrame, targets: Sequence[float]) -> alt.LayerChart:
    """Use of tokens inside objects, on contours, on the background; bands are 90 % of the images."""
    known = frame.dropna(subset=["share"])
    scale = alt.Scale(domain=list(REGIONS), range=list(REGIONS.values()))
    colour = alt.Color(
        "region:N",
        scale=scale,
        legend=shared.legend_above(REGIONS, symbolType="stroke", symbolStrokeWidth=3),
    )
    base = alt.Chart(known).encode(x=shared.blocks(), color=colour)
    band = base.mark_area(opacity=0.12).encode(
        y=alt.Y("low:Q", title="tokens used", axis=shared.SHARES, scale=alt.Scale(domain=[0, 1])),
        y2="high:Q",
    )
    tips = [alt.Tooltip(name, format=".1%") for name in ("share", "low", "high")]
    line = base.mark_line(strokeWidth=2.2).encode(y="share:Q")
    points = (
        base.mark_point(filled=True, size=60, opacity=1, cursor="pointer")
        .encode(y="share:Q", tooltip=["region", "block", "tokens", *tips])
        .add_params(shared.picked("region"))
    )
    wanted = pd.DataFrame({"block": range(1, len(targets) + 1), "target": list(targets)})
    target = alt.Chart(wanted).mark_line(color=SOFT, strokeDash=[4, 3], strokeWidth=1.2)
    return (band + target.encode(x=shared.blocks(), y="target:Q") + line + points).properties(
        height=300,
        padding=shared.PADDING,
        description="Share of tokens that each block uses inside, on the contour and outside of objects",
    )


def screen_groups(groups: pd.DataFrame, by: str, layers: int) -> alt.LayerChart:
    """Blocks that use the tokens of objects, by size or class; lines are 90 % of the objects."""
    pick, order = shared.picked(by), groups[by].tolist()
    y = alt.Y(f"{by}:N", title=None, sort=order, axis=alt.Axis(labelLimit=160, labelOverlap=False))
    scale = alt.Scale(domain=[0, layers])
    ends = [alt.Tooltip(name, format=".2f") for name in ("mean", "low", "high", "excess")]
    bars = (
        alt.Chart(groups)
        .mark_bar(color=USED, height=alt.RelativeBandSize(0.7), cursor="pointer")
        .encode(
            y=y,
            x=alt.X(
                "mean:Q",
                title="blocks that use its tokens",
                scale=scale,
                axis=alt.Axis(tickCount=6),
            ),
            opacity=alt.condition(pick, alt.value(1), alt.value(shared.FADED)),
            tooltip=[by, "objects", *ends],
        )
        .add_params(pick)
    )
    spread = (
        alt.Chart(groups).mark_rule(color=SOFT, strokeWidth=1.5).encode(y=y, x="low:Q", x2="high:Q")
    )
    count = (
        alt.Chart(groups)
        .mark_text(align="left", dx=5, color="white", fontSize=11)
        .encode(y=y, x=alt.datum(0), text="objects:Q")
    )
    return (bars + spread + count).properties(
        height=25 * len(groups) + 60,
        padding=shared.PADDING,
        description=f"Blocks that use the tokens of objects, by {by}",
    )


ENTRY = Entry("tokens used inside objects, on contours, on the background", draw, RUN, __doc__)
