"""Drawings beyond the paper for the figure command: joins metrics and `insight_figures`.

Each function is an entry of `FIGURES`; its docstring says what is drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import agreement, budget, lifetimes, matching, metrics, objects
from analysis import insight_figures as draw
from analysis.products import (
    WIDTH,
    Entry,
    Product,
    RenderError,
    chosen,
    figsize,
    file_name,
    token_table,
)
from svit.compute import FORMULAS
from svit.config import Config, ConfigError, from_dict
from svit.masks import CodedTarget
from svit.store import Run
from svit.types import Detections, TokenTrace

SCALE = 0.6  # inches beside a map for its colour bar
FACTS = ("method", "inference", "framework", "seed")  # of a run, told apart in titles
DELTA_NAMES = {
    "keep_ratio": "keep ratio, first − second",
    "found": "share of objects found, first − second",
}


def regions(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """Use of tokens inside objects, on contours and on the background per block; layers that use
    the tokens of an object, by COCO size and by class."""
    frame = objects.region_frame(_annotated(run))
    if not frame["tokens"].any():
        raise RenderError(f"{run.path}: no image shows a token outside crowd annotations")
    figure = Figure(figsize=(WIDTH, 2.5))
    figure_axes = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    draw.region_lines(frame, figure_axes[0], targets=run.targets)
    single = objects.object_frame(_annotated(run), run.class_names)
    mean = frame["used"].sum() / frame[frame["layer"] == 0]["tokens"].sum()
    for by, ax in zip(("size", "class"), figure_axes[1:], strict=True):
        draw.group_points(objects.group_frame(single, by), ax, by=by, mean=mean)
    yield Product("regions", figure, frame)


def objectness(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """How well usage tells object tokens from others (AUC), beside maps that need no network."""
    if run.picture(run.image_ids[0]) is None:
        raise RenderError(
            f"{run.path} holds no pictures, which the baselines need; record with pictures"
        )
    frame = objects.objectness_frame(_pictured(run))
    table = objects.objectness_table(frame)
    if table["pooled"].isna().all():
        raise RenderError(f"{run.path}: no image has both object and other tokens")
    figure = Figure(figsize=(WIDTH * 0.7, 2.0))
    draw.objectness_points(table, figure.subplots())
    yield Product("objectness", figure, table)


def misses(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[Product]:
    """Were the tokens of missed objects pruned? Shares of used tokens of found and missed objects
    per block and size, and miss rates by the fate of the tokens; a second run, best a dense one,
    shows which of them it misses too. Detections count from `--score` on."""
    first, other = _with_reference(runs)
    dense = None if other is None else _same_detections(first, other)
    rule = {"score": options.score}
    frame = matching.error_frame(_detected(first), first.class_names, dense, **rule)
    if frame.empty:
        raise RenderError(f"{first.path}: the ground truth holds no objects")
    figure = Figure(figsize=(WIDTH, 4.4))
    upper, lower = figure.subfigures(2, 1)
    shares, sizes = matching.share_frame(frame), _sizes(frame)
    axes = upper.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for size, ax in zip(sizes, axes, strict=True):
        draw.missed_lines(shares, ax, size=size)
    axes[0].set_ylabel("share of the object's tokens used")
    order = pd.Categorical(frame["size"], sizes)
    fates = matching.fate_frame(frame.assign(size=order).sort_values("size"))
    ax = lower.subplots()
    draw.fate_bars(fates, ax, other="" if other is None else _name(other))
    ax.set_xlabel(f"IoU at least 0.5, score at least {options.score:g}")
    yield Product("misses", figure, frame)


def transitions(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """What tokens do from block to block, and the rates at which they are dropped and return."""
    frame = lifetimes.transition_frame(run.iter_traces(scores=False))
    if frame.empty:
        raise RenderError(f"{run.path}: a single layer has no transition")
    figure = Figure(figsize=(WIDTH, 2.3))
    left, right = figure.subplots(1, 2)
    draw.transition_bars(frame, left)
    draw.rate_lines(frame, right)
    yield Product("transitions", figure, frame)


def lives(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """How long tokens stay used or pruned without a break, and how often they return."""
    spells = lifetimes.life_frame(run.iter_traces(scores=False))
    returns = lifetimes.return_frame(run.iter_traces(scores=False))
    figure = Figure(figsize=(WIDTH, 2.3))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    draw.spell_bars(spells, left)
    draw.return_bars(returns, right)
    both = {"spells": spells, "returns": returns}
    yield Product("lives", figure, pd.concat(both, names=["part"]).reset_index(level=0))


def overlap(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[Product]:
    """IoU of the tokens two runs use per block with the chance level, and where they differ on
    average (red: the first uses it more)."""
    first, second = _two(runs)
    with _explained():
        frame = agreement.agreement_frame(agreement.pairs(first, second))
        mean = agreement.mean_difference(agreement.pairs(first, second))
    figure = Figure(figsize=(WIDTH, 2.2))
    left, right = figure.subplots(1, 2)
    draw.agreement_lines(frame, left)
    draw.mean_difference_map(mean, right, limit=max(float(np.abs(mean).max()), 1e-9))
    figure.suptitle(_versus(first, second))
    yield Product("overlap", figure, frame)


def difference(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[Product]:
    """Layers that use each token in the first run minus in the second, an image each."""
    first, second = _two(runs)
    with _explained():
        agreement.check_pair(first, second)
    for image_id in chosen(first, options):
        with _explained():
            one, other = agreement.pair(first, second, image_id)
        values = agreement.usage_difference(one, other)
        size = figsize(one.grid.image_hw, columns=1, extra=SCALE, above=0.3)
        figure = Figure(figsize=(size[0] * 0.6, size[1] * 0.6))
        ax = figure.subplots()
        limit = max(int(np.abs(values).max()), 1)
        draw.difference_map(values, one.grid, ax, limit=limit, image=first.picture(image_id))
        ax.set_title(_versus(first, second))
        table = token_table(one.grid, {"difference": values})
        yield Product(f"difference-{file_name(image_id)}", figure, table)


def deltas(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[Product]:
    """Paired differences of single images between two runs, with their mean and its 95 % bootstrap
    interval: keep ratio, objects found (from `--score` on); the table has usage too."""
    first, second = _two(runs)
    with _explained():
        frame = agreement.delta_frame(first, second, first.targets, score=options.score)
    shown = [name for name in DELTA_NAMES if frame[name].notna().any()]
    figure = Figure(figsize=(WIDTH * (0.25 + 0.25 * len(shown)), 2.0))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for name, ax in zip(shown, axes, strict=True):
        interval = agreement.paired_interval(frame[name])
        draw.delta_histogram(frame[name], interval, ax, label=DELTA_NAMES[name])
    figure.suptitle(_versus(first, second))
    yield Product("deltas", figure, frame)


def complexity(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """Keep ratio of every image against objects, object area and edges, with Spearman's rank
    correlation and its 95 % bootstrap interval."""
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


def compute(run: Run, options: argparse.Namespace) -> Iterator[Product]:
    """Cost of every module, what pruning saved in each image and the most it could."""
    config = _config(run)
    gated = metrics.gated_layers(run.layers, run.targets)
    counts = run.images.set_index("image_id")["detections"].fillna(0).astype(int)
    samples = ((trace, int(counts[trace.image_id])) for trace in run.iter_traces(scores=False))
    ledgers = budget.ledger_frame(samples, config, gated)
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
    "regions": Entry("tokens used inside objects, on contours, on the background", regions),
    "objectness": Entry("usage as objectness (AUC) beside maps without a network", objectness),
    "misses": Entry("missed objects and their tokens; a second, dense run", misses, "runs"),
    "transitions": Entry("used and pruned tokens from block to block", transitions),
    "lives": Entry("how long tokens stay used or pruned, how often they return", lives),
    "overlap": Entry("tokens that two runs use alike, with the chance level", overlap, "runs"),
    "difference": Entry("usage in one run minus usage in another", difference, "runs"),
    "deltas": Entry("paired differences of two runs with intervals", deltas, "runs"),
    "complexity": Entry("tokens against objects, area and edges of an image", complexity),
    "compute": Entry("cost of every module and what pruning can reach", compute),
}


def _annotated(run: Run) -> Iterator[tuple[TokenTrace, CodedTarget]]:
    """Trace and ground truth of every image that has one.

    Raises:
        RenderError: none has.
    """
    _expect_annotations(run)
    for trace, target in zip(run.iter_traces(scores=False), run.iter_targets(), strict=True):
        if target is not None:
            yield trace, target


def _pictured(run: Run) -> Iterator[tuple[TokenTrace, CodedTarget, np.ndarray | None]]:
    """As `_annotated`, with the stored picture."""
    _expect_annotations(run)
    parts = (run.iter_traces(scores=False), run.iter_targets(), run.iter_pictures())
    for trace, target, picture in zip(*parts, strict=True):
        if target is not None:
            yield trace, target, picture


def _detected(run: Run) -> Iterator[matching.Sample]:
    """As `_annotated`, with detections.

    Raises:
        RenderError: the run has none.
    """
    if run.images["detections"].isna().all():
        raise RenderError(f"{run.path} holds no detections, which this figure needs")
    _expect_annotations(run)
    parts = (run.iter_traces(scores=False), run.iter_targets(), run.iter_detections())
    for trace, target, found in zip(*parts, strict=True):
        if target is not None and found is not None:
            yield trace, target, found


def _expect_annotations(run: Run) -> None:
    if run.images["objects"].isna().all():
        raise RenderError(
            f"{run.path} holds no annotations, which this figure needs; record a COCO data set"
        )


def _same_detections(first: Run, dense: Run) -> Iterator[Detections]:
    """Detections of the other run for the images `_detected` yields, in that order."""
    with _explained():
        agreement.check_pair(first, dense)
    others = agreement.in_order(first, dense, dense.iter_detections, dense.detections)
    parts = (first.image_ids, first.iter_targets(), first.iter_detections(), others)
    for image_id, target, found, other in zip(*parts, strict=True):
        if target is None or found is None:
            continue
        if other is None:
            raise RenderError(f"{dense.path} holds no detections of image {image_id!r}")
        yield other


def _two(runs: Sequence[Run]) -> tuple[Run, Run]:
    if len(runs) != 2:
        raise RenderError(f"compares two runs on the same images, found {len(runs)}: name two")
    return runs[0], runs[1]


def _with_reference(runs: Sequence[Run]) -> tuple[Run, Run | None]:
    """A run and the one to compare with: the dense one of two, else the second."""
    if len(runs) == 1:
        return runs[0], None
    first, second = _two(runs)
    if first.provenance.get("method") == "dense" != second.provenance.get("method"):
        return second, first
    return first, second


@contextmanager
def _explained() -> Iterator[None]:
    """Runs that cannot be compared as the command's own error."""
    try:
        yield
    except agreement.MismatchError as error:
        raise RenderError(str(error)) from error


def _versus(first: Run, second: Run) -> str:
    """The names of two runs, and in which of `FACTS` they differ."""
    facts = [(first.provenance.get(name), second.provenance.get(name)) for name in FACTS]
    differing = [f"{one} − {other}" for one, other in facts if one != other]
    names = f"{_name(first)} − {_name(second)}"
    return f"{names} ({', '.join(differing)})" if differing else names


def _name(run: Run) -> str:
    return run.path.resolve().name


def _sizes(errors: pd.DataFrame) -> list[str]:
    present = set(errors["size"])
    return [size for size in ("small", "medium", "large") if size in present]


def _config(run: Run) -> Config:
    """The configuration in the run's provenance.

    Raises:
        RenderError: it has none, or one this version cannot read, or a method without formula.
    """
    values = run.provenance.get("config")
    if not isinstance(values, dict) or "backbone" not in values:
        raise RenderError(f"{run.path}: run.json holds no configuration to count operations of")
    try:
        config = from_dict(values)
    except ConfigError as error:
        raise RenderError(f"{run.path}: run.json, configuration: {error}") from error
    if config.pruning.method not in FORMULAS:
        raise RenderError(f"{run.path}: no cost formula for method {config.pruning.method!r}")
    return config
