"""What pictures of recorded runs share: what was found in them, strips of blocks, ends of colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas import boxes, pictures
from analysis.figures.canvas.axes import blank
from analysis.figures.canvas.sizes import LEGEND, LEGEND_ROW, TITLE, figsize
from analysis.figures.output import DrawOptions, RenderError, token_table
from analysis.numbers import usage as metrics
from svit.core.types import ImageId, TokenGrid, TokenTrace
from svit.runs.run import Run


def found(
    run: Run, image_id: ImageId, grid: TokenGrid, image: np.ndarray | None, ax: Axes, **style
) -> None:
    """The picture, and what was found in it if that was recorded."""
    pictures.picture(image, grid, ax)
    detections = run.detections(image_id, masks=True)
    if detections is not None:
        boxes.detections(detections, ax, class_names=run.class_names, **style)


def strip(trace: TokenTrace, cells: int, image: np.ndarray | None) -> tuple[Figure, list[Axes]]:
    """A figure of so many titled pictures, in two rows from five on, over the legend of states as they look
    over the image."""
    rows = 1 if cells < 5 else 2
    columns = math.ceil(cells / rows)
    merges = bool(metrics.layer_states(trace).carried.any())
    below = LEGEND + merges * LEGEND_ROW
    size = figsize(trace.grid.image_hw, columns, rows, above=TITLE, below=below)
    figure = Figure(figsize=size)
    body, foot = figure.subfigures(2, 1, height_ratios=[size[1] - below, below])
    axes = list(body.subplots(rows, columns, squeeze=False).flat)
    blank(axes[cells:])
    for picture in axes:
        picture.set_anchor("W")  # below the start of its title
    pictures.state_legend(foot.subplots(), merges, image)
    return figure, axes[:cells]


def state_table(grid: TokenGrid, states: metrics.LayerStates) -> pd.DataFrame:
    """One row a valid token: row, column, box, and its state in every block."""
    names = np.full(states.used.shape, "used", dtype=object)
    for name in ("never", "later", "next", "carried"):
        names[getattr(states, name)] = name
    return token_table(grid, {f"block_{layer + 1}": plane for layer, plane in enumerate(names)})


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


def shared_limits(runs: Sequence[Run], options: DrawOptions) -> tuple[int, int]:
    """Ends of one colour scale for several runs: `--crop`, or from the fewest layers that never prune, of
    the runs that do, to the most layers. Raises as `colour_limits`."""
    deepest = max(runs, key=lambda run: run.layers)
    if options.crop is not None:
        return colour_limits(deepest, options)
    pruned = [run for run in runs if any(target < 1 for target in run.targets)]
    ends = [metrics.usage_limits(run.layers, run.targets) for run in pruned]
    return min((low for low, _ in ends), default=0), deepest.layers


def chosen_layer(run: Run, options: DrawOptions) -> int:
    """The zero-based layer of `--block`, or a middle one of those that prune.

    Raises:
        RenderError: the run has no such block.
    """
    gated = metrics.gated_layers(run.layers, run.targets)
    layer = gated[len(gated) // 2] if options.block is None else options.block - 1
    if not 0 <= layer < run.layers:
        raise RenderError(f"--block: expected 1 to {run.layers}, found {options.block}")
    return layer
