"""Drawings beyond the paper for the figure command: joins metrics and figures.

Each function is an entry of `FIGURES`; its docstring is the definition that the sheet prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import insight_figures as draw
from analysis.figures import layer_figures as over
from analysis.figures.iterate import annotated
from analysis.figures.output import WIDTH, DrawOptions, Entry, Product, RenderError
from analysis.numbers import budget, comparison, lifetimes, usage
from analysis.numbers import regions as objects
from analysis.sources import labels
from analysis.sources.collection import RUN, RUNS
from svit.runs.run import Run


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
    draw.region_lines(frame, figure_axes[0], targets=run.targets)
    single = objects.object_frame(annotated(run), run.class_names)
    mean = frame["used"].sum() / frame[frame["layer"] == 0]["tokens"].sum()
    figure_axes[2].sharex(figure_axes[1])
    for by, ax in zip(("size", "class"), figure_axes[1:], strict=True):
        draw.group_points(objects.group_frame(single, by), ax, by=by, mean=mean)
    yield Product("regions", figure, frame)


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
    draw.objectness_points(table, figure.subplots())
    yield Product("objectness", figure, table)


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
    draw.focus_points(table, *figure.subplots(1, 2, sharey=True))
    yield Product("focus", figure, table)


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
        over.keep_bands(frame, ax)
        if len(runs) > 1:
            ax.set_title(labels.label(run), pad=14)
    for empty in cells[len(runs) :]:
        empty.set_axis_off()
    yield Product("keep", figure, labels.labelled(runs, frames))


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
    over.transition_bars(frame, left)
    over.rate_lines(frame, right)
    yield Product("transitions", figure, frame)


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
    over.spell_bars(spells, left)
    over.return_bars(returns, right)
    both = {"spells": spells, "returns": returns}
    yield Product("lives", figure, pd.concat(both, names=["part"]).reset_index(level=0))


def complexity(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Do complex images keep more tokens? Keep ratio of every image against three measures of it.

    Keep ratio: mean over blocks that may prune of kept valid / valid tokens. Annotated objects without
    crowds; pixels that they cover / pixels of the image; pixels of the stored picture whose grey
    changes by more than 16 levels a pixel / its pixels. ρ: Spearman's rank correlation over images
    with its 95 % bootstrap interval.
    """
    frame = budget.complexity_frame(run)
    shown = [name for name in budget.COMPLEXITY if frame[name].notna().any()]
    if not shown:
        raise RenderError(f"{run.path} holds neither annotations nor pictures to measure")
    figure = Figure(figsize=(WIDTH, 2.1))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for name, ax in zip(shown, axes, strict=True):
        interval = budget.spearman(frame[name], frame["keep_ratio"])
        draw.complexity_scatter(frame, ax, name=name, interval=interval)
    axes[0].set_ylabel("keep ratio of gated blocks")
    yield Product("complexity", figure, frame)


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
    draw.module_bars(budget.module_frame(ledgers), left, **limits)
    draw.saving_histogram(ledgers, right)
    yield Product("compute", figure, ledgers)


FIGURES: dict[str, Entry] = {
    "regions": Entry("tokens used inside objects, on contours, on the background", regions, RUN),
    "objectness": Entry("usage as objectness (AUC) beside maps without a network", objectness, RUN),
    "focus": Entry("where several models spend their tokens, a row a run", focus, RUNS),
    "keep": Entry("keep ratio of every block against its target, with spread", keep, RUNS),
    "transitions": Entry("used and pruned tokens from block to block", transitions, RUN),
    "lives": Entry("how long tokens stay used or pruned, how often they return", lives, RUN),
    "complexity": Entry("tokens against objects, area and edges of an image", complexity, RUN),
    "compute": Entry("cost of every module and what pruning can reach", compute, RUN),
}
