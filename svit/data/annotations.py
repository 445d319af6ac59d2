"""The rules for the annotations of a COCO json: errors are named, repairs are carried out; no torch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from svit.data.findings import Findings, place_of, shown
from svit.data.segments import are_run_lengths, filled_up, is_empty, run_lengths

NEEDED = ("image_id", "category_id", "bbox")
SLACK = 1.0  # pixels by which boxes of careful annotators exceed a picture
FAR = 10.0  # polygon points further out than this many picture sides cannot be meant
LARGEST_ID = 2**63 - 1
NOWHERE = (math.nan,) * 4
CHUNK = 10_000  # run lengths measured at once
# polygons that may hold no pixel, so that not all have to be drawn: lines, and what is said to be small
SMALL_AREA, FEW_NUMBERS = 10.0, 12

Problem = tuple[str, str]  # kind of error, and what was found


@dataclass(frozen=True)
class Listed:
    """What the lists of images and categories hold, as far as it is good.

    Attributes:
        sizes: image id -> height and width.
        names: image id -> file name.
        categories: category ids.
        whole: whether every image and category is good; else an unknown id only follows from another error.
    """

    sizes: Mapping[int | str, tuple[int, int]]
    names: Mapping[int | str, str]
    categories: frozenset[int]
    whole: bool

    def place(self, annotation: Any, position: int = 0) -> str:
        """How a report names an annotation: by its id and, where that is known, the file of its picture."""
        number = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        name = self.names.get(number) if isinstance(number, int | str) else None
        return place_of(annotation, position) + (f" in {name}" if name else "")


@dataclass
class Geometry:
    """Boxes of the good annotations as written, and the extent of their masks.

    Attributes:
        objects: the annotations.
        boxes: x, y, width, height as written, in a row.
        bounds: left, top, right, bottom of the mask, in a row; NaN without one.
        sides: height and width of the picture, in a row.
    """

    objects: list[Mapping[str, Any]] = field(default_factory=list)
    boxes: array = field(default_factory=lambda: array("d"))
    bounds: array = field(default_factory=lambda: array("d"))
    sides: array = field(default_factory=lambda: array("d"))
    _runs: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def add(
        self,
        annotation: Mapping[str, Any],
        segmentation: Any,
        image_hw: tuple[int, int],
    ) -> None:
        """One more object, with its mask after repairs."""
        self.objects.append(annotation)
        self.boxes.extend(annotation["bbox"])
        self.sides.extend(image_hw)
        if isinstance(segmentation, Mapping):
            self._runs.append((len(self.objects) - 1, run_lengths(segmentation, image_hw)))
            self.bounds.extend(NOWHERE)
            if len(self._runs) >= CHUNK:
                self._measure()
        else:
            self.bounds.extend(_extent(segmentation))

    def _measure(self) -> None:
        if not self._runs:
            return
        rows, codes = zip(*self._runs, strict=True)
        for row, (left, top, width, height) in zip(rows, coco_mask.toBbox(list(codes)).tolist()):
            if width > 0 and height > 0:
                corners = (left, top, left + width, top + height)
                self.bounds[4 * row : 4 * row + 4] = array("d", corners)
        self._runs.clear()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (n, 4), bounds (n, 4) and sides (n, 2), float64."""
        self._measure()
        boxes, bounds = (np.array(one).reshape(-1, 4) for one in (self.boxes, self.bounds))
        return boxes, bounds, np.array(self.sides).reshape(-1, 2)


