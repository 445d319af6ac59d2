"""Figures over layers: keep ratios, steps from a block to the next, how long tokens stay.

An entry's docstring is the definition that the sheet prints; frames come from `analysis.numbers.usage` and
`analysis.numbers.lifetimes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import legend_above, percent_axis, spread
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import INK, LATER, LOST, NEVER, RULE, USED
from analysis.numbers import lifetimes, usage
from analysis.sources import labels
from analysis.sources.collection import RUN, RUNS
from svit.runs.run import Run

STEP_COLOURS = {"stay": RULE, "drop": LOST, "return": LATER, "away": NEVER}
STEP_NAMES = {
    "stay": "used in both",
    "drop": "dropped",
    "return": "returned",
    "away": "pruned in both",
}


def keep(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Share of tokens that every block keeps, against the target ratio it was trained for.

    Dots: kept valid / valid tokens, summed over all images. Ticks and bars: the same ratio of single
    images, their mean and 5 % to 95 %. Padding never counts here, while the loss that trains towards
    the target sees it (paper Eq. 2). Several runs stand below each other, never averaged.
    """
    frames = [usage.keep_frame(run.keep_counts(), run.targets) for run in runs]
    rows = math.ceil(len(runs) / 2)
    figure = Figure(figsize=(WIDTH if len(runs) > 1 else WIDTH / 2, 2.2 * rows))
    cells = list(figure.subplots(rows, min(len(runs), 2), squeeze=False).flat)
    for ax, run, frame in zip(cells, runs, frames, strict=False):
        keep_bands(frame, ax)
        if len(runs) > 1:
            ax.set_title(labels.label(run), pad=14)
    for empty in cells[len(runs) :]:
        empty.set_axis_off()
    yield Product("keep", figure, labels.labelled(runs, frames))


def keep_bands(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Keep ratio of every block against its target (`metrics.keep_frame`): dots for all tokens pooled,
    bars for 5 % to 95 % of the single images with a tick at their mean."""
    ax.vlines(frame["block"], frame["low"], frame["high"], color=USED, alpha=0.35, lw=5)
    ax.plot(frame["block"], frame["mean"], "_", color=USED, markersize=7, label="mean of images")
    ax.plot(frame["block"], frame["pooled"], "o", color=USED, markersize=3, label="all tokens")
    if frame["target"].notna().any():
        style = {"color": INK, "lw": 0.7, "ls": "--", "drawstyle": "steps-mid", "zorder": 1}
        ax.plot(frame["block"], frame["target"], label="target", **style)
    ax.set(xlabel="block", ylabel="share of tokens kept", ylim=(0, 1.03), xticks=frame["block"])
    percent_axis(ax)
    legend_above(ax)
    return ax


def transitions(run: Run, options: DrawOptions) -> Iterator[Product]:
    """What tokens do from block to block, pooled over valid tokens of all images.

    Left: tokens used in both blocks, dropped, returned, pruned in both / all tokens; the four add up
    to one. Right: dropped / used in the block before; returned / pruned in the block before.
    """
    frame = lifetimes.transition_frame(run.iter_traces(scores=False))
    if frame.empty:
        raise RenderError(f"{run.path}: a single layer has no transition")
    figure = Figure(figsize=(WIDTH, 2.3))
    left, right = figure.subplots(1, 2)
    transition_bars(frame, left)
    rate_lines(frame, right)
    yield Product("transitions", figure, frame)


def transition_bars(frame: pd.DataFrame, ax: Axes) -> Axes:
    """What all tokens do between a block and the next (`lifetimes.transition_frame`), stacked to one;
    the two rates of change are lines."""
    bottom = np.zeros(len(frame))
    places = frame["block"] + 1
    for name in ("stay", "drop", "return", "away"):
        share = frame[f"{name}_share"].to_numpy()
        style = {"color": STEP_COLOURS[name], "label": STEP_NAMES[name], "width": 0.86}
        ax.bar(places, share, bottom=bottom, **style)
        bottom += share
    ax.set(xlabel="from the block before to block", ylabel="share of all tokens", ylim=(0, 1))
    ax.set_xticks(places)
    percent_axis(ax)
    legend_above(ax, columns=4)
    return ax


def rate_lines(frame: pd.DataFrame, ax: Axes) -> Axes:
    """The off-diagonal of the transition matrix per step: P(pruned | used), P(used | pruned)."""
    places = frame["block"] + 1
    style = {"marker": "o", "markersize": 2.5}
    label = "a used token is dropped"
    ax.plot(places, frame["drop_of_used"], color=LOST, label=label, **style)
    label = "a pruned token returns"
    ax.plot(places, frame["return_of_pruned"], color=LATER, label=label, **style)
    ax.set(xlabel="from the block before to block", ylabel="rate", ylim=(0, 1.03))
    ax.set_xticks(places)
    percent_axis(ax)
    legend_above(ax, columns=2)
    return ax


def lives(run: Run, options: DrawOptions) -> Iterator[Product]:
    """How long tokens stay used or pruned without a break, and how often they return.

    Left: spells of that length / all spells of the kind, over valid tokens of all images; spells of
    pruning that end with a return are apart from those that last to the end. Right: tokens that
    return so often / all tokens.
    """
    spells = lifetimes.life_frame(run.iter_traces(scores=False))
    returns = lifetimes.return_frame(run.iter_traces(scores=False))
    figure = Figure(figsize=(WIDTH, 2.3))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    spell_bars(spells, left)
    return_bars(returns, right)
    both = {"spells": spells, "returns": returns}
    yield Product("lives", figure, pd.concat(both, names=["part"]).reset_index(level=0))


def spell_bars(frame: pd.DataFrame, ax: Axes) -> Axes:
    """How long unbroken spells last (`lifetimes.life_frame`); each kind adds up to one."""
    kinds = {
        "used": (USED, "used"),
        "pruned_ended": (LATER, "pruned, then returned"),
        "pruned_last": (NEVER, "pruned to the end"),
    }
    for shift, (name, (colour, label)) in zip(spread(3, 0.84), kinds.items(), strict=True):
        style = {"width": 0.27, "color": colour, "label": label}
        ax.bar(frame["length"] + shift, frame[f"{name}_share"].fillna(0), **style)
    ax.set(xlabel="layers without a break", ylabel="share of spells", xticks=frame["length"])
    ax.margins(y=0.08)
    percent_axis(ax)
    legend_above(ax)
    return ax


def return_bars(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Tokens by how often they returned (`lifetimes.return_frame`); those that no layer pruned are
    the light part."""
    total = max(frame["tokens"].sum(), 1)
    pruned = frame["pruned"] / total
    ax.bar(frame["returns"], pruned, color=LATER, width=0.8, label="pruned in some layer")
    never = {"bottom": pruned, "color": RULE, "width": 0.8, "label": "never pruned"}
    ax.bar(frame["returns"], frame["share"] - pruned, **never)
    ax.set(xlabel="returns of a token", ylabel="share of all tokens", xticks=frame["returns"])
    ax.set_ylim(0, 1.08 * max(frame["share"].max(), 1e-3))
    percent_axis(ax)
    legend_above(ax, columns=2)
    return ax


FIGURES: dict[str, Entry] = {
    "keep": Entry("keep ratio of every block against its target, with spread", keep, RUNS),
    "transitions": Entry("used and pruned tokens from block to block", transitions, RUN),
    "lives": Entry("how long tokens stay used or pruned, how often they return", lives, RUN),
}
