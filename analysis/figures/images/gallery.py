"""Usage maps of the same pictures by every model: rows are models, columns are pictures.

Usage of a token: number of layers that used it, in the colours of one scale for all models. The
first row shows the pictures. Without `--image` they are six, evenly spaced over those that all
runs hold; nobody picked them. Under each map stands its mean over the picture's tokens, in layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures, sizes
from analysis.figures.canvas.recorded import shared_limits
from analysis.figures.canvas.sizes import SCALE, TITLE, WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen, spaced
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.core.types import ImageId
from svit.runs import pairing
from svit.runs.run import Run

PICTURES = 6
NAMES = 1.1  # inches: names of the models, left of the maps


def frame(runs: Sequence[Run], shown: Sequence[ImageId]) -> pd.DataFrame:
    """Mean usage of every picture by every model, in layers."""
    return pd.DataFrame(
        {"run": name, "image": image_id, "mean_usage": metrics.usage(run.trace(image_id)).mean()}
        for run, name in zip(runs, labels.row_names(runs), strict=True)
        for image_id in shown
    )


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A row of pictures over a row a model."""
    shown = shared_pictures(runs, options)
    _check_pictures(runs)
    limits = shared_limits(runs, options)
    counts = [metrics.usage(run.trace(one)).ravel() for run in runs for one in shown]
    style = {"limits": limits, "alpha": options.alpha, "every": np.concatenate(counts)}
    figure, (first, *rows) = _cells(runs, shown)
    for image_id, ax in zip(shown, first, strict=True):
        pictures.picture(runs[0].picture(image_id), runs[0].trace(image_id).grid, ax)
        ax.set_title(sizes.short(str(image_id)))
    for run, name, axes in zip(runs, labels.row_names(runs), rows, strict=True):
        for image_id, ax in zip(shown, axes, strict=True):
            scale = ax is rows[0][-1]  # one for all
            print(run, image_id, ax, colorbar=scale, **style)
        axes[0].set_ylabel(sizes.wrapped(name, NAMES), rotation=0, ha="right", va="center")
    yield Product("gallery", figure, frame(runs, shown))


def print(run: Run, image_id: ImageId, ax: Axes, **style) -> Axes:
    """One map with its mean below; `style` as `pictures.usage_heatmap` takes it."""
    trace, picture = run.trace(image_id), run.picture(image_id)
    usage = metrics.usage(trace)
    pictures.usage_heatmap(usage, trace.grid, ax, image=picture, scale="layers", **style)
    ax.set_xlabel(f"{usage.mean():.1f}")
    return ax


def shared_pictures(runs: Sequence[Run], options: DrawOptions) -> list[ImageId]:
    """The pictures that are drawn, in the order of the first run.

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
    return spaced(common, PICTURES)


def _check_pictures(runs: Sequence[Run]) -> None:
    """Refuses runs that have other pictures under the same ids: those of the first stand above all."""
    try:
        for other in runs[1:]:
            pairing.check_pictures(runs[0], other)
    except pairing.MismatchError as error:
        raise RenderError(str(error)) from error


def _cells(runs: Sequence[Run], shown: Sequence[ImageId]) -> tuple[Figure, list[list[Axes]]]:
    """A row for the pictures and one a model; the scale stands right, names left."""
    shapes = [runs[0].trace(image_id).grid.image_hw for image_id in shown]
    side = (WIDTH - NAMES - SCALE) / len(shown)
    height = side * min(1.0, max(map(sizes.drawn_ratio, shapes)))
    rows = len(runs) + 1
    figure = Figure(figsize=(WIDTH, rows * (height + 1.5 * TITLE) + TITLE))
    return figure, [list(row) for row in figure.subplots(rows, len(shown), squeeze=False)]


ENTRY = Entry("usage maps of the same pictures, a row a model", draw, RUNS, __doc__)
