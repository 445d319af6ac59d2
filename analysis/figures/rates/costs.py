"""Figures of what images cost: tokens against complexity, and multiply-accumulates by module.

An entry's docstring is the definition that the sheet prints; frames come from `analysis.numbers.budget`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.figures.canvas.axes import legend_above
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError
from analysis.figures.palette import BLOCKS, CHOOSING, INK, NEVER, USED
from analysis.numbers import budget, comparison
from analysis.sources.collection import RUN
from svit.core.statistics import Interval
from svit.runs.run import Run


def complexity(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Do complex images keep more tokens? Keep ratio of every image against three measures of it.

    Keep ratio: mean over blocks that may prune of kept valid / valid tokens. Annotated objects without
    crowds; pixels that they cover / pixels of the image; pixels of the stored picture whose grey
    changes by more than 16 levels a pixel / its pixels. ρ: Spearman's rank correlation over images
    with its 95 % percentile interval.
    """
    frame = budget.complexity_frame(run)
    shown = [name for name in budget.COMPLEXITY if frame[name].notna().any()]
    if not shown:
        raise RenderError(f"{run.path} holds neither annotations nor pictures to measure")
    figure = Figure(figsize=(WIDTH, 2.1))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for name, ax in zip(shown, axes, strict=True):
        interval = budget.spearman(frame[name], frame["keep_ratio"])
        complexity_scatter(frame, ax, name=name, interval=interval)
    axes[0].set_ylabel("keep ratio of gated blocks")
    yield Product("complexity", figure, frame)


def complexity_scatter(frame: pd.DataFrame, ax: Axes, *, name: str, interval: Interval) -> Axes:
    """Keep ratio of every image against one measure of complexity (`budget.complexity_frame`)."""
    labels = {
        "objects": "annotated objects",
        "area": "share of the image that objects cover",
        "edges": "edge density of the picture",
    }
    rows = frame.dropna(subset=[name])
    size = float(np.clip(600 / max(len(rows), 1), 1, 9))
    ax.scatter(rows[name], rows["keep_ratio"], s=size, color=USED, alpha=0.6, lw=0)
    ax.set(xlabel=labels[name])
    known = f"ρ = {interval.value:+.2f}  [{interval.low:+.2f}, {interval.high:+.2f}]"
    ax.set_title("ρ undefined: nothing varies" if np.isnan(interval.value) else known)
    return ax


def compute(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Multiply-accumulates (MACs) of every module, and how much of the dense cost pruning saved.

    Bars: mean over images; whiskers: 5 % to 95 %; percentages: share of the mean total. Counted by the
    ledger from the recorded masks, padding included as the model computes it. The mask head counts the
    recorded detections, the box head the configured number of proposals. Saved: 1 - total / total of
    the same image with all tokens kept and nothing spent on choosing. Limit: the same without a single
    token in the blocks that may prune.
    """
    try:
        ledgers = comparison.cost_frame(run, run.iter_traces(scores=False))
    except comparison.CostError as error:
        raise RenderError(str(error)) from error
    figure = Figure(figsize=(WIDTH, 2.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    limits = {
        "reachable": float(ledgers["reachable"].mean()),
        "of_backbone": float(ledgers["reachable_of_backbone"].mean()),
    }
    module_bars(budget.module_frame(ledgers), left, **limits)
    saving_histogram(ledgers, right)
    yield Product("compute", figure, ledgers)


def module_bars(table: pd.DataFrame, ax: Axes, *, reachable: float, of_backbone: float) -> Axes:
    """Mean cost of every module (`budget.module_frame`), largest first, whiskers 5 % to 95 % of the
    images; what pruning works on is coloured.

    Args:
        reachable, of_backbone: mean shares of the dense network's and backbone's cost that pruning
            can reach, for the title.
    """
    rows = table.sort_values("mean", ascending=False)
    places, unit = np.arange(len(rows)), 1e9
    colours = [{"blocks": BLOCKS, "selection": CHOOSING}.get(n, NEVER) for n in rows["module"]]
    ax.barh(places, rows["mean"] / unit, color=colours, height=0.7)
    ax.hlines(places, rows["low"] / unit, rows["high"] / unit, color=INK, lw=0.8)
    reach = rows[["mean", "high"]].max(axis=1) / unit
    for place, x, share in zip(places, reach, rows["share"]):
        ax.annotate(f"{share:.1%}", (x, place), (3, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, rows["module"].str.replace("_", " "))
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="GMACs an image")
    ax.set_title(
        f"pruning can reach {reachable:.1%} of the network, {of_backbone:.1%} of the backbone"
    )
    ax.margins(x=0.14)
    return ax


def saving_histogram(ledgers: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the dense network's cost that pruning saved in each image (`comparison.cost_frame`),
    with the mean and the mean limit."""
    saved, reachable = ledgers["saved"], ledgers["reachable"].mean()
    ax.hist(saved, bins=min(30, max(5, len(saved) // 4)), color=NEVER, edgecolor="white", lw=0.4)
    ax.axvline(saved.mean(), color=USED, lw=1.4, label=f"mean {saved.mean():.1%}")
    label = f"limit {reachable:.1%}"
    ax.axvline(reachable, color=INK, lw=0.7, ls="--", label=label)
    ax.set(xlabel="saved share of the dense cost", ylabel="images")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, columns=2)
    return ax


FIGURES: dict[str, Entry] = {
    "complexity": Entry("tokens against objects, area and edges of an image", complexity, RUN),
    "compute": Entry("cost of every module and what pruning can reach", compute, RUN),
}
