"""Checks and repairs a COCO json before anything is trained, measured or recorded with it; no torch.

Wrong annotation files rarely crash: duplicate ids or an annotation id 0 quietly halve AP in
pycocotools, run lengths that stop short show uninitialised memory as objects, and a polygon that
reaches a billion pixels out fills the machine's memory. Each kind of problem is one line of a report:
an error, or a repair that `repaired` carries out. One pass finds both, so they cannot disagree.
"""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from svit.data.reading import MAX_PIXELS, ImageError, read_image
from svit.data.segments import are_run_lengths, filled_up, run_lengths

LISTS = ("images", "annotations", "categories")
NEEDED = frozenset({"image_id", "category_id", "bbox", "segmentation"})
ERRORS: dict[str, str] = {
    "no images": "the list of images is empty; was the right json written?",
    "incomplete images": "images need an id, a file_name, and width and height in whole pixels",
    "incomplete categories": "categories need a whole number as id and a name",
    "duplicate image ids": "give every image its own id",
    "duplicate category ids": "give every category its own id",
    "duplicate annotation ids": "remove the copies, or give every annotation its own id",
    "incomplete annotations": "annotations need image_id, category_id, bbox and segmentation",
    "unknown images": "annotations of images that are not listed; add those images or remove them",
    "unknown categories": "annotations of categories that are not listed; add them to categories",
    "not finite numbers": "bbox, area and segmentation need finite numbers",
    "boxes not of 4 numbers": "bbox needs x, y, width and height in pixels",
    "wrong crowd flags": "iscrowd needs 0 or 1",
    "wrong polygons": "polygons need x, y pairs near the picture, in pixels",
    "wrong run lengths": "run lengths need the picture's size and may not exceed its pixels",
    "missing files": "not below the image root; check --image-root or complete the download",
    "wrong files": "",
}
REPAIRS: dict[str, str] = {
    "iscrowd added": "iscrowd was missing and is 0",
    "area added": "area was missing or negative and is that of the mask, in pixels",
    "ids renumbered": "annotation ids were missing or not positive; all are renumbered from 1",
    "boxes dropped": "boxes without width or height are left out with their annotation",
    "boxes clipped": "boxes reached beyond the picture and are cut at its border",
    "polygons dropped": "polygons of fewer than 3 points are left out",
    "objects dropped": "annotations without a polygon of 3 points are left out",
    "run lengths re-encoded": "run lengths that stop short of the picture are filled with background",
}
EXAMPLES = 5
SLACK = 1.0  # pixels by which boxes of careful annotators exceed a picture
FAR = 10.0  # polygon points further out than this many picture sides cannot be meant


class CocoError(ValueError):
    """A COCO json, or the files it names, cannot be used as they are."""


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        source: the file, for the reader.
        counts: images, annotations and categories as listed.
        errors: one line for each kind of problem that only its owner can mend.
        repairs: one line for each kind that `repaired` mends.
    """

    source: str
    counts: Mapping[str, int]
    errors: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report for a terminal, one item a line; the first line is the summary."""
        counts = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        verdict = "unusable" if self.errors else "good after repairs" if self.repairs else "good"
        head = f"{self.source}: {verdict}" + (f" ({counts})" if counts else "")
        errors = [f"error: {line}" for line in self.errors]
        return [head, *errors, *(f"repair: {line}" for line in self.repairs)]


@dataclass
class _Findings:
    """Kind of problem -> how often, and the first few places."""

    table: Mapping[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: object) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= EXAMPLES:
            self.places.setdefault(kind, []).append(str(place))

    def lines(self) -> tuple[str, ...]:
        return tuple(self._line(kind) for kind in self.table if kind in self.counts)

    def _line(self, kind: str) -> str:
        count = self.counts[kind]
        more = ", ..." if count > EXAMPLES else ""
        remedy = f": {self.table[kind]}" if self.table[kind] else ""
        return f"{count} {kind}{remedy} ({'; '.join(self.places[kind])}{more})"


def check_coco(
    json: Path | str | Mapping[str, Any], image_root: Path | str | None = None, decode: bool = False
) -> Report:
    """What is wrong with a COCO json of instances, and with its pictures.

    Args:
        json: the file, or what it holds.
        image_root: with it, missing picture files are errors.
        decode: also read every picture: damaged ones and those of another size are errors (slow).
    """
    return _examined(json, image_root, decode)[1]