def _extent(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    if not polygons:
        return NOWHERE
    columns = [polygon[0::2] for polygon in polygons]
    rows = [polygon[1::2] for polygon in polygons]
    return (
        min(map(min, columns)),
        min(map(min, rows)),
        max(map(max, columns)),
        max(map(max, rows)),
    )


@dataclass
class Objects:
    """The rules: errors and notes are noted, repairs carried out and noted."""

    listed: Listed
    errors: Findings
    repairs: Findings
    notes: Findings
    geometry: Geometry = field(default_factory=Geometry)

    def repaired(self, annotations: Sequence[Any]) -> list[Mapping[str, Any]]:
        """The good annotations after their repairs; what needed none is shared with the input."""
        renumber = self._check_ids(annotations)
        fixed = []
        for position, annotation in enumerate(annotations):
            problem = self._problem(annotation)
            if problem:
                kind, found = problem
                if kind:
                    self.errors.add(kind, f"{self.listed.place(annotation, position)}: {found}")
                continue
            mended = self._mended(annotation, place_of(annotation, position))
            if mended is not None:
                fixed.append({**mended, "id": len(fixed) + 1} if renumber else mended)
        return fixed

    def _check_ids(self, annotations: Sequence[Any]) -> bool:
        """Whether new ids are needed."""
        seen: set[int] = set()
        for position, annotation in enumerate(annotations):
            number = annotation.get("id") if isinstance(annotation, Mapping) else None
            if type(number) is not int or not 1 <= number <= LARGEST_ID:
                self.repairs.add("ids renumbered", place_of(annotation, position))
            elif number in seen:
                self.errors.add("duplicate annotation ids", number)
            else:
                seen.add(number)
        return "ids renumbered" in self.repairs.counts

    def _problem(self, annotation: Any) -> Problem | None:
        """The kind of error of an annotation and what was found, or None; no kind for what only follows
        from an error that is noted already."""
        if not isinstance(annotation, Mapping):
            return "incomplete annotations", f"is {shown(annotation)}"
        lacking = [name for name in NEEDED if annotation.get(name) is None]
        if lacking:
            return "incomplete annotations", f"has no {', '.join(lacking)}"
        image_id, category_id = annotation["image_id"], annotation["category_id"]
        problem = self._unlisted("image", image_id, self.listed.sizes) or self._unlisted(
            "category", category_id, self.listed.categories
        )
        return problem or self._numbers_problem(annotation, self.listed.sizes[image_id])

    def _unlisted(self, what: str, number: Any, known: Iterable[Any]) -> Problem | None:
        kind = type(number)
        if (kind is int or kind is str) and number in known:
            return None
        if not self.listed.whole:
            return "", ""
        plural = {"image": "images", "category": "categories"}[what]
        found = f"{what}_id is {shown(number)}"
        wanted = next(iter(known), None)
        if wanted is not None and kind is not type(wanted):
            return "ids of another type", f"{found}, ids of {plural} are as {shown(wanted)}"
        return f"unknown {plural}", found

    def _numbers_problem(
        self, annotation: Mapping[str, Any], image_hw: tuple[int, int]
    ) -> Problem | None:
        box = annotation["bbox"]
        if not isinstance(box, list | tuple) or len(box) != 4:
            return "boxes not of 4 numbers", f"bbox is {shown(box)}"
        wrong = _no_number(box)
        if wrong is not None:
            return "not finite numbers", f"bbox holds {wrong}"
        wrong = _no_number((annotation.get("area") or 0,))
        if wrong is not None:
            return "not finite numbers", f"area is {wrong}"
        crowd = annotation.get("iscrowd", 0)
        if crowd not in (0, 1):
            return "wrong crowd flags", f"iscrowd is {shown(crowd)}"
        return _segmentation_problem(annotation.get("segmentation"), image_hw)

    def _mended(self, annotation: Mapping[str, Any], place: str) -> Mapping[str, Any] | None:
        """The annotation after its repairs (itself where it needs none); None if it is left out."""
        image_hw = self.listed.sizes[annotation["image_id"]]
        segmentation = self._segmentation(annotation.get("segmentation"), image_hw, place)
        self.geometry.add(annotation, segmentation, image_hw)
        box = self._box(annotation["bbox"], image_hw, place)
        if box is None:
            return None
        changes: dict[str, Any] = {}
        if box is not annotation["bbox"]:
            changes["bbox"] = box
        if segmentation is not annotation.get("segmentation"):
            changes["segmentation"] = segmentation
        if annotation.get("iscrowd") is None:
            self.repairs.add("iscrowd added", place)
            changes["iscrowd"] = 0
        if annotation.get("area") is None or annotation["area"] < 0:
            self.repairs.add("area added", place)
            changes["area"] = area_of(box, segmentation, image_hw)
        if annotation.get("ignore"):
            self.notes.add("objects to ignore", place)
        self._note_nothing(
            segmentation, changes.get("area", annotation.get("area")), image_hw, place
        )
        return {**annotation, **changes} if changes else annotation

    def _note_nothing(
        self, segmentation: Any, area: float, image_hw: tuple[int, int], place: str
    ) -> None:
        """Notes an object without a mask, with one without a pixel, or of area 0 beside one with pixels."""
        if not segmentation:
            self.notes.add("objects without a mask", place)
        suspicious = area < SMALL_AREA or isinstance(segmentation, Mapping)
        suspicious = suspicious or sum(map(len, segmentation)) <= FEW_NUMBERS
        if segmentation and suspicious and is_empty(segmentation, image_hw):
            self.notes.add("objects with an empty mask", place)
        elif area == 0:
            self.notes.add("objects of area 0", place)

    def _box(
        self, box: Sequence[float], image_hw: tuple[int, int], place: str
    ) -> Sequence[float] | None:
        left, top, width, height = box
        right, bottom = left + width, top + height
        beyond = max(-left, -top, right - image_hw[1], bottom - image_hw[0])
        if beyond > SLACK:
            left, top = max(left, 0), max(top, 0)
            width, height = min(right, image_hw[1]) - left, min(bottom, image_hw[0]) - top
        if width <= 0 or height <= 0:
            self.repairs.add("boxes dropped", place)
            return None
        if beyond <= SLACK:
            return box
        self.repairs.add("boxes clipped", place)
        return [left, top, width, height]

    def _segmentation(self, segmentation: Any, image_hw: tuple[int, int], place: str) -> Any:
        """The mask after its repairs; an empty list for an object without one."""
        if isinstance(segmentation, Mapping):
            filled = filled_up(segmentation, image_hw)
            if filled is not segmentation:
                self.repairs.add("run lengths re-encoded", place)
            return filled
        polygons = [polygon for polygon in segmentation or () if len(polygon) >= 6]
        if len(polygons) == len(segmentation or ()):
            return segmentation if segmentation is not None else polygons
        self.repairs.add("polygons dropped", place)
        return polygons


def area_of(box: Sequence[float], segmentation: Any, image_hw: tuple[int, int]) -> float:
    """Pixels of the mask; without a mask, of the box."""
    if not segmentation:
        return float(box[2] * box[3])
    return float(coco_mask.area(run_lengths(segmentation, image_hw)))


def _no_number(values: Sequence[Any]) -> str | None:
    """The first of the values that is no finite number, for a message."""
    try:
        if math.isfinite(sum(values)):
            return None
    except (TypeError, OverflowError):
        pass
    for value in values:
        if type(value) not in (int, float, bool) or not -1e300 < value < 1e300:
            return shown(value)
    return "numbers beyond all bounds"


def _segmentation_problem(segmentation: Any, image_hw: tuple[int, int]) -> Problem | None:
    if segmentation is None:
        return None
    if isinstance(segmentation, Mapping):
        if are_run_lengths(segmentation, image_hw):
            return None
        size = f"of size {segmentation.get('size')} in a picture of {list(image_hw)}"
        return "wrong run lengths", f"{size}, counts are {shown(segmentation.get('counts'))}"
    if not isinstance(segmentation, list | tuple):
        return "wrong polygons", f"segmentation is {shown(segmentation)}"
    limit = FAR * max(image_hw)
    for polygon in segmentation:
        problem = _polygon_problem(polygon, limit)
        if problem:
            return problem
    return None


def _polygon_problem(polygon: Any, limit: float) -> Problem | None:
    if not isinstance(polygon, list | tuple):
        return "wrong polygons", f"segmentation holds {shown(polygon)} instead of a list"
    if polygon and isinstance(polygon[0], list | tuple):
        return "wrong polygons", f"holds pairs, {shown(polygon[0])}; write x1, y1, x2, y2, ..."
    wrong = _no_number(polygon)
    if wrong is not None:
        return "not finite numbers", f"segmentation holds {wrong}"
    if len(polygon) % 2:
        return "wrong polygons", f"a polygon has {len(polygon)} numbers"
    if polygon and (max(polygon) > limit or min(polygon) < -limit):
        return "wrong polygons", f"a polygon spans {min(polygon):g} to {max(polygon):g}"
    return None
