"""Paired differences of single images between two runs, first minus second.

Keep ratio: mean over the blocks that prune in either run of kept valid / valid tokens. Objects found:
annotated objects found / annotated objects of the image, at IoU 0.5, detections from `--score` on. Line and
band, and the numbers above: mean over images and its 95 % percentile interval (2,000 draws of
images, of frames with their videos); dashes: no difference. The table has both runs' values, and usage too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas.axes import heading
from analysis.figures.canvas.sizes import WIDTH
from analysis.figures.output import DrawOptions, Entry, Product
from analysis.figures.pairs.two_runs import explained, two
from analysis.figures.palette import INK, NEVER, USED
from analysis.numbers import agreement, comparison
from analysis.sources import labels
from analysis.sources.collection import PAIR
from svit.core.statistics import Interval, with_ends
from svit.runs.frames import drawn_together, videos_of
from svit.runs.run import Run
from svit.system.text import counted

NAMES = {
    "keep_ratio": "keep ratio, first − second",
    "found": "share of objects found, first − second",
}


def frame(first: Run, second: Run, score: float) -> pd.DataFrame:
    """A row an image (`agreement.delta_frame`)."""
    layers = comparison.deciding_layers([first, second])
    return agreement.delta_frame(first, second, layers, score=score)


def draw(runs: Sequence[Run], options: DrawOptions) -> Iterator[Product]:
    """A histogram a measure that the runs have."""
    first, second = two(runs)
    with explained():
        table = frame(first, second, options.score)
    shown = [name for name in NAMES if table[name].notna().any()]
    figure = Figure(figsize=(WIDTH * (0.25 + 0.25 * len(shown)), 2.0))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    images = table["image_id"].tolist()
    videos = drawn_together(videos_of(first.frames, images), images)
    for name, ax in zip(shown, axes, strict=True):
        interval = agreement.paired_interval(table[name], videos=videos)
        print(table[name], interval, ax, label=NAMES[name])
    heading(figure, f"{labels.versus(first, second)}, {counted(len(table), 'images')}")
    yield Product("deltas", figure, table)


def print(values: pd.Series, interval: Interval, ax: Axes, *, label: str) -> Axes:
    """Differences of single images, their mean and its interval (`agreement.paired_interval`)."""
    known = values.dropna()
    if not np.isnan(interval.low):  # as of one image
        ax.axvspan(interval.low, interval.high, color=USED, alpha=0.45, lw=0, zorder=0)
    style = {"color": NEVER, "edgecolor": "white", "lw": 0.4, "alpha": 0.85}
    ax.hist(known, bins=_centred_bins(known), **style)
    ax.axvline(0, color=INK, lw=0.7, ls="--")
    ax.axvline(interval.value, color=USED, lw=1.4)
    if not np.ptp(known):  # one bar, which is not as wide as the axis
        low, high = ax.get_xlim()
        ax.set_xlim(low - 0.05, high + 0.05)
    ax.set(xlabel=label, ylabel="images")
    ax.set_title(with_ends(interval.value, interval.low, interval.high, "+.3f"))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    return ax


def _centred_bins(values: pd.Series) -> np.ndarray:
    """Edges of equal bins around the values; zero is the middle of one, so that equality shows."""
    count = min(30, max(5, len(values) // 4))
    reach = float(np.ptp(values)) if len(values) else 0.0
    step = max(reach, 1e-6 if reach else 0.1) / count
    low, high = (np.floor(values.min() / step + 0.5), np.floor(values.max() / step + 0.5))
    return (np.arange(low, high + 2) - 0.5) * step


ENTRY = Entry("paired differences of two runs with intervals", draw, PAIR, __doc__)
