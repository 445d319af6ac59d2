"""Layers that use each valid token in the first run minus in the second, an image each.

White: equally many; red: the first run uses it more. Runs on other images, grids or layers are
refused.

Colours have whole steps, as the numbers do, and those of the bar are as they look over the picture's
mean grey.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from analysis.figures.canvas.axes import heading
from analysis.figures.canvas.pictures import over_grey, picture, reach_behind, tokens
from analysis.figures.canvas.sizes import SCALE_HEIGHT, WIDTH, figsize
from analysis.figures.output import DrawOptions, Entry, Product, chosen, token_table
from analysis.figures.pairs.two_runs import difference_bar, explained, two
from analysis.figures.palette import DIVERGING
from analysis.numbers import agreement
from analysis.sources import labels
from analysis.sources.collection import PAIR
from svit.core.types import TokenGrid
from svit.runs import pairing
from svit.runs.run import Run

SCALE = 0.6  # inches beside a map for its colour bar


def frame(values: np.ndarray, grid: TokenGrid) -> pd.DataFrame:
    """A row a valid token: its place and `agreement.usage_difference`."""
    return token_table(grid, {"difference": values})


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A product an image."""
    first, second = two(runs)
    with explained():
        pairing.check_pair(first, second)
    for image_id in chosen(first, options):
        with explained():
            one, other = agreement.pair(first, second, image_id)
        values = agreement.usage_difference(one, other)
        size = figsize(one.grid.image_hw, columns=1, extra=SCALE)
        least = (WIDTH * 0.45, SCALE_HEIGHT)
        figure = Figure(figsize=np.maximum(np.array(size) * 0.6, least))
        limit = max(int(np.abs(values).max()), 1)
        print(values, one.grid, figure.subplots(), limit=limit, image=first.picture(image_id))
        heading(figure, f"{labels.versus(first, second)}, image {image_id}")
        name = f"difference-{labels.file_name(image_id)}"
        yield Product(name, figure, frame(values, one.grid))


def print(
    values: np.ndarray,
    grid: TokenGrid,
    ax: Axes,
    *,
    limit: int,
    image: np.ndarray | None = None,
    alpha: float = 0.8,
    colorbar: bool = True,
) -> Axes:
    """Layers that use each token in one run minus in another, white where equal.

    Args:
        values: of the valid tokens (`agreement.usage_difference`).
        limit: colours reach from -limit (blue: the second run uses it more) to limit (red).
    """
    opacity = 1 if image is None else alpha
    colours = mpl.colormaps[DIVERGING].resampled(2 * limit + 1)
    picture(image, grid, ax, grey=True, reach=reach_behind(opacity, colours.N))
    norm = BoundaryNorm(np.arange(-limit - 0.5, limit + 1), colours.N)
    tokens(values, grid, ax, cmap=colours, norm=norm, alpha=opacity)
    if colorbar:
        bar = difference_bar(ScalarMappable(norm, over_grey(colours, opacity)), ax)
        step = max(1, round(limit / 4))
        bar.set_ticks(step * np.arange(-(limit // step), limit // step + 1))
    return ax


ENTRY = Entry("usage in one run minus usage in another", draw, PAIR, __doc__)
