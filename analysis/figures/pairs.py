"""Two runs on the same images compared, for the figure command.

Each function is an entry of `FIGURES`; its docstring is the definition that the sheet prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import insight_figures as draw
from analysis.figures.iterate import detected
from analysis.figures.output import (
    WIDTH,
    DrawOptions,
    Entry,
    Product,
    RenderError,
    chosen,
    figsize,
    token_table,
)
from analysis.numbers import agreement, matching, per_image
from analysis.sources import labels
from analysis.sources.collection import PAIR, PAIR_OR_RUN
from svit.core.coverage import SIZES
from svit.core.types import Detections
from svit.runs.run import Run

SCALE = 0.6  # inches beside a map for its colour bar
DELTA_NAMES = {
    "keep_ratio": "keep ratio, first − second",
    "found": "share of objects found, first − second",
}


def misses(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Were the tokens of missed objects pruned? An association, not a cause: compare within a size.

    Above: the mean share of an object's tokens that each block uses (each token weighs as much as the
    object covers of it), of found and missed objects by COCO size; bands are two standard errors of
    the mean. Below: missed objects / all objects, by what became of their tokens: never under half,
    under half and back in a later block, under half to the end; missed / all stands over the bars.
    With a second run, best a dense one, dark marks show how many of the same objects that one misses.
    Objects are matched as COCO does, at IoU 0.5, with detections from `--score` on; crowds are left
    out.
    """
    first, other = _with_reference(runs)
    dense = None if other is None else _same_detections(first, other)
    rule = {"score": options.score}
    frame = matching.error_frame(detected(first), first.class_names, dense, **rule)
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
    draw.fate_bars(fates, ax, other="" if other is None else labels.folder(other))
    ax.set_xlabel(f"IoU at least 0.5, score at least {options.score:g}")
    yield Product("misses", figure, frame)


def overlap(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Which tokens two runs use alike, on the same images.

    IoU: tokens that both use / tokens that either uses, per block, pooled over valid tokens of all
    images. Chance: the same when masks of the same counts are placed at random in every image; with a
    dense run the two are equal. The map: layers that use a token in the first run minus in the second,
    resampled as in usage-map and averaged over images (red: the first uses it more).
    """
    first, second = _two(runs)
    with _explained():
        frame = agreement.agreement_frame(agreement.pairs(first, second))
        mean = agreement.mean_difference(agreement.pairs(first, second), options.shape)
    figure = Figure(figsize=(WIDTH, 2.2))
    left, right = figure.subplots(1, 2)
    draw.agreement_lines(frame, left)
    draw.mean_difference_map(mean, right, limit=max(float(np.abs(mean).max()), 1e-9))
    figure.suptitle(labels.versus(first, second))
    yield Product("overlap", figure, frame)


def difference(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Layers that use each valid token in the first run minus in the second, an image each.

    White: equally many; red: the first run uses it more. Runs on other images, grids or layers are
    refused.
    """
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
        ax.set_title(labels.versus(first, second))
        table = token_table(one.grid, {"difference": values})
        yield Product(f"difference-{labels.file_name(image_id)}", figure, table)


def deltas(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Paired differences of single images between two runs, first minus second.

    Keep ratio: mean over blocks that may prune of kept valid / valid tokens. Objects found: annotated
    objects found / annotated objects of the image, at IoU 0.5, detections from `--score` on. Line and
    band, and the numbers above: mean over images and its 95 % bootstrap interval (2,000 draws of
    images); dashes: no difference. The table has both runs' values, and usage too.
    """
    first, second = _two(runs)
    with _explained():
        frame = agreement.delta_frame(first, second, first.targets, score=options.score)
    shown = [name for name in DELTA_NAMES if frame[name].notna().any()]
    figure = Figure(figsize=(WIDTH * (0.25 + 0.25 * len(shown)), 2.0))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for name, ax in zip(shown, axes, strict=True):
        interval = agreement.paired_interval(frame[name])
        draw.delta_histogram(frame[name], interval, ax, label=DELTA_NAMES[name])
    figure.suptitle(labels.versus(first, second))
    yield Product("deltas", figure, frame)


FIGURES: dict[str, Entry] = {
    "misses": Entry("missed objects and their tokens; a second, dense run", misses, PAIR_OR_RUN),
    "overlap": Entry("tokens that two runs use alike, with the chance level", overlap, PAIR),
    "difference": Entry("usage in one run minus usage in another", difference, PAIR),
    "deltas": Entry("paired differences of two runs with intervals", deltas, PAIR),
}


def _same_detections(first: Run, dense: Run) -> Iterator[Detections]:
    """Detections of the other run for the images `iterate.detected` yields, in that order."""
    with _explained():
        agreement.check_pair(first, dense)
        agreement.check_classes(first, dense)
    ids = per_image.scored_ids(first)
    for image_id, (found,) in zip(ids, dense.samples("detections", ids=ids), strict=True):
        if found is None:
            raise RenderError(f"{dense.path} holds no detections of image {image_id!r}")
        yield found


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


def _sizes(errors: pd.DataFrame) -> list[str]:
    present = set(errors["size"])
    return [size for size in SIZES if size in present]
