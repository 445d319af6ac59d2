"""Pictures and maps of tokens, drawn on the given Axes: data in, the Axes out.

Nothing here reads files or computes a metric. Pictures lie in source pixels; token maps hold valid tokens
only, so padding cannot be drawn, and border tokens are cut at the image's edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, to_rgba
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from analysis.figures.canvas.sizes import drawn_ratio
from analysis.figures.palette import CARRIED, FIELD, FRAME, LATER, LUMA, PRUNED
from svit.core.types import TokenGrid


class States(Protocol):
    """What is drawn of `metrics.layer_states`: bool (layers, valid rows, valid columns)."""

    carried: np.ndarray
    pruned: np.ndarray
    later: np.ndarray


def picture(image: np.ndarray | None, grid: TokenGrid, ax: Axes, *, grey: bool = False) -> Axes:
    """Lays a picture of any size over the source image's pixels; very long ones are widened.

    Args:
        image: uint8 RGB; None leaves an empty field.
        grey: shows it brightened and without colour, as a ground for colours.
    """
    height, width = grid.image_hw
    if image is not None:
        shown = _brightened(image) if grey else image
        ax.imshow(shown, extent=(0, width, height, 0), interpolation="antialiased")
    aspect = drawn_ratio(grid.image_hw) / (height / width)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect=aspect, xticks=[], yticks=[])
    ax.set_facecolor(FIELD)
    ax.spines[:].set(visible=True, color=FRAME, linewidth=0.4)
    return ax


def _brightened(image: np.ndarray) -> np.ndarray:
    return np.repeat(0.3 + 0.7 * (image @ LUMA)[..., None] / 255, 3, axis=-1)


def tokens(values: np.ndarray, grid: TokenGrid, ax: Axes, **style) -> AxesImage:
    """Lays a map of valid tokens in its place over the source image.

    Raises:
        ValueError: the map has other rows or columns.
    """
    found = values.shape[:2]
    if found != grid.valid_hw:
        raise ValueError(f"expected a map of the {grid.valid_hw} valid tokens, found {found}")
    rows, columns = found
    scale_y, scale_x = grid.scale_yx
    extent = (0, columns * grid.patch / scale_x, rows * grid.patch / scale_y, 0)
    x_limits, y_limits = ax.get_xlim(), ax.get_ylim()
    drawn = ax.imshow(values, extent=extent, aspect=ax.get_aspect(), **style)
    ax.set(xlim=x_limits, ylim=y_limits)  # imshow widens them to the last token
    return drawn


def usage_heatmap(
    usage: np.ndarray,
    grid: TokenGrid,
    ax: Axes,
    *,
    limits: tuple[int, int],
    image: np.ndarray | None = None,
    alpha: float = 0.75,
    colorbar: bool = True,
    scale: str = "layers that used the token",
) -> Axes:
    """How many layers used each token, over the greyed picture (paper Figs. 1 and 4).

    Args:
        usage: counts of the valid tokens.
        limits: smallest and largest possible count (`metrics.usage_limits`); each count has one
            colour.
        alpha: opacity over the picture; without a picture the map is opaque.
        scale: label of the colour bar.
    """
    picture(image, grid, ax, grey=True)
    low, high = limits
    colours = mpl.colormaps[mpl.rcParams["image.cmap"]].resampled(high - low + 1)
    norm = BoundaryNorm(np.arange(low - 0.5, high + 1), colours.N)
    opacity = 1 if image is None else alpha
    drawn = tokens(usage, grid, ax, cmap=colours, norm=norm, alpha=opacity)
    if colorbar:
        _layer_bar(drawn, ax, limits, scale, 1 if drawn_ratio(grid.image_hw) > 0.4 else 3)
    return ax


def beside(ax: Axes) -> Axes:
    """Room for a colour bar as high as a picture, as broad beside a narrow one as beside a square."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    tall = abs((top - bottom) / (right - left)) * float(ax.get_aspect())
    return ax.inset_axes((1.02, 0, 0.03 * max(tall, 1), 1))


def _layer_bar(drawn: AxesImage, ax: Axes, limits: tuple[int, int], label: str, every: int) -> None:
    """A colour bar as high as the picture, one opaque step a count and a tick at `every` so many."""
    bar = ax.figure.colorbar(drawn, cax=beside(ax))
    bar.set_ticks(np.arange(limits[1], limits[0] - 1, -every)[::-1])
    bar.ax.tick_params(which="both", length=0, pad=2)
    bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    bar.set_label(label)


def layer_tokens(
    states: States,
    layer: int,
    grid: TokenGrid,
    ax: Axes,
    *,
    image: np.ndarray | None = None,
    alpha: float = 0.85,
    ratio: float | None = None,
) -> Axes:
    """One layer in the colours of paper Fig. 5b.

    Used tokens show the picture, pruned ones are white, those that a later layer uses again cyan; tokens
    that another one carries are yellow.

    Args:
        layer: zero-based; the title names the paper's block, layer + 1.
        alpha: opacity of what covers pruned tokens.
        ratio: share of kept tokens, for the title.
    """
    picture(image, grid, ax)
    cover = np.zeros((*states.pruned[layer].shape, 4))
    cover[states.pruned[layer]] = to_rgba(PRUNED, alpha)
    cover[states.later[layer]] = to_rgba(LATER, alpha)
    cover[states.carried[layer]] = to_rgba(CARRIED, alpha)
    tokens(cover, grid, ax)
    kept = "" if ratio is None else f"  {ratio:.0%} kept"
    ax.set_title(f"block {layer + 1}{kept}")
    return ax


def layer_strip(
    states: States,
    grid: TokenGrid,
    axes: Iterable[Axes],
    *,
    layers: Sequence[int],
    ratios: Sequence[float],
    **style,
) -> list[Axes]:
    """`layer_tokens` of several layers, one Axes each; `ratios` has the kept share of every layer."""
    return [
        layer_tokens(states, layer, grid, ax, ratio=ratios[layer], **style)
        for layer, ax in zip(layers, axes, strict=True)
    ]


def state_legend(ax: Axes, merges: bool = False) -> Axes:
    """Fills an Axes with what the colours of `layer_tokens` mean, carried tokens where they `merge`."""
    edge = {"edgecolor": mpl.rcParams["axes.edgecolor"], "linewidth": 0.5}
    handles = [
        Patch(facecolor="none", label="used: the picture shows", hatch="//////", **edge),
        Patch(facecolor=PRUNED, label="pruned, not used again", **edge),
        Patch(facecolor=LATER, label="pruned, reactivated in a later layer", **edge),
    ]
    if merges:
        handles.insert(1, Patch(facecolor=CARRIED, label="carried by another token", **edge))
    ax.legend(handles=handles, loc="center", ncols=2 if merges else 3)
    ax.set_axis_off()
    return ax
