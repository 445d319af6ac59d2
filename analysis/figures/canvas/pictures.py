"""Pictures and maps of tokens, drawn on the given Axes: data in, the Axes out.

Nothing here reads files or computes a metric. Pictures lie in source pixels; token maps hold valid tokens
only, so padding cannot be drawn, and border tokens are cut at the image's edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, to_rgb, to_rgba
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from analysis.figures.canvas.sizes import drawn_ratio
from analysis.figures.palette import CARRIED, FIELD, FRAME, LATER, LUMA, PRUNED
from svit.core.types import TokenGrid

COVER = 0.85  # opacity of what covers pruned tokens
TICK = 0.13  # inches that a number needs beside a colour bar
MIDDLE, REACH = 0.62, 0.32  # of the greys of a picture behind colours


class States(Protocol):
    """What is drawn of `metrics.layer_states`: bool (layers, valid rows, valid columns)."""

    carried: np.ndarray
    pruned: np.ndarray
    later: np.ndarray


def picture(
    image: np.ndarray | None, grid: TokenGrid, ax: Axes, *, grey: bool = False, reach: float = REACH
) -> Axes:
    """Lays a picture of any size over the source image's pixels; very long ones are widened.

    Args:
        image: uint8 RGB; None leaves an empty field.
        grey: shows it brightened and without colour, as a ground for colours.
        reach: of its greys from their middle.
    """
    height, width = grid.image_hw
    if image is not None:
        shown = brightened(image, reach) if grey else image
        ax.imshow(shown, extent=(0, width, height, 0), interpolation="antialiased")
    aspect = drawn_ratio(grid.image_hw) / (height / width)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect=aspect, xticks=[], yticks=[])
    ax.set_facecolor(FIELD)
    ax.spines[:].set(visible=True, color=FRAME, linewidth=0.4)
    return ax


def brightened(image: np.ndarray, reach: float = REACH) -> np.ndarray:
    """The picture in greys of `MIDDLE` - reach to `MIDDLE` + reach.

    Args:
        image: uint8 RGB.

    Returns: float (h, w, 3) in 0..1.
    """
    grey = MIDDLE + reach * (image @ LUMA / 127.5 - 1)
    return np.repeat(grey[..., None], 3, axis=-1)


def reach_behind(alpha: float, colours: int = 13) -> float:
    """How far greys behind a map of that opacity may lie from their middle, so that a token is nearer to
    its own colour of the bar than to any other of so many."""
    return float(np.clip((alpha - 0.47) * min(1, 13 / colours) ** 2, 0.01, REACH))


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
    every: np.ndarray | None = None,
) -> Axes:
    """How many layers used each token, over the greyed picture (paper Figs. 1 and 4).

    Args:
        usage: counts of the valid tokens.
        limits: smallest and largest count (`metrics.usage_limits`); each has one colour, and those beyond
            have that of the end, of which the bar says so.
        alpha: opacity over the picture; without a picture the map is opaque. The bar shows colours as
            they look over the picture.
        scale: label of the colour bar.
        every: counts of all maps that the bar stands beside, where these are several.
    """
    opacity = 1 if image is None else alpha
    picture(image, grid, ax, grey=True, reach=reach_behind(opacity, limits[1] - limits[0] + 1))
    low, high = limits
    colours = mpl.colormaps[mpl.rcParams["image.cmap"]].resampled(high - low + 1)
    norm = BoundaryNorm(np.arange(low - 0.5, high + 1), colours.N)
    tokens(usage, grid, ax, cmap=colours, norm=norm, alpha=opacity)
    if colorbar:
        bar = layer_bar(ax, ScalarMappable(norm, over_grey(colours, opacity)), limits)
        bar.set_label(scale)
        _say_beyond(bar, limits, usage if every is None else every)
    return ax


def over_grey(colours: Colormap, alpha: float) -> ListedColormap:
    """Colours as they look over the middle grey of a picture: those of the bar."""
    shown = colours(np.arange(colours.N))
    shown[:, :3] = alpha * shown[:, :3] + (1 - alpha) * MIDDLE
    return ListedColormap(shown)


def beside(ax: Axes) -> Axes:
    """Room for a colour bar as high as a picture, beside a narrow one as broad and far as beside a square."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    tall = abs((top - bottom) / (right - left)) * float(ax.get_aspect())
    broad = max(tall, 1)
    return ax.inset_axes((1 + 0.02 * broad, 0, 0.03 * broad, 1))


def layer_bar(ax: Axes, drawn: ScalarMappable, limits: tuple[int, int]) -> Colorbar:
    """A colour bar as high as the picture, one step a count and as many ticks as have room."""
    bar = ax.figure.colorbar(drawn, cax=beside(ax))
    every = math.ceil(TICK * (limits[1] - limits[0] + 1) / _height(ax))
    bar.set_ticks(np.arange(limits[1], limits[0] - 1, -every)[::-1])
    bar.ax.tick_params(which="both", length=0, pad=2)
    bar.outline.set_visible(False)
    return bar


def _height(ax: Axes) -> float:
    """Of a picture, in inches."""
    room = ax.get_window_extent()
    ratio = abs(np.subtract(*ax.get_ylim()) / np.subtract(*ax.get_xlim())) * ax.get_aspect()
    return min(room.height, room.width * ratio) / ax.figure.dpi


def _say_beyond(bar: Colorbar, limits: tuple[int, int], values: np.ndarray) -> None:
    """Ends of the bar that stand for more than themselves say so."""
    words = [str(tick) for tick in bar.get_ticks()]
    if values.size and values.min() < limits[0]:
        words[0] = f"≤{words[0]}"
    if values.size and values.max() > limits[1]:
        words[-1] = f"≥{words[-1]}"
    bar.set_ticks(bar.get_ticks(), labels=words)


def layer_tokens(
    states: States,
    layer: int,
    grid: TokenGrid,
    ax: Axes,
    *,
    image: np.ndarray | None = None,
    alpha: float = COVER,
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


def state_legend(ax: Axes, merges: bool = False, image: np.ndarray | None = None) -> Axes:
    """Fills an Axes with what the colours of `layer_tokens` mean, as they look over the mean of the picture.

    Args:
        merges: carried tokens, too.
        image: as of `layer_tokens`; without, the colours over an empty field.
    """
    edge = {"edgecolor": mpl.rcParams["axes.edgecolor"], "linewidth": 0.5}
    ground = to_rgb(FIELD) if image is None else image.mean(axis=(0, 1)) / 255

    def patch(colour: str, label: str) -> Patch:
        shown = COVER * np.array(to_rgb(colour)) + (1 - COVER) * np.array(ground)
        return Patch(facecolor=tuple(shown), label=label, **edge)

    handles = [
        Patch(facecolor="none", label="used: the picture shows", hatch="//////", **edge),
        patch(PRUNED, "pruned, not used again"),
        patch(LATER, "pruned, reactivated in a later layer"),
    ]
    if merges:
        handles.insert(1, patch(CARRIED, "carried by another token"))
    ax.legend(handles=handles, loc="center", ncols=2 if merges else 3)
    ax.set_axis_off()
    return ax
