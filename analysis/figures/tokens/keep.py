"""Share of tokens that every block keeps, against the target ratio it was trained for.

Dots: kept valid / valid tokens, summed over all images. Ticks and bars: the same ratio of single
images, their mean and 5 % to 95 %. Padding never counts here, while the loss that trains towards
the target sees it (paper Eq. 2). Several runs stand below each other, never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import altair as alt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import palette
from analysis.figures.canvas import screen as shared
from analysis.figures.canvas.axes import blank, legend_above, over, percent_axis
from analysis.figures.canvas.sizes import WIDTH, wrapped
from analysis.figures.output import DrawOptions, Entry, Product
from analysis.numbers import usage
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.runs.run import Run


def frame(run: Run) -> pd.DataFrame:
    """Keep ratios of a run per block (`usage.keep_frame`)."""
    return usage.keep_frame(run.keep_counts(), run.targets)


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A panel a run."""
    frames = [frame(run) for run in runs]
    rows = math.ceil(len(runs) / 2)
    figure = Figure(figsize=(WIDTH if len(runs) > 1 else WIDTH / 2, 2.2 * rows))
    cells = list(figure.subplots(rows, min(len(runs), 2), squeeze=False).flat)
    names = labels.places(runs)
    for ax, run, name, table in zip(cells, runs, names, frames, strict=False):
        print(table, ax)
        if len(runs) > 1:
            ax.set_title(wrapped(labels.titled(run, name), WIDTH / 2), pad=14)
    blank(cells[len(runs) :])
    if len(runs) == 1:
        over(runs[0], figure)
    yield Product("keep", figure, labels.labelled(runs, frames))


def print(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Keep ratio of every block against its target (`frame`): dots for all tokens pooled,
    bars for 5 % to 95 % of the single images with a tick at their mean."""
    ax.vlines(frame["block"], frame["low"], frame["high"], color=palette.USED, alpha=0.35, lw=5)
    ax.plot(
        frame["block"], frame["mean"], "_", color=palette.USED, markersize=7, label="mean of images"
    )
    ax.plot(
        frame["block"], frame["pooled"], "o", color=palette.USED, markersize=3, label="all tokens"
    )
    if frame["target"].notna().any():
        style = {"color": palette.INK, "lw": 0.7, "ls": "--", "drawstyle": "steps-mid", "zorder": 1}
        ax.plot(frame["block"], frame["target"], label="target", **style)
    ax.set(xlabel="block", ylabel="share of tokens kept", ylim=(0, 1.03), xticks=frame["block"])
    percent_axis(ax)
    legend_above(ax)
    return ax


def screen(frame: pd.DataFrame) -> alt.LayerChart:
    """Kept share per block: all tokens, 90 % of the images, the target. A click picks a block."""
    pick, base = shared.picked("block"), alt.Chart(frame).encode(x=shared.blocks())
    whole = alt.Scale(domain=[0, 1])
    band = base.mark_bar(color=palette.USED, opacity=0.22, width=alt.RelativeBandSize(0.6)).encode(
        y=alt.Y("low:Q", title="kept tokens", axis=shared.SHARES, scale=whole), y2="high:Q"
    )
    names = {"pooled": "kept, all images", "low": "5 % of images under"}
    names |= {"high": "5 % of images over", "target": "target"}
    points = base.mark_point(
        filled=True, size=110, color=palette.USED, opacity=1, cursor="pointer"
    ).encode(y="pooled:Q", tooltip=["block", *shared.percents(**names)], opacity=shared.faded(pick))
    target = base.transform_filter("isValid(datum.target)").mark_tick(
        color=palette.TARGET, thickness=2, width=alt.RelativeBandSize(0.8)
    )
    layers = band + target.encode(y="target:Q") + points.add_params(pick)
    about = "Share of tokens that each block keeps, over all images of the run"
    return layers.properties(height=306, padding=shared.PADDING, description=about)


def one_image() -> dict:
    """Keep ratio of every block of an image as bars, the run as a band, the target as steps.

    Returns: Vega-Lite with the tables "image" (`usage.image_keep_frame` and `shown`, whether the block
    is looked at) and "run" (`frame`).
    """
    whole = alt.Scale(domain=[0, 1])
    image, run = alt.Chart(alt.NamedData("image")), alt.Chart(alt.NamedData("run"))
    bars = image.mark_bar(width=alt.RelativeBandSize(0.72)).encode(
        x=shared.blocks(),
        y=alt.Y("ratio:Q", title="kept tokens", axis=shared.SHARES, scale=whole),
        color=alt.condition("datum.shown", alt.value(palette.USED), alt.value(palette.PALE)),
        tooltip=["block:O", *shared.percents(ratio="ratio", target="target")],
    )
    names = {"mean": "mean", "low": "low", "high": "high"}
    band = run.mark_rule(color=palette.SLATE, strokeWidth=1.5).encode(
        x=shared.blocks(), y="low:Q", y2="high:Q", tooltip=shared.percents(**names)
    )
    target = image.transform_filter("isValid(datum.target)").mark_line(
        color=palette.TARGET, interpolate="step", strokeWidth=2
    )
    steps = target.encode(x=shared.blocks(), y="target:Q")
    about = "Share of tokens that each block keeps in this image, and in those of the run"
    return (bars + band + steps).properties(height=240, description=about).to_dict()


SIDES = {"before": palette.PALE, "after": palette.USED}


def two_sides() -> dict:
    """Keep ratio of every block of an image before and after a change as bars, the target as a tick.

    Returns: Vega-Lite with the table "ratios" (`edit_effects.ratio_frame` and `shown`, whether the block
    is looked at).
    """
    ratios = alt.Chart(alt.NamedData("ratios"))
    bars = ratios.mark_bar().encode(
        x=shared.blocks(),
        xOffset=alt.XOffset("masks:N", sort=list(SIDES)),
        y=alt.Y("ratio:Q", title="kept tokens", axis=shared.SHARES, scale=alt.Scale(domain=[0, 1])),
        color=shared.colours(SIDES, "masks"),
        opacity=alt.condition("datum.shown", alt.value(1), alt.value(0.72)),
        tooltip=["block:O", "masks:N", *shared.percents(ratio="ratio", target="target")],
    )
    known = ratios.transform_filter("datum.masks == 'after' && isValid(datum.target)")
    target = known.mark_tick(color=palette.TARGET, thickness=2).encode(
        x=shared.blocks(), y="target:Q"
    )
    about = "Share of tokens that each block keeps before and after the edits"
    return (bars + target).properties(height=240, description=about).to_dict()


ENTRY = Entry(
    "keep ratio of every block against its target, with spread",
    draw,
    RUNS,
    __doc__,
    screen=lambda runs: screen(frame(runs[0])),
    screen_about="Share of tokens that every block keeps. Dots: kept valid / valid tokens, summed over all "
    "images. Bars: the same ratio of single images, 5 % to 95 %. Ticks: the target ratio that the model was "
    "trained for.",
)
