"""Used, pruned and later reactivated tokens of every gated layer (paper Fig. 5b, all layers).

Used tokens show the picture. Of the pruned ones those are cyan that a later layer uses again, the
others white; tokens that another one carries are yellow. The percentage is kept valid tokens / valid
tokens of this image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.canvas import pictures, recorded
from analysis.figures.canvas.axes import heading
from analysis.figures.output import DrawOptions, Entry, Product, chosen
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.types import ImageId, TokenTrace
from svit.runs.run import Run


def frame(trace: TokenTrace) -> pd.DataFrame:
    """A row a valid token: its place and its state in every block."""
    return recorded.state_table(trace.grid, metrics.layer_states(trace))


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A product an image."""
    shown = metrics.gated_layers(run.layers, run.targets)
    for image_id in chosen(run, options):
        trace = run.trace(image_id)
        figure, cells = recorded.strip(trace, 1 + len(shown), run.picture(image_id))
        heading(figure, f"{labels.label(run)}, image {image_id}")
        print(run, image_id, cells, layers=shown, options=options)
        yield Product(f"layers-{labels.file_name(image_id)}", figure, frame(trace))


def print(
    run: Run,
    image_id: ImageId,
    cells: Sequence[Axes],
    *,
    layers: Sequence[int],
    options: DrawOptions,
) -> None:
    """Detections on the first Axes, a layer on each of the others."""
    trace, image = run.trace(image_id), run.picture(image_id)
    wanted = {"threshold": options.score, "tags": False}
    recorded.found(run, image_id, trace.grid, image, cells[0], **wanted)
    cells[0].set_title("detections")
    style = {"layers": layers, "ratios": metrics.keep_ratios(trace), "image": image}
    pictures.layer_strip(metrics.layer_states(trace), trace.grid, cells[1:], **style)


ENTRY = Entry("used, pruned and later reactivated tokens of every gated layer", draw, RUN, __doc__)
