"""Figures of tokens on objects: where they are used, and how well usage tells objects from the rest.

An entry's docstring is the definition that the sheet prints; frames come from `analysis.numbers.regions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, percent_axis, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, annotated
from analysis.figures.palette import (
    BACKGROUND,
    CONTOUR,
    INK,
    INSIDE,
    LINES,
    NEVER,
    SOFT,
    USED,
)
from analysis.numbers import regions as objects
from analysis.sources import labels
from analysis.sources.collection import RUN, RUNS
from svit.core.coverage import SIZES
from svit.runs.run import Run

REGION_COLOURS = {"contour": CONTOUR, "inside": INSIDE, "background": BACKGROUND}
MAP_COLOURS = {"usage": USED, "centre": SOFT, "contrast": LINES[1], "colour": LINES[3]}
MAP_NAMES = {
    "usage": "usage (layers)",
    "centre": "nearness to the middle",
    "contrast": "local contrast",
    "colour": "colour distance",
}


def regions(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Where tokens are used: inside objects, on their contours, on the background.

    Left: used tokens of a region / all tokens of that region, per block, pooled over valid tokens of
    all images. Contour: an object covers between 2 % and 98 % of the token; inside: no contour and
    objects cover more than half; background: the rest; tokens with crowd annotations alone are left
    out. Right: layers that use an object's tokens, each weighted by the share of it that the object
    covers: mean and 5 % to 95 % over objects, by COCO size and class (those with most objects).
    """
    frame = objects.region_frame(annotated(run))
    if not frame["tokens"].any():
        raise RenderError(f"{run.path}: no image shows a token outside crowd annotations")
    figure = Figure(figsize=(WIDTH, 2.5))
    figure_axes = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    region_lines(frame, figure_axes[0], targets=run.targets)
    single = objects.object_frame(annotated(run), run.class_names)
    mean = frame["used"].sum() / frame[frame["layer"] == 0]["tokens"].sum()
    figure_axes[2].sharex(figure_axes[1])
    for by, ax in zip(("size", "class"), figure_axes[1:], strict=True):
        group_points(objects.group_frame(single, by), ax, by=by, mean=mean)
    yield Product("regions", figure, frame)


def region_lines(frame: pd.DataFrame, ax: Axes, *, targets: Sequence[float] = ()) -> Axes:
    """Share of tokens used per block in every region (`objects.region_frame`); regions without
    tokens are left out, dashes are the target ratio of all tokens."""
    for region, rows in frame.dropna(subset=["share"]).groupby("region", sort=False):
        style = {"color": REGION_COLOURS[region], "marker": "o", "markersize": 2.5}
        ax.plot(rows["block"], rows["share"], label=region, **style)
    if len(targets):
        blocks = np.arange(1, len(targets) + 1)
        ax.plot(blocks, targets, color=INK, lw=0.7, ls="--", label="target, all tokens", zorder=1)
    ax.set(xlabel="block", ylabel="share of the region's tokens used", ylim=(0, 1.03))
    percent_axis(ax)
    ax.legend(loc="lower left")
    return ax


def group_points(frame: pd.DataFrame, ax: Axes, *, by: str, mean: float, limit: int = 10) -> Axes:
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
    labels = [f"{name} ({count})" for name, count in zip(rows[by], rows["objects"])]
    ax.set_yticks(places, labels)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="layers that use its tokens")
    below = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    ax.annotate("all tokens", (mean, 0), (2, 2), **below, fontsize="small", color=SOFT)
    ax.set_title(f"objects by {by}")
    return ax


def objectness(run: Run, options: DrawOptions) -> Iterator[Product]:
    """How well usage tells object tokens from others, beside three maps that need no network.

    AUC = P(a token of the kind scores higher than another) + P(equal) / 2; one half is chance. Kinds:
    objects cover more than 25 % of the token; an object's outline passes it. Dots and numbers: all
    valid tokens of all images pooled; tick and bar: mean and 5 % to 95 % over single images. Local
    contrast is the standard deviation of grey in the token, colour distance that of its mean colour
    from the image's, nearness 1 - distance from the middle of the image / half its diagonal.
    """
    if run.picture(run.image_ids[0]) is None:
        raise RenderError(
            f"{run.path} holds no pictures, which the baselines need; record with pictures"
        )
    frame = objects.objectness_frame(annotated(run, "picture"))
    table = objects.objectness_table(frame)
    if table["pooled"].isna().all():
        raise RenderError(f"{run.path}: no image has both object and other tokens")
    figure = Figure(figsize=(WIDTH * 0.7, 2.2))
    objectness_points(table, figure.subplots())
    yield Product("objectness", figure, table)


