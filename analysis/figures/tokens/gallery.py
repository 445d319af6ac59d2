"""The same pictures through several models: usage maps, a row a model and a column a picture.

The pictures are fixed before anything is looked at: those named by `--image`, or else six, evenly
spaced over the pictures that all runs hold, in the order of the first run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures, sizes
from analysis.figures.canvas.sizes import SCALE, TITLE, WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.core.types import ImageId
from svit.runs.run import Run

PICTURES = 6
NAMES = 1.1  # inches: names of the models, left of the maps


def gallery(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Usage maps of the same pictures by every model: rows are models, columns are pictures.

    Usage of a token: number of layers that used it, in the colours of one scale for all models. The
    first row shows the pictures. Without `--image` they are six, evenly spaced over those that all
    runs hold; nobody picked them. Under each map stands its mean over the picture's tokens, in layers.
    """
    shown = shared_pictures(runs, options)
    _check_sizes(runs, shown)
    limits = _limits(runs, options)
    figure, cells = _cells(runs, shown)
    for column, image_id in enumerate(shown):
        trace = runs[0].trace(image_id)
        pictures.picture(runs[0].picture(image_id), trace.grid, cells[0][column])
        cells[0][column].set_title(str(image_id))
    records, names = [], labels.row_names(runs)
    for row, (run, name, axes) in enumerate(zip(runs, names, cells[1:], strict=True)):
        for column, (image_id, ax) in enumerate(zip(shown, axes, strict=True)):
            scale = row == 0 and column == len(shown) - 1  # one for all
            usage = _draw(run, image_id, ax, limits=limits, alpha=options.alpha, colorbar=scale)
            records.append({"run": name, "image": image_id, "mean_usage": usage.mean()})
        _label(axes[0], name)
    yield Product("gallery", figure, pd.DataFrame(records))


def shared_pictures(runs: Sequence[Run], options: DrawOptions) -> list[ImageId]:
    """The pictures that are drawn; the head of this file says which.

    Raises:
        RenderError: a run lacks a picture that was asked for, or the runs have none in common.
    """
    if options.images:
        return [chosen(run, options) for run in runs][0]
    held = [set(run.image_ids) for run in runs]
    common = [image_id for image_id in runs[0].image_ids if all(image_id in ids for ids in held)]
    if not common:
        paths = ", ".join(str(run.path) for run in runs)
        raise RenderError(f"{paths} have no picture in common; record the same images with each")
    places = np.linspace(0, len(common) - 1, min(PICTURES, len(common))).round().astype(int)
    return [common[place] for place in places]


def _check_sizes(runs: Sequence[Run], pictures: Sequence[ImageId]) -> None:
    """Refuses runs that have other pictures under the same ids."""
    for image_id in pictures:
        sizes = [run.trace(image_id).grid.image_hw for run in runs]
        if len(set(sizes)) > 1:
            found = ", ".join(f"{w}x{h} in {run.path}" for run, (h, w) in zip(runs, sizes))
            raise RenderError(f"image {image_id} is {found}; record the same images with each")


def _limits(runs: Sequence[Run], options: DrawOptions) -> tuple[int, int]:
    """One scale for all: from the fewest layers that never prune to the most layers."""
    if options.crop is not None:
        return options.crop
    ends = [metrics.usage_limits(run.layers, run.targets) for run in runs if _prunes(run)]
    layers = max(run.layers for run in runs)
    return min((low for low, _ in ends), default=0), layers


def _prunes(run: Run) -> bool:
    return any(target < 1 for target in run.targets)


def _cells(runs: Sequence[Run], shown: Sequence[ImageId]) -> tuple[Figure, list[list[Axes]]]:
    """A row for the pictures and one a model; the scale stands right, names left."""
    shapes = [runs[0].trace(image_id).grid.image_hw for image_id in shown]
    side = (WIDTH - NAMES - SCALE) / len(shown)
    height = side * min(1.0, max(map(sizes.drawn_ratio, shapes)))
    rows = len(runs) + 1
    figure = Figure(figsize=(WIDTH, rows * (height + 1.5 * TITLE) + TITLE))
    return figure, [list(row) for row in figure.subplots(rows, len(shown), squeeze=False)]


def _draw(run: Run, image_id: ImageId, ax: Axes, **style) -> np.ndarray:
    """One map with its mean below. Returns: the usage of its tokens."""
    trace = run.trace(image_id)
    usage = metrics.usage(trace)
    picture = run.picture(image_id)
    pictures.usage_heatmap(usage, trace.grid, ax, image=picture, scale="layers", **style)
    ax.set_xlabel(f"{usage.mean():.1f}")
    return usage


def _label(ax: Axes, name: str) -> None:
    ax.set_ylabel(name, rotation=0, ha="right", va="center")


FIGURES: dict[str, Entry] = {
    "gallery": Entry("usage maps of the same pictures, a row a model", gallery, RUNS)
}
