"""Checks and repairs a COCO json before anything is trained, measured or recorded with it; no torch.

Wrong annotation files rarely crash: duplicate ids or an annotation id 0 quietly halve AP in
pycocotools, corners written as width and height train a model on other boxes, run lengths that stop short
show uninitialised memory as objects. Each kind of problem is one line of a report: an error, a mend that
is offered and done only when asked for, or a repair that `repaired` carries out. One pass finds them all.
"""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svit.data.annotations import LARGEST_ID, Listed, Objects
from svit.data.findings import CocoError, Findings, Report, place_of, shown
from svit.data.picture_files import PictureFiles
from svit.data.plausible import judge
from svit.data.reading import MAX_PIXELS

LISTS = ("images", "annotations", "categories")
CORNERS = "bbox needs x, y, width and height: width is x2 - x1, height is y2 - y1"
ORDER = "bbox needs x, y, width and height, as the masks show they are not"
ERRORS: dict[str, str] = {
    "no images": "the list of images is empty; was the right json written?",
    "wrong image ids": "ids need to be whole numbers of at most 64 bits, or texts",
    "image ids of two types": "ids need to be all whole numbers or all texts",
    "incomplete images": "images need an id, a file_name, and width and height in whole pixels",
    "incomplete categories": "categories need a whole number of at most 64 bits as id and a name",
    "duplicate image ids": "give every image its own id",
    "duplicate category ids": "give every category its own id",
    "duplicate annotation ids": "remove the copies, or give every annotation its own id",
    "incomplete annotations": "annotations need image_id, category_id and bbox",
    "ids of another type": "write the same id in both lists, of the same type",
    "unknown images": "annotations of images that are not listed; add those images or remove them",
    "unknown categories": "annotations of categories that are not listed; add them to categories",
    "not finite numbers": "bbox, area and segmentation need finite numbers",
    "boxes not of 4 numbers": "bbox needs x, y, width and height in pixels",
    "wrong crowd flags": "iscrowd needs 0 or 1",
    "wrong polygons": "polygons need x, y pairs near the picture, in pixels, in one flat list",
    "wrong run lengths": "run lengths need the picture's size and may not exceed its pixels",
    "coordinates from 0 to 1": "bbox and segmentation need pixels; multiply by width and height",
    "coordinates in percent": "bbox and segmentation need pixels; multiply by width and height / 100",
    "boxes as x1, y1, x2, y2": CORNERS,
    "boxes as y1, x1, y2, x2": CORNERS,
    "boxes as the middle's x and y, width, height": ORDER,
    "boxes as y, x, height, width": ORDER,
    "boxes as x, y, height, width": ORDER,
    "boxes beside their masks": "a box needs to enclose the mask of its object; correct one of them",
    "wrong areas": "area needs the pixels of the mask; where you leave it out it is computed",
    "missing files": "not below the image root; check --image-root or complete the download",
    "names outside the image root": "file names need to lead to files below it, not by links either",
    "pictures of another size": "use the pictures the annotations were made for, or correct the json",
    "undecided orientations": "a tag says how to turn the picture, and its size does not tell whether the "
    "annotations mean the turned one: say --exif on (as viewers show it) or --exif off (as stored)",
    "wrong files": "",
}
OFFERS: dict[str, str] = {
    "foreign file names": "no such file below the image root, but one that may be meant; `svit dataset "
    "check JSON --image-root DIR --repair FILE` writes these names",
}
REPAIRS: dict[str, str] = {
    "iscrowd added": "iscrowd was missing and is 0",
    "area added": "area was missing or negative and is that of the mask, in pixels",
    "ids renumbered": "annotation ids were missing or not positive; all are renumbered from 1",
    "boxes dropped": "boxes without width or height are left out with their annotation",
    "boxes clipped": "boxes reached beyond the picture and are cut at its border",
    "polygons dropped": "polygons of fewer than 3 points are left out",
    "run lengths re-encoded": "run lengths that stop short of the picture are filled with background",
}
NOTES: dict[str, str] = {
    "objects without a mask": "box AP counts them, mask AP and the mask loss leave them out; where a "
    "region is asked for, theirs is the box",
    "objects with an empty mask": "not a pixel is in it (a line, a dot, points outside): no detection can "
    "have it, so mask AP is below 100 whatever is found, and training learns it as empty; draw it anew, or "
    "leave segmentation out where the box is all that is known",
    "objects to ignore": "their annotations say ignore: training leaves them out, and AP counts them as "
    "objects, both as mmdet does; with iscrowd 1 finding them counts neither way",
    "objects of area 0": "training leaves them out, and COCO counts them as small; leave area out to have it "
    "computed",
    "pictures listed twice": "each entry is evaluated against its own objects alone: where they are one "
    "picture's, put them under one id",
    "turned pictures": "pictures with an EXIF orientation",
    "unreadable pictures": "",
}


