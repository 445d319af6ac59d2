"""Detections and annotated objects over a picture: boxes, masks and names."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from analysis.figures.palette import DARK, LUMA
from svit.core.types import Detections, Target

_TAG_REACH = np.array([0.2, 0.05])  # width and height of a tag as shares of the picture


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
    light = np.array(to_rgb(colour)) @ LUMA > 0.45
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
