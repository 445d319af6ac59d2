"""What all objects tell that no single one does: boxes, units and areas that cannot be meant; no torch.

x1, y1, x2, y2 where x, y, width, height belong, shares or percent of a picture where pixels belong: each
number by itself is legal, and training and evaluation would run. The objects together give it away, their
masks most of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svit.data.annotations import Geometry, Listed, area_of
from svit.data.findings import Findings, shown

FOLLOWING = (
    "boxes dropped",
    "boxes clipped",
    "area added",
)  # repairs that a wrong unit or order calls for
SMALL_SIDE = 16  # pixels; in a smaller picture shares and pixels are hard to tell apart
UNIT_SHARE = 0.1  # of the objects, from which coordinates up to 1 are shares of the picture
PERCENT_OBJECTS, PERCENT_SIDE, PERCENT_SPAN = 10, 200, 80
FITTING = 0.8  # overlap (IoU) of a box and the extent of its mask that means the same
EXACT = 0.95  # ... beyond doubt
MOST = 0.5  # share of the objects that decides
INSIDE = 0.5  # share of the extent of a mask that its box holds at least
PROBED = 2000  # objects whose area is measured
AREA_RATIO = (0.1, 10.0)

# how four numbers may be read: name -> left, top, right, bottom
READINGS = {
    "x1, y1, x2, y2": lambda a, b, c, d: (a, b, c, d),
    "the middle's x and y, width, height": lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    "y1, x1, y2, x2": lambda a, b, c, d: (b, a, d, c),
    "y, x, height, width": lambda a, b, c, d: (b, a, b + d, a + c),
    "x, y, height, width": lambda a, b, c, d: (a, b, a + d, b + c),
}  # fmt: skip


def judge(
    geometry: Geometry,
    annotations: Sequence[Mapping[str, Any]],
    listed: Listed,
    errors: Findings,
    repairs: Findings,
) -> None:
    """Notes what cannot be meant, and takes back the repairs that only follow from it.

    Args:
        annotations: the good ones, repaired.
    """
    boxes, bounds, sides = geometry.arrays()
    if not len(boxes):
        return
    found = (
        _units(boxes, bounds, sides)
        or _reading(boxes, bounds, sides)
        or _outside(boxes, bounds, sides)
    )
    if found is None:
        _areas(annotations, listed, errors)
        return
    kind, rows = found
    repairs.drop(*FOLLOWING)
    for row in rows:
        spans = "" if np.isnan(bounds[row, 0]) else f", the mask spans {_numbers(bounds[row])}"
        place = listed.place(geometry.objects[row])
        errors.add(kind, f"{place}: bbox {_numbers(boxes[row])}{spans}")


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _units(
    boxes: np.ndarray, bounds: np.ndarray, sides: np.ndarray
) -> tuple[str, np.ndarray] | None:
    large = sides.min(axis=1) > SMALL_SIDE
    tiny = (boxes.max(axis=1) <= 1) | (np.nan_to_num(bounds, nan=2).max(axis=1) <= 1)
    if (tiny & large).mean() >= UNIT_SHARE:
        return "coordinates from 0 to 1", np.flatnonzero(tiny & large)
    ends = np.maximum(boxes[:, :2] + boxes[:, 2:], boxes.max(axis=1, keepdims=True))
    enough = len(boxes) >= PERCENT_OBJECTS and sides.min() >= PERCENT_SIDE
    within = boxes.max() <= 100 and ends.max() >= PERCENT_SPAN
    if enough and within and (ends.max() <= 100.5 or _are_corners(boxes)):
        return "coordinates in percent", np.arange(len(boxes))
    return None


def _are_corners(boxes: np.ndarray) -> bool:
    return bool((boxes[:, 2:] > boxes[:, :2]).all())


def _reading(
    boxes: np.ndarray, bounds: np.ndarray, sides: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """Another meaning of the four numbers: told by the masks; without masks, corners where width and
    height lead out of many pictures."""
    left, top, width, height = boxes.T
    masked = ~np.isnan(bounds[:, 0])
    if masked.any():
        corners = np.stack([left, top, left + width, top + height], 1)
        own = np.fmax(_overlap(corners, bounds), _overlap(corners, _shown(bounds, sides)))
        return _fitting(boxes, bounds, np.where(masked, own, 1.0), masked)
    beyond = (left + width > sides[:, 1] + 1) | (top + height > sides[:, 0] + 1)
    corners_inside = (boxes[:, 2] <= sides[:, 1] + 1) & (boxes[:, 3] <= sides[:, 0] + 1)
    if beyond.mean() >= UNIT_SHARE and _are_corners(boxes) and corners_inside.all():
        return "boxes as x1, y1, x2, y2", np.flatnonzero(beyond)
    return None


def _fitting(
    boxes: np.ndarray, bounds: np.ndarray, own: np.ndarray, masked: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """A reading that fits most masks where theirs does not, or single ones to the pixel.

    Args:
        own: overlap of each box as it should be read with the extent of its mask; 1 without one.
    """
    fits = {
        name: np.nan_to_num(_overlap(np.stack(corners(*boxes.T), 1), bounds))
        for name, corners in READINGS.items()
    }
    if (own[masked] < FITTING).mean() > MOST:
        best = max(fits, key=lambda name: (fits[name][masked] >= FITTING).mean())
        if (fits[best][masked] >= FITTING).mean() >= MOST:
            return f"boxes as {best}", np.flatnonzero(own < FITTING)
    rows = {name: np.flatnonzero((own < INSIDE) & (fit >= EXACT)) for name, fit in fits.items()}
    best = max(rows, key=lambda name: len(rows[name]))
    return (f"boxes as {best}", rows[best]) if len(rows[best]) else None


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, row by row; 0 where a side is not positive, NaN without one."""
    common = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    areas = [(one[:, 2:] - one[:, :2]).clip(0).prod(axis=1) for one in (first, second)]
    shared = common.clip(0).prod(axis=1)
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)


