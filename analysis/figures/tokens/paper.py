"""The paper's figures from runs and results: each joins metrics and figures into products.

A function's docstring is the definition that the sheet prints beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import boxes, pictures
from analysis.figures.canvas.sizes import LEGEND, SCALE, TITLE, figsize
from analysis.figures.output import (
    DrawOptions,
    Entry,
    Product,
    RenderError,
    chosen,
    paths,
    token_table,
)
from analysis.figures.rates import averages
from analysis.numbers import usage as metrics
from analysis.numbers.run_counts import Census, census
from analysis.sources import labels
from analysis.sources.collection import RUN, RUNS
from svit.core.types import ImageId, TokenGrid, TokenTrace
from svit.runs.run import Run

LEGEND_COLUMNS = 3


def heatmap(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Detections beside the usage map over the picture, an image each (paper Figs. 1 and 4).

    Usage of a token: number of layers that used it. Colours run from the number of layers that never
    prune to the number of all layers, or as `--crop` says (the authors drew 7 to 12).
    """
    limits = colour_limits(run, options)
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        usage = metrics.usage(trace)
        figure = Figure(figsize=figsize(trace.grid.image_hw, columns=2, extra=SCALE))
        left, right = figure.subplots(1, 2)
        _detections(run, image_id, trace.grid, image, left, threshold=options.score)
        style = {"limits": limits, "image": image, "alpha": options.alpha}
        pictures.usage_heatmap(usage, trace.grid, right, **style)
        table = token_table(trace.grid, {"usage": usage})
        yield Product(f"heatmap-{labels.file_name(image_id)}", figure, table)