def repaired(data: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a COCO json after all repairs; what needed none is shared with the input.

    Raises:
        CocoError: it has errors; they are listed.
    """
    return checked(data)[0]


def checked(
    json: Path | str | Mapping[str, Any], *, repair: bool = True
) -> tuple[dict[str, Any], Report]:
    """The repaired contents of a COCO json, and what the check found.

    Args:
        repair: False takes every needed repair for an error.

    Raises:
        CocoError: it has errors; they are listed.
    """
    fixed, report = _examined(json)
    if report.errors or (report.repairs and not repair):
        raise CocoError("\n  ".join(report.lines()))
    return fixed, report


def _examined(
    json: Path | str | Mapping[str, Any],
    image_root: Path | str | None = None,
    decode: bool = False,
) -> tuple[dict[str, Any], Report]:
    """One pass: the repaired contents (meaningful without errors) and the report."""
    source = "annotations" if isinstance(json, Mapping) else str(json)
    try:
        data = dict(json) if isinstance(json, Mapping) else read_json(json)
        _require_lists(data)
    except CocoError as error:
        return {}, Report(source, {}, (str(error),))
    errors, repairs = _Findings(ERRORS), _Findings(REPAIRS)
    sizes = _image_sizes(data["images"], errors)
    categories = _category_ids(data["categories"], errors)
    fixed = _Objects(sizes, categories, errors, repairs).repaired(data["annotations"])
    if image_root is not None:
        _check_files(data["images"], sizes, Path(image_root), decode, errors)
    counts = {name: len(data[name]) for name in LISTS}
    report = Report(source, counts, errors.lines(), repairs.lines())
    return {**data, "annotations": fixed}, report


def read_json(path: Path | str) -> dict[str, Any]:
    """The contents of a COCO json.

    Raises:
        CocoError: no such file, not json, or no json object at its top.
    """
    try:
        data = jsonlib.loads(Path(path).read_bytes())
    except OSError as error:
        raise CocoError(f"{path}: {error.strerror}; check the path of the annotations") from error
    except (ValueError, RecursionError) as error:
        raise CocoError(f"{path}: unreadable json ({error}); copy or download it again") from error
    if not isinstance(data, dict):
        raise CocoError(f"{path}: expected a json object, found a {type(data).__name__}")
    return data


def _require_lists(data: Mapping[str, Any]) -> None:
    lacking = [name for name in LISTS if not isinstance(data.get(name), list)]
    if lacking:
        raise CocoError(
            f"expected the lists {', '.join(LISTS)}, found no {', '.join(lacking)}; "
            "name a json of COCO instances"
        )


def _image_sizes(images: Sequence[Any], errors: _Findings) -> dict[int | str, tuple[int, int]]:
    """Height and width of every image that is described well, by id."""
    sizes: dict[int | str, tuple[int, int]] = {}
    if not images:
        errors.add("no images", "images")
    for position, image in enumerate(images):
        if not _is_image(image):
            errors.add("incomplete images", _place(image, position))
        elif image["id"] in sizes:
            errors.add("duplicate image ids", image["id"])
        else:
            sizes[image["id"]] = (int(image["height"]), int(image["width"]))
    return sizes


def _is_image(image: Any) -> bool:
    if not isinstance(image, Mapping) or not isinstance(image.get("file_name"), str):
        return False
    sides = (image.get("height"), image.get("width"))
    if not isinstance(image.get("id"), int | str) or not _are_finite(sides):
        return False
    whole = all(side == int(side) >= 1 for side in sides)
    return whole and sides[0] * sides[1] <= MAX_PIXELS


def _category_ids(categories: Sequence[Any], errors: _Findings) -> set[int]:
    found: set[int] = set()
    for position, category in enumerate(categories):
        good = isinstance(category, Mapping) and isinstance(category.get("id"), int)
        if not good or not isinstance(category.get("name"), str):
            errors.add("incomplete categories", _place(category, position))
        elif category["id"] in found:
            errors.add("duplicate category ids", category["id"])
        else:
            found.add(category["id"])
    return found


def _place(item: Any, position: int) -> str:
    """How a report names an entry: by its id where it has one."""
    number = item.get("id") if isinstance(item, Mapping) else None
    return f"entry {position}" if number is None else f"id {number}"


def _are_finite(values: Sequence[Any]) -> bool:
    """Whether all are numbers, none of them NaN or infinite."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


@dataclass
class _Objects:
    """The rules for annotations: errors go to `errors`, repairs are carried out and noted."""

    sizes: Mapping[int | str, tuple[int, int]]
    categories: set[int]
    errors: _Findings
    repairs: _Findings

    def repaired(self, annotations: Sequence[Any]) -> list[Mapping[str, Any]]:
        renumber = self._check_ids(annotations)
        fixed = []
        for position, annotation in enumerate(annotations):
            place = _place(annotation, position)
            problem = self._problem(annotation)
            if problem:
                self.errors.add(problem, place)
                continue
            mended = self._mended(annotation, place)
            if mended is not None:
                fixed.append({**mended, "id": len(fixed) + 1} if renumber else mended)
        return fixed

    def _check_ids(self, annotations: Sequence[Any]) -> bool:
        """Whether new ids are needed."""
        seen: set[int] = set()
        for position, annotation in enumerate(annotations):
            number = annotation.get("id") if isinstance(annotation, Mapping) else None
            if not isinstance(number, int) or number < 1:
                self.repairs.add("ids renumbered", _place(annotation, position))
            elif number in seen:
                self.errors.add("duplicate annotation ids", number)
            else:
                seen.add(number)
        return "ids renumbered" in self.repairs.counts

    def _problem(self, annotation: Any) -> str | None:
        """The kind of error of an annotation, or None."""
        if not isinstance(annotation, Mapping) or not annotation.keys() >= NEEDED:
            return "incomplete annotations"
        image_id, category_id = annotation["image_id"], annotation["category_id"]
        if not isinstance(image_id, int | str) or image_id not in self.sizes:
            return "unknown images"
        if not isinstance(category_id, int) or category_id not in self.categories:
            return "unknown categories"
        if not isinstance(annotation["bbox"], Sequence) or len(annotation["bbox"]) != 4:
            return "boxes not of 4 numbers"
        if not _are_finite((*annotation["bbox"], annotation.get("area") or 0)):
            return "not finite numbers"
        if annotation.get("iscrowd", 0) not in (0, 1):
            return "wrong crowd flags"
        return _segmentation_problem(annotation["segmentation"], self.sizes[image_id])

    def _mended(self, annotation: Mapping[str, Any], place: str) -> Mapping[str, Any] | None:
        """The annotation after its repairs (itself where it needs none); None if it is left out."""
        image_hw = self.sizes[annotation["image_id"]]
        box = self._box(annotation["bbox"], image_hw, place)
        if box is None:
            return None
        segmentation = self._segmentation(annotation["segmentation"], image_hw, place)
        if segmentation is None:
            return None
        changes: dict[str, Any] = {}
        if box is not annotation["bbox"]:
            changes["bbox"] = box
        if segmentation is not annotation["segmentation"]:
            changes["segmentation"] = segmentation
        if "iscrowd" not in annotation:
            self.repairs.add("iscrowd added", place)
            changes["iscrowd"] = 0
        if annotation.get("area") is None or annotation["area"] < 0:
            self.repairs.add("area added", place)
            changes["area"] = float(coco_mask.area(run_lengths(segmentation, image_hw)))
        return {**annotation, **changes} if changes else annotation

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
        if isinstance(segmentation, Mapping):
            filled = filled_up(segmentation, image_hw)
            if filled is not segmentation:
                self.repairs.add("run lengths re-encoded", place)
            return filled
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            self.repairs.add("objects dropped", place)
            return None
        if len(polygons) == len(segmentation):
            return segmentation
        self.repairs.add("polygons dropped", place)
        return polygons


def _segmentation_problem(segmentation: Any, image_hw: tuple[int, int]) -> str | None:
    if isinstance(segmentation, Mapping):
        return None if are_run_lengths(segmentation, image_hw) else "wrong run lengths"
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return "wrong polygons"
    limit = FAR * max(image_hw)
    for polygon in segmentation:
        if not isinstance(polygon, Sequence) or isinstance(polygon, str) or len(polygon) % 2:
            return "wrong polygons"
        if not _are_finite(polygon):
            return "not finite numbers"
        if polygon and (max(polygon) > limit or min(polygon) < -limit):
            return "wrong polygons"
    return None


def _check_files(
    images: Sequence[Any],
    sizes: Mapping[int | str, tuple[int, int]],
    image_root: Path,
    decode: bool,
    errors: _Findings,
) -> None:
    for image in images:
        if not _is_image(image):
            continue
        path = image_root / image["file_name"]
        if not path.is_file():
            errors.add("missing files", path)
        elif decode:
            _check_pixels(path, sizes[image["id"]], errors)


def _check_pixels(path: Path, image_hw: tuple[int, int], errors: _Findings) -> None:
    try:
        read_image(path, expected_hw=image_hw)
    except ImageError as error:
        errors.add("wrong files", error)
