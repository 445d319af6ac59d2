"""Figures: data in, drawn on the given Axes, the Axes out.

Nothing here reads files or computes a metric: usage, states, ratios and frames come from
`analysis.numbers.usage`, the look from `workbench.mplstyle`. Pictures lie in source pixels; token maps
hold valid tokens only, so padding cannot be drawn, and border tokens are cut at the image's edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, to_rgb, to_rgba
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from analysis.figures.palette import DARK, FIELD, FRAME, LATER, NEVER, NEXT, PRUNED
from svit.core.types import Detections, Target, TokenGrid

STYLE = Path(__file__).with_name("workbench.mplstyle")

LONGEST = 5  # sides of a drawn picture: a longer one would be a line in which no token shows

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_TAG_REACH = np.array([0.2, 0.05])  # width and height of a tag as shares of the picture


class States(Protocol):
    """What is drawn of `metrics.layer_states`: bool (layers, valid rows, valid columns)."""

    pruned: np.ndarray
    later: np.ndarray


def drawn_ratio(image_hw: tuple[int, int]) -> float:
    """Height / width at which a picture is drawn: its own, or 1:5 and 5:1 where it is longer."""
    height, width = image_hw
    return min(max(height / width, 1 / LONGEST), LONGEST)


def stretch_note(image_hw: tuple[int, int]) -> str:
    """Words that a picture is not drawn in its own shape, or ""."""
    height, width = image_hw
    sides = "wider" if height > width else "taller"
    return "" if drawn_ratio(image_hw) == height / width else f" · drawn {sides} than it is"


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
    return np.repeat(0.3 + 0.7 * (image @ _LUMA)[..., None] / 255, 3, axis=-1)


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

    Used tokens show the picture, pruned ones are white, those that a later layer uses again cyan.

    Args:
        layer: zero-based; the title names the paper's block, layer + 1.
        alpha: opacity of what covers pruned tokens.
        ratio: share of kept tokens, for the title.
    """
    picture(image, grid, ax)
    cover = np.zeros((*states.pruned[layer].shape, 4))
    cover[states.pruned[layer]] = to_rgba(PRUNED, alpha)
    cover[states.later[layer]] = to_rgba(LATER, alpha)
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


def state_legend(ax: Axes) -> Axes:
    """Fills an Axes with what the colours of `layer_tokens` mean."""
    edge = {"edgecolor": mpl.rcParams["axes.edgecolor"], "linewidth": 0.5}
    handles = [
        Patch(facecolor="none", label="used: the picture shows", hatch="//////", **edge),
        Patch(facecolor=PRUNED, label="pruned, not used again", **edge),
        Patch(facecolor=LATER, label="pruned, reactivated in a later layer", **edge),
    ]
    ax.legend(handles=handles, loc="center", ncols=3)
    ax.set_axis_off()
    return ax


def detections(
    found: Detections,
    ax: Axes,
    *,
    class_names: Sequence[str] = (),
    threshold: float = 0.5,
    tags: bool = True,
) -> Axes:
    """Draws boxes, masks and tags "class score" of detections from a score `threshold` on.

    Colours go by class and repeat after the style's cycle. A tag that would cover the tag of a
    better detection is left out; its box stays. Small pictures do better without `tags`.
    """
    found = found[found.scores >= threshold]
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    reach = _TAG_REACH * np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)
    tagged: list[np.ndarray] = []
    for index, label in enumerate(found.labels):
        colour = colours[label % len(colours)]
        if found.masks is not None:
            _mask(found.masks[index], ax, colour)
        corner, far = found.boxes_xyxy[index].reshape(2, 2)
        box = Rectangle(corner, *(far - corner), fill=False, edgecolor=colour, linewidth=0.8)
        ax.add_patch(box)
        if tags and all((np.abs(corner - other) > reach).any() for other in tagged):
            name = class_names[label] if label < len(class_names) else f"class {label}"
            _tag(f"{name} {found.scores[index]:.2f}", found.boxes_xyxy[index], reach, ax, colour)
            tagged.append(corner)
    return ax


