"""Which tokens are one: the groups of merged tokens behind each block that merges, an image each.

Each group has the mean colour of the picture under its tokens, so that what merged looks alike only if it
was; lines part tokens of different groups. Tokens that are pruned show nothing. The title counts groups with
a valid token among the valid tokens; the table has the token that carries each one, its index in raster
order of the padded grid, and empty where it is pruned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures, token_maps
from analysis.figures.canvas.axes import blank, heading
from analysis.figures.canvas.sizes import TITLE, figsize
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen, token_table
from analysis.figures.palette import DARK
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.coverage import token_means
from svit.core.types import TokenTrace
from svit.runs.run import Run


def frame(trace: TokenTrace) -> pd.DataFrame:
    """A row a valid token: its place, and its carrier behind each block that merges."""
    planes = {f"block_{one + 1}": metrics.carriers(trace, one) for one in merging_layers(trace)}
    maps = {name: np.where(plane < 0, np.nan, plane) for name, plane in planes.items()}
    return token_table(trace.grid, maps)


def merging_layers(trace: TokenTrace) -> list[int]:
    """Zero-based layers whose groups differ from those of the layer before."""
    if trace.group is None:
        return []
    own = np.arange(trace.grid.tokens).reshape(1, *trace.grid.grid_hw)
    changed = (np.concatenate([own, trace.group[:-1]]) != trace.group).any(axis=(1, 2))
    return np.flatnonzero(changed).tolist()


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A product an image."""
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        layers = merging_layers(trace)
        if not layers or image is None:
            lacks = "no merged tokens" if not layers else "no picture"
            raise RenderError(
                f"{run.path}, image {image_id} holds {lacks}, which this figure needs"
            )
        figure, cells = _cells(trace, 1 + len(layers))
        heading(figure, f"{labels.label(run)}, image {image_id}")
        pictures.picture(image, trace.grid, cells[0])
        for layer, ax in zip(layers, cells[1:], strict=False):
            print(trace, layer, ax, image=image)
        yield Product(f"groups-{labels.file_name(image_id)}", figure, frame(trace))


def _cells(trace: TokenTrace, count: int) -> tuple[Figure, list[Axes]]:
    rows = math.ceil(count / 4)
    columns = math.ceil(count / rows)
    figure = Figure(figsize=figsize(trace.grid.image_hw, columns, rows, above=TITLE))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    blank(axes[count:])
    return figure, axes[:count]


def print(trace: TokenTrace, layer: int, ax: Axes, *, image: np.ndarray) -> Axes:
    """The groups of one layer in the mean colours of the picture under them."""
    carrier = metrics.carriers(trace, layer)
    pictures.picture(None, trace.grid, ax)
    colours = token_maps.group_colours(carrier, token_means(image, trace.grid))
    pictures.tokens(colours, trace.grid, ax)
    ax.add_collection(LineCollection(borders(carrier, trace), colors=DARK, linewidths=0.35))
    count = len(np.unique(carrier[carrier >= 0]))
    ax.set_title(f"block {layer + 1}  {count} of {carrier.size}")
    return ax


def borders(carrier: np.ndarray, trace: TokenTrace) -> list[list[tuple[float, float]]]:
    """Lines between neighbours of different groups, from (x, y) to (x, y) in source pixels."""
    down, across = (trace.grid.patch / scale for scale in trace.grid.scale_yx)
    upright = np.argwhere(carrier[:, 1:] != carrier[:, :-1])
    level = np.argwhere(carrier[1:] != carrier[:-1])
    lines = [[((c + 1) * across, r * down), ((c + 1) * across, (r + 1) * down)] for r, c in upright]
    return lines + [
        [(c * across, (r + 1) * down), ((c + 1) * across, (r + 1) * down)] for r, c in level
    ]


ENTRY = Entry("groups of merged tokens behind each block that merges", draw, RUN, __doc__)