def _shown(bounds: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Extents cut at the border of their picture, where boxes are cut, too; those beside it as they are."""
    cut = np.clip(bounds, 0, sides[:, [1, 0, 1, 0]])
    return np.where((cut[:, 2:] > cut[:, :2]).all(axis=1, keepdims=True), cut, bounds)


def _outside(
    boxes: np.ndarray, bounds: np.ndarray, sides: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """Objects whose box holds less than half of the extent of their mask (and a pixel around)."""
    bounds = _shown(bounds, sides)
    corners = np.concatenate([boxes[:, :2] - 1, boxes[:, :2] + boxes[:, 2:] + 1], axis=1)
    common = np.minimum(corners[:, 2:], bounds[:, 2:]) - np.maximum(corners[:, :2], bounds[:, :2])
    extent = np.maximum(bounds[:, 2:] - bounds[:, :2], 1e-6)
    far = (common.clip(0) / extent).prod(axis=1) < INSIDE  # NaN compares as False
    real = (boxes[:, 2:] > 0).all(axis=1)
    return ("boxes beside their masks", np.flatnonzero(far & real)) if (far & real).any() else None


def _areas(
    annotations: Sequence[Mapping[str, Any]],
    listed: Listed,
    errors: Findings,
) -> None:
    """Areas that are not of the order of those of the objects: all 0, in shares of the picture, ..."""
    if not annotations:
        return
    places = np.unique(np.linspace(0, len(annotations) - 1, PROBED).round().astype(int))
    chosen = [annotations[place] for place in places]
    real = np.array(
        [
            area_of(one["bbox"], one.get("segmentation"), listed.sizes[one["image_id"]])
            for one in chosen
        ]
    )
    given = np.array([one["area"] for one in chosen], float)
    known = real > 0
    if not known.any():
        return
    ratio = given[known] / real[known]
    if AREA_RATIO[0] <= np.median(ratio) <= AREA_RATIO[1]:
        return
    wrong = np.flatnonzero(known)[(ratio < AREA_RATIO[0]) | (ratio > AREA_RATIO[1])]
    for place in wrong:
        one = chosen[place]
        found = f"area is {shown(one['area'])}, the object has {real[place]:g} pixels"
        errors.add("wrong areas", f"{listed.place(one)}: {found}")