def ground_truth(target: Target, ax: Axes, *, class_names: Sequence[str] = ()) -> Axes:
    """Draws annotated objects: dashed boxes, masks and the names of classes; crowds say so.

    Colours go by class as in `detections`, so that both may be drawn on one picture.
    """
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    reach = _TAG_REACH * np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)
    for label, box, mask, crowd in zip(
        target.labels, target.boxes_xyxy, target.masks, target.crowd, strict=True
    ):
        colour = colours[label % len(colours)]
        _mask(mask, ax, colour)
        corner, far = box.reshape(2, 2)
        style = {"fill": False, "edgecolor": colour, "linewidth": 0.8, "linestyle": (0, (3, 2))}
        ax.add_patch(Rectangle(corner, *(far - corner), **style))
        name = class_names[label] if label < len(class_names) else f"class {label}"
        _tag(f"{name}, crowd" if crowd else name, box, reach, ax, colour)
    return ax


def _mask(mask: np.ndarray, ax: Axes, colour: str) -> None:
    """A light fill and a thin outline of a mask in source pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    top, left = rows[0], columns[0]
    # the box of the mask in a rim of zeros, so that its outline closes at the picture's edge
    part = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    centres = [
        start + np.arange(n) - 0.5 for start, n in zip((left, top), part.shape[::-1], strict=True)
    ]
    ax.contourf(*centres, part, levels=[0.5, 1.5], colors=[colour], alpha=0.28)
    ax.contour(*centres, part, levels=[0.5], colors=[colour], linewidths=0.7)


def _tag(text: str, box_xyxy: np.ndarray, reach: np.ndarray, ax: Axes, colour: str) -> None:
    """A tag above the left corner of a box, turned inwards where the picture ends."""
    left, top, right, _ = box_xyxy
    outside = left + reach[0] > max(ax.get_xlim())
    light = np.array(to_rgb(colour)) @ _LUMA > 0.45
    ax.text(
        right if outside else left,
        top,
        text,
        color=DARK if light else "white",
        fontsize=mpl.rcParams["font.size"] * 0.68,
        ha="right" if outside else "left",
        va="top" if top < reach[1] else "bottom",
        clip_on=True,
        zorder=4,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
    )


def reactivation_bars(frame: pd.DataFrame, ax: Axes, *, of: str = "all") -> Axes:
    """Pruned tokens of each block and what becomes of them (paper Fig. 5a).

    The stacked bars (reactivated later, never used again) add up to the pruned tokens; those
    reactivated in the very next layer are part of the former and drawn inside it. The numbers are
    the reactivated share of the pruned tokens, or the immediate share of the reactivated ones.

    Args:
        frame: `metrics.reactivation_frame`; blocks that prune nothing are left out.
        of: the denominator: "all" tokens or the "pruned" ones, whose bars reach 1.
    """
    ending, number, title = _DENOMINATORS[of]
    rows = frame[frame["pruned"] > 0]
    block, later = rows["block"], rows[f"later_{ending}"]
    ax.bar(block, later, width=0.72, color=LATER, label="reactivated later")
    ax.bar(block, rows[f"next_{ending}"], width=0.3, color=NEXT, label="of these, next layer")
    never = {"bottom": later, "color": NEVER, "label": "never again"}
    ax.bar(block, rows[f"never_{ending}"], width=0.72, **never)
    small = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
    tops = later + rows[f"never_{ending}"]
    for x, top, share in zip(block, tops, rows[number], strict=True):
        ax.annotate("–" if np.isnan(share) else f"{share:.0%}", (x, top), (0, 2), **small)
    ax.set(xlabel="block", ylabel=f"share of {of} tokens", xticks=block.tolist())
    ax.set_title(title, pad=14)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)
    over = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3, "borderaxespad": 0.2}
    ax.legend(**over, borderpad=0, columnspacing=1.2, fontsize="small")
    ax.margins(y=0.12)
    return ax


# denominator -> ending of its columns, column of the numbers above the bars, title
_DENOMINATORS = {
    "all": ("share", "later_of_pruned", "numbers: reactivated share of the pruned tokens"),
    "pruned": ("of_pruned", "next_of_later", "numbers: next layer's share of the reactivated"),
}