def objectness_points(table: pd.DataFrame, ax: Axes) -> Axes:
    """AUC of each map against each goal (`objects.objectness_table`): a dot for all tokens pooled, a
    bar for 5 % to 95 % of the single images with a tick at their mean. One half is chance."""
    goals = list(dict.fromkeys(table["goal"]))
    maps = [name for name in MAP_NAMES if name in set(table["map"])]
    for shift, name in zip(spread(len(maps)), maps, strict=True):
        rows = table[table["map"] == name].set_index("goal").reindex(goals)
        places, colour = np.arange(len(goals)) + shift, MAP_COLOURS[name]
        ax.hlines(places, rows["low"], rows["high"], color=colour, alpha=0.3, lw=4)
        ax.plot(rows["mean"], places, "|", color=colour, markersize=7)
        ax.plot(rows["pooled"], places, "o", color=colour, markersize=4, label=MAP_NAMES[name])
        for x, y in zip(rows["pooled"], places):
            ax.annotate(f"{x:.3f}", (1.01, y), xycoords=("axes fraction", "data"), va="center")
    ax.axvline(0.5, color=INK, lw=0.7, ls="--")
    names = {"foreground": "shows an object\n(over 25 % covered)", "contour": "an outline passes"}
    ax.set_yticks(np.arange(len(goals)), [names[goal] for goal in goals])
    ax.set(ylim=(len(goals) - 0.5, -0.5), xlabel="AUC; dot: all tokens, tick and bar: images")
    legend_above(ax)
    return ax


def focus(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Where several models spend their tokens: a row a run, the one that tells objects best first.

    Left: AUC of the usage map = P(a token of the kind is used by more layers than another) + P(equal) / 2,
    all valid tokens of all images pooled; one half is chance. Kinds: objects cover more than 25 % of the
    token; an object's outline passes it. Right: layers that use a token inside objects, on contours, on the
    background, on average. It says where a model looks, not what that is worth: see controls.
    """
    rows = [
        {"model": name.replace("\n", ", "), **objects.focus(list(annotated(run)))}
        for name, run in zip(labels.row_names(runs), runs, strict=True)
    ]
    table = pd.DataFrame(rows).sort_values("object_auc", ascending=False, ignore_index=True)
    figure = Figure(figsize=(WIDTH, 0.19 * len(table) + 0.75))
    focus_points(table, *figure.subplots(1, 2, sharey=True))
    yield Product("focus", figure, table)


def focus_points(table: pd.DataFrame, left: Axes, right: Axes) -> tuple[Axes, Axes]:
    """Two axes with a row a model (`objects.focus`): AUC of its usage, and layers that use each region."""
    places = np.arange(len(table))
    kinds = {"object_auc": ("shows an object", "inside"), "contour_auc": ("an outline", "contour")}
    for column, (name, region) in kinds.items():
        colour = REGION_COLOURS[region]
        left.plot(table[column], places, "o", color=colour, markersize=4, label=name)
    left.axvline(0.5, color=INK, lw=0.7, ls="--")
    for region, colour in REGION_COLOURS.items():
        right.plot(table[region], places, "o", color=colour, markersize=4, label=region)
    left.set_yticks(places, table["model"])
    left.set(ylim=(len(table) - 0.5, -0.5), xlabel="AUC of the usage map")
    right.set(xlabel="layers that use a token, on average")
    for ax in (left, right):
        ax.grid(axis="both", lw=0.4)
        legend_above(ax)
    return left, right


FIGURES: dict[str, Entry] = {
    "regions": Entry("tokens used inside objects, on contours, on the background", regions, RUN),
    "objectness": Entry("usage as objectness (AUC) beside maps without a network", objectness, RUN),
    "focus": Entry("where several models spend their tokens, a row a run", focus, RUNS),
}
