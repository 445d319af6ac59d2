"""Figures about a whole data set: the averaged usage map and accuracy against cost.

As in `analysis.figures.figures`: data in, drawn on the given Axes, the Axes out.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes


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
