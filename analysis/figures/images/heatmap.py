"""Detections beside the usage map over the picture, an image each (paper Figs. 1 and 4).

Usage of a token: number of layers that used it. Colours run from the number of layers that never
prune to the number of all layers, or as `--crop` says (the authors drew 7 to 12, as `--paper` does).
The picture behind is so pale that every token is nearest to its own colour of the bar, which shows
them as they are over the picture's mean grey. Names that boxes leave no room for stand below.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures, recorded
from analysis.figures.canvas.axes import heading
from analysis.figures.canvas.sizes import SCALE, figsize
from analysis.figures.output import DrawOptions, Entry, Product, chosen, token_table
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.types import ImageId, TokenTrace
from svit.runs.run import Run


def frame(trace: TokenTrace) -> pd.DataFrame:
    """A row a valid token: its place, and `usage`, the layers that used it."""
    return token_table(trace.grid, {"usage": metrics.usage(trace)})


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A product an image."""
    limits = recorded.colour_limits(run, options)
    for image_id in chosen(run, options):
        trace = run.trace(image_id)
        figure = Figure(figsize=figsize(trace.grid.image_hw, columns=2, extra=SCALE))
        heading(figure, f"{labels.label(run)}, image {image_id}")
        print(run, image_id, *figure.subplots(1, 2), limits=limits, options=options)
        yield Product(f"heatmap-{labels.file_name(image_id)}", figure, frame(trace))


def print(
    run: Run,
    image_id: ImageId,
    left: Axes,
    right: Axes,
    *,
    limits: tuple[int, int],
    options: DrawOptions,
) -> None:
    """Detections on one Axes, usage on the other."""
    trace, image = run.trace(image_id), run.picture(image_id)
    recorded.found(run, image_id, trace.grid, image, left, threshold=options.score)
    style = {"limits": limits, "image": image, "alpha": options.alpha}
    pictures.usage_heatmap(metrics.usage(trace), trace.grid, right, **style)


ENTRY = Entry("how many layers used each token, beside the detections", draw, RUN, __doc__)
