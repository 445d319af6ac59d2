"""Figures about a whole data set: the averaged usage map and accuracy against cost.

As in `analysis.figures.figures`: data in, drawn on the given Axes, the Axes out.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.palette import DENSE, PRINTED

MARKERS = "osD^vP"


def mean_map(
    values: np.ndarray, ax: Axes, *, limits: tuple[float, float], colorbar: bool = True
) -> Axes:
    """A usage map averaged over images (paper Fig. 6); rows and columns are resampled tokens.

    Args:
        values: layers used, averaged (`metrics.mean_usage`).
        limits: ends of the colour scale; the bar points out where values lie beyond.
    """
    low, high = limits
    drawn = ax.imshow(values, vmin=low, vmax=high)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if colorbar:
        beyond = {(False, False): "neither", (True, False): "min", (False, True): "max"}
        ends = (bool(values.min() < low), bool(values.max() > high))
        extend = beyond.get(ends, "both")
        cax = ax.inset_axes((1.02, 0, 0.03, 1))
        bar = ax.figure.colorbar(drawn, cax=cax, extend=extend)
        bar.ax.tick_params(which="both", length=0, pad=2)
        bar.outline.set_visible(False)
        bar.set_label("layers that used the token, mean")
    return ax


def tradeoff(
    frame: pd.DataFrame,
    ax: Axes,
    *,
    x: str,
    y: str,
    labels: tuple[str, str],
    half: str | None = None,
    ends: tuple[str, str] | None = None,
) -> Axes:
    """Accuracy against cost, a line a series (paper Fig. 7).

    A line joins the means of a series (over seeds) in the order of x; each result has its point. The
    dense series is a star with a dotted line at its height.

    Args:
        frame: rows with columns x, y, `series` and `dense` (bool); rows without x are left out.
        labels: of the two axes.
        half: column with half the height of an error bar.
        ends: columns where its horizontal error bar begins and ends.
    """
    known = frame.dropna(subset=[x, y])
    for (name, rows), marker in zip(_series(known[~known["dense"]]), _cycled(), strict=False):
        means = rows.groupby(x)[y].mean()
        (line,) = ax.plot(means.index, means)
        style = {"color": line.get_color(), "markersize": 4, "capsize": 2, "elinewidth": 0.6}
        bars = _bars(rows, x, half, ends)
        ax.errorbar(rows[x], rows[y], **bars, linestyle="", marker=marker, label=name, **style)
    for name, rows in _series(known[known["dense"]]):
        star = {"fmt": "*", "color": DENSE, "markersize": 8, "capsize": 2, "elinewidth": 0.6}
        ax.errorbar(rows[x], rows[y], **_bars(rows, x, half, ends), label=name, **star)
        ax.axhline(rows[y].mean(), color=DENSE, linewidth=0.6, linestyle=":", zorder=0)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.grid(True)
    ax.margins(0.08)
    return ax


def _bars(
    rows: pd.DataFrame, x: str, half: str | None, ends: tuple[str, str] | None
) -> dict[str, object]:
    """Error bars of rows as matplotlib takes them."""
    across = None if ends is None else [rows[x] - rows[ends[0]], rows[ends[1]] - rows[x]]
    return {"yerr": None if half is None else rows[half], "xerr": across}


def reference_points(points: pd.DataFrame, ax: Axes, *, x: str, y: str) -> Axes:
    """Points a paper prints, hollow and named: never joined with measured ones."""
    style = {"linestyle": "", "marker": "o", "markersize": 5, "markerfacecolor": "white"}
    ax.plot(points[x], points[y], color=PRINTED, **style, label="printed in the paper")
    for row in points.to_dict("records"):
        place = {"textcoords": "offset points", "fontsize": "small", "va": "center"}
        ax.annotate(row["name"], (row[x], row[y]), (5, 0), **place, clip_on=False)
    ax.grid(True)
    ax.margins(0.15)
    return ax


def _series(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), rows) for name, rows in frame.groupby("series", sort=True)]


def _cycled() -> Sequence[str]:
    return MARKERS * max(1, len(mpl.rcParams["axes.prop_cycle"]))
