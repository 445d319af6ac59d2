"""Axes and marks that several figures share."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter


def spread(count: int, width: float = 0.6) -> np.ndarray:
    """Offsets that set `count` marks side by side around zero."""
    return (np.arange(count) - (count - 1) / 2) * width / max(count, 1)


def percent_axis(ax: Axes) -> None:
    """Shares of 0 to 1 on the y axis read as whole percents, with horizontal lines."""
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)


def legend_above(ax: Axes, columns: int = 3) -> None:
    """The legend in columns between title and axes, where it hides no data."""
    over = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    small = mpl.rcParams["font.size"] * 0.9
    ax.legend(**over, ncols=columns, columnspacing=1.2, fontsize=small)
