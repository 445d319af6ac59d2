"""What each block did to each token, over the picture: relative update, norm, attention received.

These need no pruning: they say which tokens a dense model would miss. Recordings of any model hold them
(`svit record --module`), those of our own detectors do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from analysis.figures.canvas import pictures
from analysis.figures.canvas.axes import blank, heading
from analysis.figures.canvas.sizes import SCALE, TITLE, figsize
from analysis.figures.images.attention_beside_mask import REACH
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen, token_table
from analysis.numbers import usage
from analysis.sources import labels
from analysis.sources.collection import RUN
from svit.core.types import TokenTrace
from svit.runs.run import Run

WORDS = {"update": "‖Δx‖ / ‖x‖", "norm": "‖x‖ behind the block", "attention": "attention received"}
_CLEAR = " tokens that are not in a block stay clear. The number over each map is its mean."
_SCALE = (
    " Colours run from 0 to the 98 % quantile over valid tokens of all blocks of the image;"
    + _CLEAR
)
ABOUT = {
    "update": "How much each block changed each token, an image each: ‖block(x) − x‖ / ‖x‖."
    + _SCALE,
    "norm": "Length of each token behind each block, an image each: ‖block(x)‖." + _SCALE,
    "attention": "Attention that each token receives in each block, an image each: summed over queries, "
    "mean over heads; 1 where all look everywhere alike. Colours run from a quarter to four times that, on a "
    "logarithmic scale;" + _CLEAR,
}


def draw(name: str, run: Run, options: DrawOptions) -> Iterator[Product]:
    """A strip of maps, a block each, behind the picture."""
    if name not in run.measures:
        raise RenderError(
            f"{run.path} holds no {name} of tokens: record a model with `svit record --module`"
        )
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        figure = _strip(trace, name, image, options.alpha)
        heading(figure, f"{labels.label(run)}, image {image_id}; a number: the mean of the block")
        values = usage.valid_measure(trace, name)
        maps = {f"block_{block}": plane for block, plane in enumerate(values, 1)}
        table = token_table(trace.grid, maps)
        yield Product(f"{FILES[name]}-{labels.file_name(image_id)}", figure, table)


def _strip(trace: TokenTrace, name: str, image: np.ndarray | None, alpha: float) -> Figure:
    cells = 1 + trace.layers
    rows = 1 if cells < 5 else 2 if cells < 15 else 4
    columns = math.ceil(cells / rows)
    size = figsize(trace.grid.image_hw, columns, rows, extra=SCALE, above=TITLE)
    figure = Figure(figsize=size)
    first, *others = figure.subplots(rows, columns, squeeze=False).flat
    pictures.picture(image, trace.grid, first)
    values = usage.valid_measure(trace, name)
    style = {"norm": norm(name, values), "cmap": mpl.rcParams["image.cmap"]}
    for layer, (plane, ax) in enumerate(zip(values, others)):
        pictures.picture(image, trace.grid, ax, grey=True)
        opacity = 1 if image is None else alpha
        drawn = pictures.tokens(plane, trace.grid, ax, alpha=opacity, **style)
        mean = np.nanmean(plane) if np.isfinite(plane).any() else np.nan
        ax.set_title(f"block {layer + 1}: {mean:.2g}")
    blank(others[trace.layers :])
    beside = pictures.beside(others[columns - 2 if rows > 1 else -1])
    # without a format, small numbers get a common factor, over which the title would have to rise
    bar = figure.colorbar(drawn, cax=beside, format="%.2g")
    bar.solids.set_alpha(1)
    bar.set_label(WORDS[name])
    if name == "attention":
        bar.set_ticks([1 / REACH, 1, REACH], labels=said(style["norm"], 3))
        bar.ax.minorticks_off()
    return figure


def norm(name: str, values: np.ndarray) -> Normalize:
    """The scale of a measure's colours: attention varies by factors around 1, the others from 0 on.

    Args:
        values: of all blocks (`usage.valid_measure`).
    """
    if name == "attention":
        return LogNorm(1 / REACH, REACH, clip=True)
    return Normalize(0, usage.reach(values), clip=True)


def said(scale: Normalize, steps: int) -> tuple[str, ...]:
    """What so many colours of a scale, from its least to its largest, stand for."""
    values = [float(scale.inverse(step / (steps - 1))) for step in range(steps)]
    least = "≤" if values[0] > 0 else ""
    return (
        f"{least}{values[0]:.2g}",
        *(f"{one:.2g}" for one in values[1:-1]),
        f"≥{values[-1]:.2g}",
    )


def _entry(name: str, summary: str) -> Entry[Run]:
    return Entry(summary, lambda run, options: draw(name, run, options), RUN, about=ABOUT[name])


FILES = {"update": "updates", "norm": "norms", "attention": "attention"}
FIGURES: dict[str, Entry] = {
    "updates": _entry("update", "how much each block changed each token, of any recorded model"),
    "norms": _entry("norm", "length of each token behind each block, of any recorded model"),
    "attention": _entry("attention", "attention each token receives, of any recorded model"),
}
