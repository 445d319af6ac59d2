"""The attention that tokens receive in one block, beside the block's mask, an image each.

Attention received: the sum over queries of the mean over heads; 1 is what a token gets where all look
everywhere alike. Colours run from a quarter to four times that, on a logarithmic scale; tokens that
took no part are clear. The numbers are means over used and over other tokens. `--block` chooses the
block; else the middle one of those that prune. Attention is recorded on demand
(`svit record --module`, docs/any-model.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from analysis.figures.canvas import pictures, recorded
from analysis.figures.canvas.axes import heading
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen, token_table
from analysis.numbers import usage as metrics
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.types import TokenTrace
from svit.runs.run import Run

MEASURE, REACH = "attention", 4.0


def frame(trace: TokenTrace, layer: int) -> pd.DataFrame:
    """A row a valid token: its place, the attention that it received, whether the layer used it."""
    rows, columns = trace.grid.valid_hw
    received = trace.measures[MEASURE][layer, :rows, :columns]
    used = metrics.layer_states(trace).used[layer]
    return token_table(trace.grid, {"attention": received, "used": used})


def draw(run: Run, options: DrawOptions) -> Iterator[Product]:
    """A product an image."""
    if MEASURE not in run.measures:
        raise RenderError(
            f"{run.path} holds no attention, which this figure needs; record it with "
            "`svit record --module` or svit.probing.attach"
        )
    layer = recorded.chosen_layer(run, options)
    for image_id in chosen(run, options):
        trace = run.trace(image_id)
        table = frame(trace, layer)
        figure, (left, right) = recorded.strip(trace, 2, run.picture(image_id))
        heading(figure, f"{labels.label(run)}, image {image_id}")
        print(trace, layer, left, image=run.picture(image_id))
        left.set_title(means(table))
        ratio = metrics.keep_ratios(trace)[layer]
        style = {"image": run.picture(image_id), "ratio": ratio}
        pictures.layer_tokens(metrics.layer_states(trace), layer, trace.grid, right, **style)
        yield Product(
            f"attention-beside-mask-block{layer + 1}-{labels.file_name(image_id)}", figure, table
        )


def means(table: pd.DataFrame) -> str:
    """What used and other tokens receive on average."""
    mean = table.groupby("used")["attention"].mean()
    words = {True: "used", False: "others"}
    told = [f"{words[used]} {value:.2f}" for used, value in mean.items() if np.isfinite(value)]
    return f"attention received: {', '.join(reversed(told))}"


def print(trace: TokenTrace, layer: int, ax: Axes, *, image: np.ndarray | None) -> Axes:
    """The attention that the tokens of one layer received, over the greyed picture."""
    rows, columns = trace.grid.valid_hw
    values = np.ma.masked_invalid(trace.measures[MEASURE][layer, :rows, :columns])
    pictures.picture(image, trace.grid, ax, grey=True)
    style = {"norm": LogNorm(1 / REACH, REACH, clip=True), "cmap": "viridis"}
    drawn = pictures.tokens(values, trace.grid, ax, alpha=0.85, **style)
    bar = ax.figure.colorbar(drawn, cax=pictures.beside(ax), ticks=[1 / REACH, 1, REACH])
    bar.ax.set_yticklabels([f"≤{1 / REACH:g}", "1", f"≥{REACH:g}"])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    return ax


ENTRY = Entry("attention received in one block, beside its mask", draw, RUN, __doc__)
