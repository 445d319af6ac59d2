"""Two runs on the same images compared: which tokens both use, and differences of single images.

An entry's docstring is the definition that the sheet prints; frames come from `analysis.numbers.agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas.pictures import beside, picture, tokens
from analysis.figures.canvas.sizes import SCALE_HEIGHT, WIDTH, figsize
from analysis.figures.output import DrawOptions, Entry, Product, RenderError, chosen, token_table
from analysis.figures.palette import DIVERGING, INK, NEVER, USED
from analysis.numbers import agreement
from analysis.sources import labels
from analysis.sources.collection import PAIR
from svit.core.statistics import Interval
from svit.core.types import TokenGrid
from svit.runs.run import Run

SCALE = 0.6  # inches beside a map for its colour bar
DELTA_NAMES = {
    "keep_ratio": "keep ratio, first − second",
    "found": "share of objects found, first − second",
}


def overlap(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Which tokens two runs use alike, on the same images.

    IoU: tokens that both use / tokens that either uses, per block, pooled over valid tokens of all
    images. Chance: the same when masks of the same counts are placed at random in every image; with a
    dense run the two are equal. The map: layers that use a token in the first run minus in the second,
    resampled as in usage-map and averaged over images (red: the first uses it more).
    """
    first, second = two(runs)
    with explained():
        frame = agreement.agreement_frame(agreement.pairs(first, second))
        mean = agreement.mean_difference(agreement.pairs(first, second), options.shape)
    figure = Figure(figsize=(WIDTH, 2.2))
    left, right = figure.subplots(1, 2)
    agreement_lines(frame, left)
    mean_difference_map(mean, right, limit=max(float(np.abs(mean).max()), 1e-9))
    figure.suptitle(labels.versus(first, second))
    yield Product("overlap", figure, frame)


def agreement_lines(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Overlap of the active sets of two runs per block (`agreement.agreement_frame`), above what
    random masks of the same counts give."""
    ax.fill_between(frame["block"], frame["chance"], frame["iou"], color=USED, alpha=0.2, lw=0)
    ax.plot(frame["block"], frame["iou"], "o-", color=USED, markersize=2.5, label="both runs")
    label = "random masks, same counts"
    ax.plot(frame["block"], frame["chance"], color=INK, lw=0.7, ls="--", label=label)
    ax.set(xlabel="block", ylabel="IoU of the used tokens", ylim=(0, 1.03), xticks=frame["block"])
    ax.legend(loc="lower left")
    return ax


def mean_difference_map(values: np.ndarray, ax: Axes, *, limit: float) -> Axes:
    """`agreement.mean_difference`, colours as in `difference_map`."""
    style = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
    drawn = ax.imshow(values, **style)
    ax.set(xticks=[], yticks=[], title="mean over images")
    ax.spines[:].set_visible(False)
    _difference_bar(drawn, ax)
    return ax


def difference(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Layers that use each valid token in the first run minus in the second, an image each.

    White: equally many; red: the first run uses it more. Runs on other images, grids or layers are
    refused.
    """
    first, second = two(runs)
    with explained():
        agreement.check_pair(first, second)
    for image_id in chosen(first, options):
        with explained():
            one, other = agreement.pair(first, second, image_id)
        values = agreement.usage_difference(one, other)
        size = figsize(one.grid.image_hw, columns=1, extra=SCALE, above=0.3)
        least = (WIDTH * 0.45, SCALE_HEIGHT)
        figure = Figure(figsize=np.maximum(np.array(size) * 0.6, least))
        ax = figure.subplots()
        limit = max(int(np.abs(values).max()), 1)
        difference_map(values, one.grid, ax, limit=limit, image=first.picture(image_id))
        ax.set_title(labels.versus(first, second))
        table = token_table(one.grid, {"difference": values})
        yield Product(f"difference-{labels.file_name(image_id)}", figure, table)


def difference_map(
    values: np.ndarray,
    grid: TokenGrid,
    ax: Axes,
    *,
    limit: float,
    image: np.ndarray | None = None,
    alpha: float = 0.8,
    colorbar: bool = True,
) -> Axes:
    """Layers that use each token in one run minus in another, white where equal.

    Args:
        values: of the valid tokens (`agreement.usage_difference`).
        limit: colours reach from -limit (blue: the second run uses it more) to limit (red).
    """
    picture(image, grid, ax, grey=True)
    opacity = 1 if image is None else alpha
    style = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "alpha": opacity}
    drawn = tokens(values, grid, ax, **style)
    if colorbar:
        bar = _difference_bar(drawn, ax)
        bar.locator = MaxNLocator(7, integer=True)
        bar.update_ticks()
    return ax


