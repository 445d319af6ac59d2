"""Detections and annotated objects over a picture: boxes, masks and names."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.figures.canvas.sizes import SIGNS, WIDTH
from analysis.figures.palette import words_on
from svit.core.types import Detections, Target

LONGEST_NAME = 24  # signs of a class name in a tag
MOST_UNNAMED = 8  # detections that a line below the picture names one by one
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

    Colours go by class and repeat after the style's cycle. A tag that would cover the tag of a better
    detection moves to another corner of its box; where all are taken, a line below the picture names
    it. A picture with more than `MOST_UNNAMED` such detections has no tags, which would hide it, and the
    line counts its classes. Small pictures do better without `tags`.
    """
    found = found[found.scores >= threshold]
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    reach = _TAG_REACH * np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)
    places = _free_corners(found.boxes_xyxy, reach) if tags else [None] * len(found)
    crowded = [index for index, place in enumerate(places) if tags and place is None]
    many = len(crowded) > MOST_UNNAMED
    for index, (label, place) in enumerate(zip(found.labels, places, strict=True)):
        colour, box = colours[label % len(colours)], found.boxes_xyxy[index]
        if found.coded is not None:
            _mask(found.coded[[index]].decoded()[0], ax, colour)
        corner, far = box.reshape(2, 2)
        shape = Rectangle(corner, *(far - corner), fill=False, edgecolor=colour, linewidth=0.8)
        ax.add_patch(shape)
        if place is not None and not many:
            _tag(_tag_text(found, index, class_names), box, place[1], reach, ax, colour)
    if crowded:
        width = max(20, round(SIGNS * WIDTH / 2.4))
        words = _counted(found, class_names) if many else _listed(found, crowded, class_names)
        ax.set_xlabel(textwrap.fill(words, width), fontsize="small", loc="left")
    return ax


def _tag_text(found: Detections, index: int, class_names: Sequence[str]) -> str:
    return f"{_class_name(found.labels[index], class_names)} {found.scores[index]:.2f}"


def _listed(found: Detections, crowded: Sequence[int], class_names: Sequence[str]) -> str:
    names = ", ".join(_tag_text(found, index, class_names) for index in crowded)
    return f"without room for a name: {names}"


def _counted(found: Detections, class_names: Sequence[str]) -> str:
    """How many of each class, the most frequent first, and the range of their scores."""
    counts = Counter(found.labels.tolist()).most_common()
    names = ", ".join(f"{count} × {_class_name(label, class_names)}" for label, count in counts)
    return f"{names}; scores {found.scores.min():.2f} to {found.scores.max():.2f}"


def _class_name(label: int, class_names: Sequence[str]) -> str:
    """Of a long name its beginning."""
    name = class_names[label] if label < len(class_names) else f"class {label}"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _free_corners(boxes_xyxy: np.ndarray, reach: np.ndarray) -> list[np.ndarray | None]:
    """Where the tag of each box goes, left end and height: above it, else at its foot, no tag near."""
    places: list[np.ndarray | None] = []
    for box in boxes_xyxy:
        taken = [place for place in places if place is not None]
        corners = (np.array([box[0], height]) for height in (box[1], box[3]))
        free = (
            corner
            for corner in corners
            if all((np.abs(corner - other) > reach).any() for other in taken)
        )
        places.append(next(free, None))
    return places


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
        name = _class_name(label, class_names)
        _tag(f"{name}, crowd" if crowd else name, box, box[1], reach, ax, colour)
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


def _tag(
    text: str, box_xyxy: np.ndarray, top: float, reach: np.ndarray, ax: Axes, colour: str
) -> None:
    """A tag over a height of a box, turned inwards where the picture ends."""
    left, _, right, _ = box_xyxy
    outside = left + reach[0] > max(ax.get_xlim())
    ax.text(
        right if outside else left,
        top,
        text,
        color=words_on(colour),
        fontsize=mpl.rcParams["font.size"] * 0.68,
        ha="right" if outside else "left",
        va="top" if top < reach[1] else "bottom",
        clip_on=True,
        zorder=4,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
    )
