"""Many pictures of a run on one page, each beside its usage map, so that a look tells what maps show.

Usage of a token: number of layers that used it, one scale for the page. Without `--image` there are 24
pictures, evenly spaced over the run; nobody picked them. Over a map stands its mean over the picture's
tokens, in layers. Very long pictures are drawn shorter than they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures, sizes
from analysis.figures.canvas.recorded import colour_limits
from analysis.figures.canvas.sizes import SCALE, SCALE_HEIGHT, TITLE, WIDTH
from analysis.figures.output import DrawOptions, Entry, Product, chosen, spaced
from analysis.numbers import usage as metrics
from analysis.sources.collection import RUN
from svit.core.types import ImageId
from svit.runs.run import Run

PICTURES = 24
PAIRS = 4  # beside each other


def frame(run: Run, shown: Sequence[ImageId]) -> pd.DataFrame:
    """Mean usage of every picture, in layers."""
    means = [metrics.usage(run.trace(image_id)).mean() for image_id in shown]
    return pd.DataFrame({"image": shown, "mean_usage": means})


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Rows of pairs: a picture, and right of it its map."""
    shown = chosen(run, options) if options.images else spaced(run.image_ids, PICTURES)
    every = np.concatenate([metrics.usage(run.trace(image_id)).ravel() for image_id in shown])
    style = {"limits": colour_limits(run, options), "alpha": options.alpha, "every": every}
    figure, axes = _cells(run, shown)
    scale = min(PAIRS, len(shown)) - 1  # right of the first row, for all
    for place, image_id in enumerate(shown):
        print(run, image_id, axes[2 * place : 2 * place + 2], colorbar=place == scale, **style)
    yield Product("contact-sheet", figure, frame(run, shown))


def print(run: Run, image_id: ImageId, axes: Sequence[Axes], **style) -> Sequence[Axes]:
    """A pair on two axes; `style` as `pictures.usage_heatmap` takes it."""
    trace, picture = run.trace(image_id), run.picture(image_id)
    usage = metrics.usage(trace)
    left, right = axes
    pictures.picture(picture, trace.grid, left)
    left.set(title=sizes.short(str(image_id)), anchor="NE")  # a narrow picture stands at its map
    pictures.usage_heatmap(usage, trace.grid, right, image=picture, scale="layers", **style)
    right.set(title=f"{usage.mean():.1f}", anchor="NW")
    return axes


def _cells(run: Run, shown: Sequence[ImageId]) -> tuple[Figure, list[Axes]]:
    """Axes of the pairs in order; a row is as high as its highest picture."""
    columns = 2 * min(PAIRS, len(shown))
    side = (WIDTH - SCALE) / columns
    ratios = [sizes.drawn_ratio(run.trace(image_id).grid.image_hw) for image_id in shown]
    rows = [max(ratios[start : start + PAIRS]) for start in range(0, len(ratios), PAIRS)]
    heights = [side * min(1.0, ratio) for ratio in rows]
    whole = max(sum(heights) + TITLE * (len(rows) + 1), SCALE_HEIGHT)
    figure = Figure(figsize=(WIDTH, whole))
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    axes = list(grid.ravel())
    for spare in axes[2 * len(shown) :]:
        spare.set_axis_off()
    return figure, axes


ENTRY = Entry("many pictures of a run, each beside its usage map", draw, RUN, __doc__)