def _difference_bar(drawn: AxesImage, ax: Axes) -> Colorbar:
    bar = ax.figure.colorbar(drawn, cax=beside(ax))
    bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    bar.set_label("layers more in the first run")
    return bar


def deltas(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """Paired differences of single images between two runs, first minus second.

    Keep ratio: mean over blocks that may prune of kept valid / valid tokens. Objects found: annotated
    objects found / annotated objects of the image, at IoU 0.5, detections from `--score` on. Line and
    band, and the numbers above: mean over images and its 95 % bootstrap interval (2,000 draws of
    images); dashes: no difference. The table has both runs' values, and usage too.
    """
    first, second = two(runs)
    with explained():
        frame = agreement.delta_frame(first, second, first.targets, score=options.score)
    shown = [name for name in DELTA_NAMES if frame[name].notna().any()]
    figure = Figure(figsize=(WIDTH * (0.25 + 0.25 * len(shown)), 2.0))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for name, ax in zip(shown, axes, strict=True):
        interval = agreement.paired_interval(frame[name])
        delta_histogram(frame[name], interval, ax, label=DELTA_NAMES[name])
    figure.suptitle(labels.versus(first, second))
    yield Product("deltas", figure, frame)


def delta_histogram(values: pd.Series, interval: Interval, ax: Axes, *, label: str) -> Axes:
    """Differences of single images, their mean and its interval (`agreement.paired_interval`)."""
    known = values.dropna()
    ax.axvspan(interval.low, interval.high, color=USED, alpha=0.45, lw=0, zorder=0)
    style = {"color": NEVER, "edgecolor": "white", "lw": 0.4, "alpha": 0.85}
    ax.hist(known, bins=_centred_bins(known), **style)
    ax.axvline(0, color=INK, lw=0.7, ls="--")
    ax.axvline(interval.value, color=USED, lw=1.4)
    ax.set(xlabel=label, ylabel="images")
    ax.set_title(f"{interval.value:+.3f}  [{interval.low:+.3f}, {interval.high:+.3f}]")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    return ax


def _centred_bins(values: pd.Series) -> np.ndarray:
    """Edges of equal bins around the values; zero is the middle of one, so that equality shows."""
    count = min(30, max(5, len(values) // 4))
    step = max(float(np.ptp(values)) if len(values) else 0.0, 1e-6) / count
    low, high = (np.floor(values.min() / step + 0.5), np.floor(values.max() / step + 0.5))
    return (np.arange(low, high + 2) - 0.5) * step


def two(runs: Sequence[Run]) -> tuple[Run, Run]:
    """The runs, if they are two.

    Raises:
        RenderError: they are not.
    """
    if len(runs) != 2:
        raise RenderError(f"compares two runs on the same images, found {len(runs)}: name two")
    return runs[0], runs[1]


@contextmanager
def explained() -> Iterator[None]:
    """Runs that cannot be compared as the command's own error."""
    try:
        yield
    except agreement.MismatchError as error:
        raise RenderError(str(error)) from error


FIGURES: dict[str, Entry] = {
    "overlap": Entry("tokens that two runs use alike, with the chance level", overlap, PAIR),
    "difference": Entry("usage in one run minus usage in another", difference, PAIR),
    "deltas": Entry("paired differences of two runs with intervals", deltas, PAIR),
}
