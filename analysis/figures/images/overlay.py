"""Reactivated tokens of one middle layer beside the detections (paper Fig. 5b).

Cyan tokens are pruned in this block and used in a later one, white ones are not used again, used
ones show the picture. `--block` chooses the block; else the middle one of those that prune.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.canvas import pictures, recorded
from analysis.figures.canvas.axes import heading
from analysis.figures.output import DrawOptions, Entry, Product, chosen, token_table
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.types import ImageId, TokenTrace
from svit.runs.run import Run


def frame(trace: TokenTrace, layer: int) -> pd.DataFrame:
    """A row a valid token: its place, and whether the zero-based layer used it, or what became of it."""
    states = metrics.layer_states(trace)
    names = ["used", "later", "next", "never"] + ["carried"] * (trace.group is not None)
    maps = {name: getattr(states, name)[layer] for name in names}
    return token_table(trace.grid, maps)


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A product an image."""
    layer = recorded.chosen_layer(run, options)
    for image_id in chosen(run, options):
        trace = run.trace(image_id)
        figure, cells = recorded.strip(trace, 2, run.picture(image_id))
        heading(figure, f"{labels.label(run)}, image {image_id}")
        print(run, image_id, *cells, layer=layer, options=options)
        name = f"overlay-block{layer + 1}-{labels.file_name(image_id)}"
        yield Product(name, figure, frame(trace, layer))


def print(
    run: Run, image_id: ImageId, left: Axes, right: Axes, *, layer: int, options: DrawOptions
) -> None:
    """Detections on one Axes, the layer on the other."""
    trace, image = run.trace(image_id), run.picture(image_id)
    recorded.found(run, image_id, trace.grid, image, left, threshold=options.score)
    left.set_title("detections")
    style = {"image": image, "ratio": metrics.keep_ratios(trace)[layer]}
    pictures.layer_tokens(metrics.layer_states(trace), layer, trace.grid, right, **style)


ENTRY = Entry("reactivated tokens of one middle layer, large", draw, RUN, __doc__)
