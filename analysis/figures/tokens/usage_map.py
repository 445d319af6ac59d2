"""Token usage averaged over all images (paper Fig. 6).

Each image's usage map is cut to its valid tokens (padding removed first), resampled to `--shape`
(default 50x80, as in the paper) bilinearly between token centres with repeated edges, then averaged
with equal weight. Where all images have one shape the map is drawn in it; else in that of `--shape`,
and the title says so. Colours as in the heatmap. Several runs stand side by side, never averaged,
and must have the same number of layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import sizes
from analysis.figures.canvas.axes import blank
from analysis.figures.canvas.recorded import shared_limits
from analysis.figures.canvas.sizes import SCALE, TITLE, WIDTH, figsize, wrapped
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, paths
from analysis.numbers.run_counts import Census, census
from analysis.sources import labels
from analysis.sources.collection import RUNS
from svit.runs.run import Run
from svit.system import text

LINES = 3  # of a title


def frame(values: np.ndarray) -> pd.DataFrame:
    """A row a cell of `Census.mean_usage`."""
    rows, columns = np.indices(values.shape).reshape(2, -1)
    return pd.DataFrame({"row": rows, "column": columns, "usage": values.ravel()})


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A map a run, two in a row."""
    depths = {run.layers for run in runs}
    if len(depths) > 1:
        raise RenderError(f"{paths(runs)} have {sorted(depths)} layers: draw them one by one")
    limits = shared_limits(runs, options)
    counts = [census(run) for run in runs]
    ratios = [drawn_ratio(counted, options.shape) for counted in counts]
    figure, axes = _cells(max(ratios), len(runs))
    maps = [counted.mean_usage(options.shape) for counted in counts]
    style = {"limits": limits, "every": np.stack(maps)}
    rows = zip(axes, runs, labels.places(runs), counts, ratios, maps, strict=True)
    for ax, run, place, counted, ratio, values in rows:
        print(values, ax, ratio=ratio, colorbar=ax is axes[-1], **style)  # one bar for all
        name = wrapped(labels.label(run, place), WIDTH / 2.2)
        ax.set_title(f"{name}\n{described(counted, values, options.shape)}", pad=7)
    yield Product("usage-map", figure, labels.labelled(runs, [frame(one) for one in maps]))


def drawn_ratio(counted: Census, shape: tuple[int, int]) -> float:
    """Height / width of the drawn map: of the images where they have one shape, else of `shape`."""
    ratios = {rows / columns for rows, columns in counted.usage}
    return sizes.drawn_ratio((ratios.pop(), 1) if len(ratios) == 1 else shape)


def described(counted: Census, values: np.ndarray, shape: tuple[int, int]) -> str:
    """Images, ends of the values, and what became of the images' own shapes."""
    shares = [f"{share:.0%} {name}" for name, share in counted.orientations().items() if share]
    span = f"{values.min():.2f} to {values.max():.2f}"
    grids = list(counted.usage)
    (rows, columns), ratios = grids[0], {rows / columns for rows, columns in grids}
    of = f"{rows} × {columns} tokens" if len(grids) == 1 else f"{len(grids)} shapes of tokens"
    kept = sizes.stretch_note((rows, columns)) if len(ratios) == 1 else ", aspect ratios not kept"
    images = f"{text.counted(counted.images, 'images')} ({', '.join(shares)})"
    return f"{images}, {span} layers\n{of}, averaged as {shape[0]} × {shape[1]}{kept}"


def print(
    values: np.ndarray,
    ax: Axes,
    *,
    limits: tuple[float, float],
    ratio: float | None = None,
    colorbar: bool = True,
    every: np.ndarray | None = None,
) -> Axes:
    """A usage map averaged over images; rows and columns are resampled tokens.

    Args:
        values: layers used, averaged (`Census.mean_usage`).
        limits: ends of the colour scale; the bar points out where values lie beyond.
        ratio: height / width of the map as drawn; without, cells are square.
        every: values of all maps that the bar stands beside, where these are several.
    """
    low, high = limits
    drawn = ax.imshow(values, vmin=low, vmax=high)
    if ratio is not None:
        ax.set_aspect(ratio * values.shape[1] / values.shape[0])
    ax.set(xticks=[], yticks=[], anchor="W")  # below the start of its title
    ax.spines[:].set_visible(False)
    if colorbar:
        beyond = {(False, False): "neither", (True, False): "min", (False, True): "max"}
        shown = values if every is None else every
        ends = (bool(shown.min() < low), bool(shown.max() > high))
        narrow = max(1.0, ratio or 1.0)  # a bar beside a narrow map is no hair
        cax = ax.inset_axes((1 + 0.02 * narrow, 0, 0.03 * narrow, 1))
        bar = ax.figure.colorbar(drawn, cax=cax, extend=beyond.get(ends, "both"))
        bar.ax.tick_params(which="both", length=0, pad=2)
        bar.outline.set_visible(False)
        bar.set_label("layers that used the token, mean")
    return ax


def _cells(ratio: float, count: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many maps, two in a row, with room for a scale beside the last."""
    columns, rows = min(count, 2), math.ceil(count / 2)
    size = (round(1000 * ratio), 1000)
    width, height = figsize(size, 2, rows, extra=SCALE, above=LINES * TITLE)
    # titles need room beside maps of any shape
    figure = Figure(figsize=(WIDTH if columns > 1 else max((width + SCALE) / 2, WIDTH / 2), height))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    blank(axes[count:])
    return figure, axes[:count]


ENTRY = Entry("token usage averaged over all images", draw, RUNS, __doc__)