@dataclass
class _Found:
    """The findings of one pass, and the repaired contents, meaningful without errors."""

    errors: Findings = field(default_factory=lambda: Findings(ERRORS))
    offers: Findings = field(default_factory=lambda: Findings(OFFERS))
    repairs: Findings = field(default_factory=lambda: Findings(REPAIRS))
    notes: Findings = field(default_factory=lambda: Findings(NOTES))
    renames: Mapping[str, str] = field(default_factory=dict)

    def report(self, source: str, counts: Mapping[str, int]) -> Report:
        parts = (self.errors, self.offers, self.repairs, self.notes)
        return Report(source, counts, *(part.lines() for part in parts))


def check_coco(
    json: Path | str | Mapping[str, Any],
    image_root: Path | str | None = None,
    decode: bool = False,
    exif: str = "auto",
) -> Report:
    """What is wrong with a COCO json of instances, and with its pictures.

    Args:
        json: the file, or what it holds.
        image_root: with it the pictures are looked for, and the sizes in their headers compared.
        decode: also read every picture: damaged ones are errors (slow).
        exif: how pictures are meant to be read, as in `svit.data.reading.read_image`.
    """
    return _examined(json, image_root, decode=decode, exif=exif)[1]


def repaired(data: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a COCO json after all repairs; what needed none is shared with the input.

    Raises:
        CocoError: it has errors; they are listed.
    """
    return checked(data)[0]


def mended(
    data: Mapping[str, Any], image_root: Path | str | None = None, exif: str = "auto"
) -> dict[str, Any]:
    """The contents after all repairs, and after the mends that are offered: file names as on disk.

    Raises:
        CocoError: it has errors, or what is mended has.
    """
    fixed, report, found = _examined(data, image_root, exif=exif)
    if report.errors or not report.offers:
        _require_good(report)
        return fixed
    images = [_renamed(image, found.renames) for image in fixed["images"]]
    return checked({**fixed, "images": images}, image_root=image_root, exif=exif)[0]


def _renamed(image: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    name = image["file_name"]
    return {**image, "file_name": names[name]} if name in names else image


def checked(
    json: Path | str | Mapping[str, Any],
    *,
    repair: bool = True,
    image_root: Path | str | None = None,
    exif: str = "auto",
    strict: bool = False,
) -> tuple[dict[str, Any], Report]:
    """The repaired contents of a COCO json, and what the check found.

    Args:
        repair: False takes every needed repair for an error.
        image_root, exif: as in `check_coco`.
        strict: pictures whose header cannot be read are errors, not notes.

    Raises:
        CocoError: it has errors; they are listed.
    """
    fixed, report, _ = _examined(json, image_root, exif=exif, strict=strict)
    _require_good(report)
    if report.repairs and not repair:
        raise CocoError("\n  ".join(report.lines()))
    return fixed, report


def _require_good(report: Report) -> None:
    if report.refused:
        raise CocoError("\n  ".join(report.lines()))


def _examined(
    json: Path | str | Mapping[str, Any],
    image_root: Path | str | None = None,
    *,
    decode: bool = False,
    exif: str = "auto",
    strict: bool = False,
) -> tuple[dict[str, Any], Report, _Found]:
    """One pass: the repaired contents (meaningful without errors), the report, and what it is made of."""
    source, found = "annotations" if isinstance(json, Mapping) else str(json), _Found()
    try:
        data = dict(json) if isinstance(json, Mapping) else read_json(json)
        _require_lists(data)
    except CocoError as error:
        return {}, Report(source, {}, (str(error),)), found
    listed = _listed(data, found.errors)
    objects = Objects(listed, found.errors, found.repairs, found.notes)
    fixed = objects.repaired(data["annotations"])
    names = Counter(listed.names.values())
    for name in (name for name, times in names.items() if times > 1):
        found.notes.add("pictures listed twice", f"{name} in {names[name]} entries")
    judge(objects.geometry, fixed, listed, found.errors, found.repairs)
    if image_root is not None:
        parts = (found.errors, found.offers, found.notes)
        files = PictureFiles(Path(image_root), exif, *parts)
        good = [image for image in data["images"] if _image_problem(image) is None]
        files.check(good, decode=decode, strict=strict)
        found.renames = files.renames
    report = found.report(source, {name: len(data[name]) for name in LISTS})
    return {**data, "annotations": fixed}, report, found


class _Floats(dict):
    """Text of a number -> the number, one object for equal ones: coordinates repeat, and a list of them
    takes 8 bytes each instead of 32."""

    MOST = 2**18

    def __missing__(self, text: str) -> float:
        value = float(text)
        if len(self) < self.MOST:
            self[text] = value
        return value


def read_json(path: Path | str) -> dict[str, Any]:
    """The contents of a COCO json.

    Raises:
        CocoError: no such file, not json, or no json object at its top.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        data = jsonlib.loads(text, parse_float=_Floats().__getitem__)
    except OSError as error:
        raise CocoError(f"{path}: {error.strerror}; check the path of the annotations") from error
    except UnicodeDecodeError as error:
        raise CocoError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
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


def _listed(data: Mapping[str, Any], errors: Findings) -> Listed:
    images = _by_id(data["images"], _image_problem, "duplicate image ids", errors)
    categories = _by_id(data["categories"], _category_problem, "duplicate category ids", errors)
    if not data["images"]:
        errors.add("no images", "images")
    _check_types(list(images), errors)
    sizes = {key: (int(one["height"]), int(one["width"])) for key, one in images.items()}
    names = {key: one["file_name"] for key, one in images.items()}
    return Listed(sizes, names, frozenset(categories), not errors.counts)


def _by_id(
    entries: Sequence[Any],
    problem_of: Callable[[Any], tuple[str, str] | None],
    duplicate: str,
    errors: Findings,
) -> dict[Any, Any]:
    """The good entries by their ids."""
    found: dict[Any, Any] = {}
    for position, entry in enumerate(entries):
        problem = problem_of(entry)
        if problem:
            errors.add(problem[0], f"{place_of(entry, position)}: {problem[1]}")
        elif entry["id"] in found:
            errors.add(duplicate, entry["id"])
        else:
            found[entry["id"]] = entry
    return found


def _check_types(ids: Sequence[int | str], errors: Findings) -> None:
    texts = [one for one in ids if isinstance(one, str)]
    numbers = [one for one in ids if not isinstance(one, str)]
    if texts and numbers:
        found = f"{len(texts)} are as {shown(texts[0])}, {len(numbers)} as {shown(numbers[0])}"
        errors.add("image ids of two types", found)


def _image_problem(image: Any) -> tuple[str, str] | None:
    """The kind of error of a list entry and what was found, or None."""
    if not isinstance(image, Mapping) or image.get("id") is None:
        return "incomplete images", "has no id" if isinstance(image, Mapping) else shown(image)
    number = image["id"]
    if type(number) not in (int, str) or (type(number) is int and abs(number) > LARGEST_ID):
        return "wrong image ids", f"id is {shown(number)}"
    if not isinstance(image.get("file_name"), str):
        return "incomplete images", f"file_name is {shown(image.get('file_name'))}"
    for name in ("height", "width"):
        side = image.get(name)
        if type(side) not in (int, float) or not 1 <= side <= MAX_PIXELS or side != int(side):
            return "incomplete images", f"{name} is {shown(side)}"
    if image["height"] * image["width"] > MAX_PIXELS:
        found = f"{image['width']} x {image['height']} pixels, at most {MAX_PIXELS} can be read"
        return "incomplete images", found
    return None


def _category_problem(category: Any) -> tuple[str, str] | None:
    kind = "incomplete categories"
    if not isinstance(category, Mapping):
        return kind, f"is {shown(category)}"
    number, name = category.get("id"), category.get("name")
    if type(number) is not int or abs(number) > LARGEST_ID:
        return kind, f"id is {shown(number)}"
    return None if isinstance(name, str) else (kind, f"name is {shown(name)}")