def layers(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Used, pruned and later reactivated tokens of every gated layer (paper Fig. 5b, all layers).

    Used tokens show the picture. Of the pruned ones those are cyan that a later layer uses again, the
    others white; tokens that another one carries are yellow. The percentage is kept valid tokens / valid
    tokens of this image.
    """
    shown = metrics.gated_layers(run.layers, run.targets)
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        states, ratios = metrics.layer_states(trace), metrics.keep_ratios(trace)
        figure, cells = _strip(trace, 1 + len(shown))
        wanted = {"threshold": options.score, "tags": False}
        _detections(run, image_id, trace.grid, image, cells[0], **wanted)
        cells[0].set_title("detections")
        style = {"layers": shown, "ratios": ratios, "image": image}
        pictures.layer_strip(states, trace.grid, cells[1:], **style)
        yield Product(
            f"layers-{labels.file_name(image_id)}", figure, _state_table(trace.grid, states)
        )


def overlay(run: Run, options: DrawOptions) -> Iterator[Product]:
    """Reactivated tokens of one middle layer beside the detections (paper Fig. 5b).

    Cyan tokens are pruned in this block and used in a later one, white ones are not used again, used
    ones show the picture. `--block` chooses the block; else the middle one of those that prune.
    """
    layer = _block(run, options)
    for image_id in chosen(run, options):
        trace, image = run.trace(image_id), run.picture(image_id)
        states, ratios = metrics.layer_states(trace), metrics.keep_ratios(trace)
        figure, cells = _strip(trace, 2)
        _detections(run, image_id, trace.grid, image, cells[0], threshold=options.score)
        cells[0].set_title("detections")
        style = {"image": image, "ratio": ratios[layer]}
        pictures.layer_tokens(states, layer, trace.grid, cells[1], **style)
        names = [
            "used",
            "later",
            "next",
            "never",
            *(["carried"] if trace.group is not None else []),
        ]
        maps = {name: getattr(states, name)[layer] for name in names}
        table = token_table(trace.grid, maps)
        yield Product(f"overlay-block{layer + 1}-{labels.file_name(image_id)}", figure, table)


def usage_map(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Token usage averaged over all images (paper Fig. 6).

    Each image's usage map is cut to its valid tokens (padding removed first), resampled to `--shape`
    (default 50x80) bilinearly between token centres with repeated edges, without keeping its aspect
    ratio, then averaged with equal weight. Colours as in the heatmap. Several runs stand side by side,
    never averaged, and must have the same number of layers.
    """
    depths = {run.layers for run in runs}
    if len(depths) > 1:
        raise RenderError(f"{paths(runs)} have {sorted(depths)} layers: draw them one by one")
    limits = colour_limits(runs[0], options)
    counts = [census(run) for run in runs]
    figure, axes = _map_cells(options.shape, len(runs))
    maps = [counted.mean_usage(options.shape) for counted in counts]
    for ax, run, counted, values in zip(axes, runs, counts, maps, strict=True):
        averages.mean_map(values, ax, limits=limits, colorbar=ax is axes[-1])  # one for all
        ax.set_title(f"{labels.label(run)}\n{_described(counted, values)}")
    yield Product("usage-map", figure, labels.labelled(runs, [_cells(values) for values in maps]))


def _map_cells(shape: tuple[int, int], count: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many maps, two in a row, with room for a scale beside the last."""
    columns, rows = min(count, 2), math.ceil(count / 2)
    width, height = figsize(shape, 2, rows, extra=SCALE, above=2 * TITLE)
    figure = Figure(figsize=(width if columns > 1 else (width + SCALE) / 2, height))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[count:]:
        empty.set_axis_off()
    return figure, axes[:count]


def _described(counted: Census, values: np.ndarray) -> str:
    shares = [f"{share:.0%} {name}" for name, share in counted.orientations().items() if share]
    span = f"{values.min():.2f} to {values.max():.2f}"
    return f"{counted.images} images ({', '.join(shares)}), {span} layers"


def _cells(values: np.ndarray) -> pd.DataFrame:
    rows, columns = np.indices(values.shape).reshape(2, -1)
    return pd.DataFrame({"row": rows, "column": columns, "usage": values.ravel()})


def colour_limits(run: Run, options: DrawOptions) -> tuple[int, int]:
    """Ends of the colour scale of usage: `--crop`, or what is possible.

    Raises:
        RenderError: the crop lies outside of what is possible.
    """
    if options.crop is None:
        return metrics.usage_limits(run.layers, run.targets)
    low, high = options.crop
    if not 0 <= low < high <= run.layers:
        raise RenderError(f"--crop: expected 0 <= LOW < HIGH <= {run.layers}, found {low} {high}")
    return low, high


def _block(run: Run, options: DrawOptions) -> int:
    """The zero-based layer to draw."""
    gated = metrics.gated_layers(run.layers, run.targets)
    layer = gated[len(gated) // 2] if options.block is None else options.block - 1
    if not 0 <= layer < run.layers:
        raise RenderError(f"--block: expected 1 to {run.layers}, found {options.block}")
    return layer


def _detections(
    run: Run, image_id: ImageId, grid: TokenGrid, image: np.ndarray | None, ax: Axes, **style
) -> None:
    """The picture, and what was found in it if that was recorded."""
    pictures.picture(image, grid, ax)
    found = run.detections(image_id, masks=True)
    if found is not None:
        boxes.detections(found, ax, class_names=run.class_names, **style)


def _strip(trace: TokenTrace, cells: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many titled pictures, in two rows from five on, over the legend of states."""
    rows = 1 if cells < 5 else 2
    columns = math.ceil(cells / rows)
    size = figsize(trace.grid.image_hw, columns, rows, above=TITLE, below=LEGEND)
    figure = Figure(figsize=size)
    body, foot = figure.subfigures(2, 1, height_ratios=[size[1] - LEGEND, LEGEND])
    axes = list(body.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[cells:]:
        empty.set_axis_off()
    for picture in axes:
        picture.set_anchor("W")  # below the start of its title
    pictures.state_legend(foot.subplots(), merges=trace.group is not None)
    return figure, axes[:cells]


def _state_table(grid: TokenGrid, states: metrics.LayerStates) -> pd.DataFrame:
    """One row a valid token: row, column, box, and its state in every block."""
    names = np.full(states.used.shape, "used", dtype=object)
    for name in ("never", "later", "next", "carried"):
        names[getattr(states, name)] = name
    return token_table(grid, {f"block_{layer + 1}": plane for layer, plane in enumerate(names)})


FIGURES: dict[str, Entry] = {
    "heatmap": Entry("how many layers used each token, beside the detections", heatmap, RUN),
    "layers": Entry("used, pruned and later reactivated tokens of every gated layer", layers, RUN),
    "overlay": Entry("reactivated tokens of one middle layer, large", overlay, RUN),
    "usage-map": Entry("token usage averaged over all images", usage_map, RUNS),
}
