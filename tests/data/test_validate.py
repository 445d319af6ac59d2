"""COCO json files: what is good passes untouched, each fault is named, each repair mends what it says."""

from __future__ import annotations

import copy
import json
import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from svit.core.config import DataConfig
from svit.data.coco import CocoDataset, find_coco
from svit.data.findings import CocoError
from svit.data.plausible import READINGS
from svit.data.segments import are_run_lengths, decode_masks, run_counts
from svit.data.validate import (
    ERRORS,
    NOTES,
    OFFERS,
    REPAIRS,
    check_coco,
    checked,
    mended,
    repaired,
)
from svit.system.text import counted

SQUARE = [4.0, 4.0, 12.0, 4.0, 12.0, 10.0, 4.0, 10.0]  # 8 wide, 6 high
STRIPE = {"bbox": [1, 0, 2, 30], "area": 60}  # of the run lengths


def good() -> dict[str, Any]:
    """Two pictures of 40x30, three objects in every form of segmentation, category ids with a gap."""
    runs = {"size": [30, 40], "counts": [30, 60, 1110]}
    text = coco_mask.frPyObjects(copy.deepcopy(runs), 30, 40)["counts"].decode()
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "height": 30, "width": 40},
            {"id": 9, "file_name": "b.png", "height": 30, "width": 40},
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            _object(1, segmentation=[SQUARE]),
            _object(2, image_id=9, category_id=3, segmentation=runs, iscrowd=1, **STRIPE),
            _object(3, image_id=9, segmentation={"size": [30, 40], "counts": text}, **STRIPE),
        ],
    }


def _object(number: int, **fields: Any) -> dict[str, Any]:
    common = {"image_id": 5, "category_id": 7, "bbox": [4, 4, 8, 6], "area": 48, "iscrowd": 0}
    return {"id": number, **common, **fields}


def changed(**fields: Any) -> dict[str, Any]:
    """The good data with fields of the first annotation replaced; None removes a field."""
    data = good()
    first = {**data["annotations"][0], **fields}
    data["annotations"][0] = {name: value for name, value in first.items() if value is not None}
    return data


def with_lists(**lists: Any) -> dict[str, Any]:
    return {**good(), **lists}


def test_good_data_passes_and_stays_as_it_is() -> None:
    data = good()
    assert check_coco(data).lines() == ["annotations: good (2 images, 3 annotations, 2 categories)"]
    assert repaired(data) == data == good()


def test_unchanged_annotations_are_shared_not_copied() -> None:
    data = good()
    assert all(new is old for new, old in zip(repaired(data)["annotations"], data["annotations"]))


IMAGE = {"id": 5, "file_name": "a.png", "height": 30, "width": 40}


def _with_image(**wrong: Any) -> dict[str, Any]:
    return with_lists(images=[*good()["images"], {**IMAGE, "id": 6, **wrong}])


def _with_category(**wrong: Any) -> dict[str, Any]:
    return with_lists(categories=[*good()["categories"], wrong])


# kind -> wrong data, and what the message says was found
FAULTS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "no images": [(with_lists(images=[], annotations=[]), "images")],
    "wrong image ids": [
        (_with_image(id=6.0), "id 6.0: id is number 6.0"),
        (_with_image(id=True), "id is logical value true"),
        (_with_image(id=2**63), f"id is whole number {2**63}"),
        (_with_image(id=[6]), "id is list [6]"),
    ],
    "image ids of two types": [
        (_with_image(id="6"), '1 are as text "6", 2 as whole number 5'),
    ],
    "incomplete images": [
        (_with_image(width=-1), "id 6: width is whole number -1"),
        (_with_image(width=40.5), "width is number 40.5"),
        (_with_image(height=math.nan), "height is number NaN"),
        (_with_image(height="30"), 'height is text "30"'),
        (_with_image(width=10**9, height=10**9), "height is whole number 1000000000"),
        (_with_image(width=10**5, height=10**5), "100000 x 100000 pixels"),
        (_with_image(file_name=None), "file_name is nothing"),
        (_with_image(id=None), "entry 2: has no id"),
    ],
    "incomplete categories": [
        (_with_category(id=8), "name is nothing"),
        (_with_category(id=8.0, name="x"), "id is number 8.0"),
        (_with_category(id=True, name="x"), "id is logical value true"),
        (_with_category(id="8", name="x"), 'id is text "8"'),
        (_with_category(id=2**64, name="x"), "id is whole number 18446744073709551616"),
    ],
    "duplicate image ids": [(with_lists(images=[*good()["images"], IMAGE]), "(5)")],
    "duplicate category ids": [(_with_category(id=7, name="x"), "(7)")],
    "duplicate annotation ids": [(changed(id=2), "(2)")],
    "incomplete annotations": [
        (changed(bbox=None), "id 1 in a.png: has no bbox"),
        (changed(image_id=None), "id 1: has no image_id"),
        (with_lists(annotations=["x"]), 'entry 0: is text "x"'),
    ],
    "ids of another type": [
        (changed(image_id="5"), 'id 1: image_id is text "5", ids of images are as whole number 5'),
        (changed(image_id=5.0), "image_id is number 5.0"),
        (changed(category_id=True), "category_id is logical value true"),
        (changed(image_id=[5]), "image_id is list [5]"),
    ],
    "unknown images": [(changed(image_id=6), "id 1: image_id is whole number 6")],
    "unknown categories": [(changed(category_id=4), "in a.png: category_id is whole number 4")],
    "not finite numbers": [
        (changed(bbox=[4, 4, math.inf, 6]), "id 1 in a.png: bbox holds number Infinity"),
        (changed(bbox=["4", 4, 8, 6]), 'bbox holds text "4"'),
        (changed(area=math.nan), "area is number NaN"),
        (changed(area="48"), 'area is text "48"'),
        (changed(segmentation=[[*SQUARE[:-1], math.nan]]), "segmentation holds number NaN"),
        (changed(segmentation=[[*SQUARE[:-1], "10"]]), 'segmentation holds text "10"'),
    ],
    "boxes not of 4 numbers": [
        (changed(bbox=[4, 4, 8]), "bbox is list [4, 4, 8]"),
        (changed(bbox=8), "bbox is whole number 8"),
    ],
    "wrong crowd flags": [
        (changed(iscrowd=2), "iscrowd is whole number 2"),
        (changed(iscrowd="no"), 'iscrowd is text "no"'),
    ],
    "wrong polygons": [
        (changed(segmentation=SQUARE), "segmentation holds number 4.0"),
        (changed(segmentation=[SQUARE[:-1]]), "a polygon has 7 numbers"),
        (changed(segmentation=[[0, 0, 1e9, 0, 0, 5]]), "a polygon spans 0 to 1e+09"),
        (changed(segmentation=[[[4, 4], [12, 4], [12, 10]]]), "holds pairs, list [4, 4]"),
        (changed(segmentation="polygon"), 'segmentation is text "polygon"'),
    ],
    "wrong run lengths": [
        (changed(segmentation={"size": [30, 40], "counts": counts}), "counts are ")
        for counts in ([30, 1200], [-1, 10], [1.5, 8], "zzzz", "\x7f", "0" + "o" * 99, None, 3)
    ]
    + [
        (changed(segmentation={"size": [40, 30], "counts": [1200]}), "of size [40, 30]"),
        (changed(segmentation={}), "of size None"),
    ],
    "boxes beside their masks": [
        (changed(bbox=[20, 4, 8, 6]), "bbox [20, 4, 8, 6], the mask spans [4, 4, 12, 10]"),
        (changed(segmentation=[[value / 3 for value in SQUARE]]), "the mask spans [1.333, 1.333"),
    ],
    "wrong areas": [
        (
            with_lists(annotations=[{**one, "area": share} for one in good()["annotations"]]),
            f"id 1 in a.png: area is {found}, the object has 48 pixels",
        )
        for share, found in ((0, "whole number 0"), (0.04, "number 0.04"))
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_an_error_is_named_once_and_stops_the_use(kind: str) -> None:
    for data, found in FAULTS[kind]:
        report = check_coco(data)
        assert len(report.errors) == 1, report.lines()
        head, remedy, places = report.errors[0].partition(f": {ERRORS[kind]} (")
        assert remedy and found in head + remedy + places
        assert head in (kind, counted(1, kind)) or head.endswith(f" {kind}"), head
        with pytest.raises(CocoError, match=re.escape(report.errors[0])):
            repaired(data)


def test_every_kind_of_error_is_tested() -> None:
    of_pictures = {"missing files", "wrong files", "names outside the image root"}
    of_pictures |= {"pictures of another size", "undecided orientations"}
    of_all_boxes = {f"boxes as {reading}" for reading in READINGS}
    of_all_boxes |= {"coordinates from 0 to 1", "coordinates in percent"}
    assert {*FAULTS, *of_pictures, *of_all_boxes} == set(ERRORS)


def test_what_follows_from_a_wrong_image_is_not_told() -> None:
    """Its annotations would all be of unknown images."""
    wrong_id, wrong_width = good(), good()
    wrong_id["images"][0]["id"] = 5.0
    wrong_width["images"][0]["width"] = None
    for data in (wrong_id, wrong_width):
        assert len(check_coco(data).errors) == 1, check_coco(data).lines()


# ------------------------------------------------------- what all objects tell that none tells alone

SIDE = 256


def scattered(count: int = 12, masks: bool = True) -> dict[str, Any]:
    """Oblong objects all over pictures of 256 pixels."""
    rng = np.random.default_rng(1)
    images = [
        {"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(count)
    ]
    annotations = []
    for n in range(count):
        left, top = rng.integers(16, 165, 2).tolist()
        width, height = int(rng.integers(60, 90)), int(rng.integers(20, 40))
        right, bottom = left + width, top + height
        outline = [float(v) for v in (left, top, right, top, right, bottom, left, bottom)]
        fields = {"bbox": [left, top, width, height], "area": width * height, "image_id": n}
        annotations.append(_object(n + 1, **fields, segmentation=[outline] if masks else []))
    return {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "x"}]}


def rewritten(data: dict[str, Any], box: Any, factor: float = 1.0) -> dict[str, Any]:
    """With every box as `box(x, y, w, h)` has it, polygons and boxes times a factor."""
    for one in data["annotations"]:
        one["bbox"] = [value * factor for value in box(*one["bbox"])]
        one["segmentation"] = [[v * factor for v in ring] for ring in one["segmentation"]]
    return data


def plain(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, w, h]


WRITERS = {
    "x1, y1, x2, y2": lambda x, y, w, h: [x, y, x + w, y + h],
    "the middle's x and y, width, height": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    "y1, x1, y2, x2": lambda x, y, w, h: [y, x, y + h, x + w],
    "y, x, height, width": lambda x, y, w, h: [y, x, h, w],
    "x, y, height, width": lambda x, y, w, h: [x, y, h, w],
}


@pytest.mark.parametrize("reading", READINGS)
def test_boxes_in_another_order_are_told_by_their_masks(reading: str) -> None:
    report = check_coco(rewritten(scattered(), WRITERS[reading]))
    assert len(report.errors) == 1 and report.repairs == (), report.lines()
    assert f"12 boxes as {reading}: " in report.errors[0]
    assert "id 1 in 0.png: bbox [" in report.errors[0] and "the mask spans [" in report.errors[0]


def test_a_single_box_in_another_order_is_told_by_its_mask() -> None:
    data = scattered()
    one = data["annotations"][3]
    one["bbox"] = WRITERS["x1, y1, x2, y2"](*one["bbox"])
    report = check_coco(data)
    assert len(report.errors) == 1 and report.repairs == (), report.lines()
    assert report.errors[0].startswith("1 box as x1, y1, x2, y2") and "id 4 in" in report.errors[0]


def test_corners_as_width_and_height_are_told_without_masks_too() -> None:
    report = check_coco(rewritten(scattered(40, masks=False), WRITERS["x1, y1, x2, y2"]))
    assert len(report.errors) == 1 and "boxes as x1, y1, x2, y2" in report.errors[0]
    assert report.repairs == ()


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("writer", [plain, WRITERS["x1, y1, x2, y2"]])
@pytest.mark.parametrize(
    ("factor", "kind"), [(1 / SIDE, "coordinates from 0 to 1"), (100 / SIDE, "coordinates in percent")]
)  # fmt: skip
def test_shares_and_percent_of_a_picture_are_not_pixels(
    masks: bool, writer: Any, factor: float, kind: str
) -> None:
    data = rewritten(scattered(40, masks), writer, factor)
    for one in data["annotations"]:
        del one["area"]
    report = check_coco(data)
    assert len(report.errors) == 1 and report.repairs == (), report.lines()
    assert kind in report.errors[0]


def test_a_mask_beside_its_box_in_shares_of_the_picture_is_an_error() -> None:
    data = scattered()
    for one in data["annotations"]:
        one["segmentation"] = [[value / SIDE for value in one["segmentation"][0]]]
    assert "12 coordinates from 0 to 1" in check_coco(data).errors[0]


def test_loose_boxes_and_small_pictures_are_good() -> None:
    loose = rewritten(scattered(), lambda x, y, w, h: [x - 15, y - 15, w + 30, h + 30])
    small = rewritten(scattered(40, masks=False), plain, 0.3)
    for image in small["images"]:
        image["height"] = image["width"] = 90
    for one in small["annotations"]:
        one["area"] *= 0.09
    for data in (scattered(), loose, small):
        assert check_coco(data).errors == (), check_coco(data).lines()


# kind -> (what needs it, field of the first annotation that is left -> its value)
MENDED: dict[str, list[tuple[dict[str, Any], dict[str, Any] | None]]] = {
    "iscrowd added": [(changed(iscrowd=None), {"iscrowd": 0})],
    "area added": [(changed(area=None), {"area": 48.0}), (changed(area=-3), {"area": 48.0})],
    "ids renumbered": [(changed(id=0), {"id": 1}), (changed(id=None), {"id": 1}), (changed(id="7"), {})],
    "boxes dropped": [
        (changed(bbox=[4, 4, 0, 6]), None),
        (changed(bbox=[4, 4, 8, -6]), None),
        (changed(bbox=[50, 4, 8, 6], segmentation=[]), None),
    ],
    "boxes clipped": [
        (changed(bbox=[-4, 4, 12, 40]), {"bbox": [0, 4, 8, 26]}),
        (changed(bbox=[36, 24, 8, 6], segmentation=[]), {"bbox": [36, 24, 4, 6]}),
    ],
    "polygons dropped": [(changed(segmentation=[SQUARE, [1, 1, 2, 2], []]), {"segmentation": [SQUARE]})],
    "run lengths re-encoded": [
        (changed(segmentation={"size": [30, 40], "counts": counts}, **STRIPE), STRIPE)
        for counts in ([30, 60], [30, 60, 5], "n0l1", "")
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", MENDED)
def test_a_repair_is_reported_and_mends(kind: str) -> None:
    for data, expected in MENDED[kind]:
        before = copy.deepcopy(data)
        report = check_coco(data)
        assert report.errors == () and len(report.repairs) == 1, report.lines()
        assert report.repairs[0].startswith(f"{counted(1, kind)}: {REPAIRS[kind]}")
        fixed = repaired(data)
        assert data == before
        assert check_coco(fixed).repairs == check_coco(fixed).errors == ()
        if expected is None:
            assert [item["id"] for item in fixed["annotations"]] == [2, 3]
        else:
            assert expected.items() <= fixed["annotations"][0].items()
        with pytest.raises(CocoError, match=re.escape(counted(1, kind))):
            checked(data, repair=False)


def test_every_kind_of_repair_is_tested() -> None:
    assert set(MENDED) == set(REPAIRS)


@pytest.mark.parametrize("segmentation", [None, [], [[1, 1, 2, 2]]])
def test_an_object_without_a_mask_keeps_its_box_and_is_told(segmentation: Any) -> None:
    data = changed(segmentation=segmentation, area=None)
    report = check_coco(data)
    assert (
        report.errors == ()
        and f"1 object without a mask: {NOTES['objects without a mask']}" in report.notes[0]
    )
    first = repaired(data)["annotations"][0]
    assert first["bbox"] == [4, 4, 8, 6] and first["area"] == 48 and not first["segmentation"]


def test_boxes_a_pixel_beyond_the_picture_are_not_touched() -> None:
    assert check_coco(changed(bbox=[-0.5, 4, 41.4, 6])).repairs == ()


def test_triangles_are_polygons() -> None:
    assert check_coco(changed(segmentation=[[1, 1, 5, 1, 5, 5]])).repairs == ()


def test_short_run_lengths_become_background() -> None:
    short = changed(segmentation={"size": [30, 40], "counts": [30, 60, 5]}, **STRIPE)
    mask = decode_masks([repaired(short)["annotations"][0]["segmentation"]], (30, 40))[0]
    assert mask[:, 1:3].all() and mask.sum() == 60


def test_new_ids_are_counted_from_one_over_what_is_left() -> None:
    data = changed(bbox=[4, 4, 0, 6])
    data["annotations"][1]["id"] = 0
    assert [item["id"] for item in repaired(data)["annotations"]] == [1, 2]


def test_many_faults_of_a_kind_make_one_line_with_a_few_places() -> None:
    data = with_lists(
        annotations=[_object(n, image_id=1000, segmentation=[SQUARE]) for n in range(1, 9)]
    )
    (line,) = check_coco(data).errors
    assert line.startswith("8 unknown images") and line.endswith(", ...)")
    assert "id 5: image_id is whole number 1000" in line and "id 6" not in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "check the path"),
        ("", "unreadable json"),
        ('{"images": "\udcff"}', "save it as UTF-8"),
        ('{"images": [', "unreadable json"),
        ("[" * 100_000, "unreadable json"),
        ("[]", "found a list"),
        ("{}", "found no images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "found no annotations"),
    ],
)
def test_an_unreadable_json_is_an_error_that_names_the_file(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "instances.json"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    report = check_coco(path)
    assert words in report.errors[0]
    assert str(path) in report.lines()[0]
    with pytest.raises(CocoError, match="instances.json"):
        checked(path)


# ----------------------------------------------------------------------------------------- pictures


def pictures(folder: Path, **names: str) -> Path:
    """The two pictures of the good data below a folder, or files of other names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names.values() or ("a.png", "b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / name, "PNG")
    return folder


def named(*names: str) -> dict[str, Any]:
    images = [{**image, "file_name": n} for image, n in zip(good()["images"], names, strict=True)]
    return with_lists(images=images)


def test_good_pictures_pass(tmp_path: Path) -> None:
    report = check_coco(good(), pictures(tmp_path), decode=True)
    assert not report.refused and not report.says


def test_missing_pictures_are_counted_and_all_named_in_a_file(tmp_path: Path) -> None:
    pictures(tmp_path, first="a.png")
    (line,) = check_coco(good(), tmp_path).errors
    assert line.startswith("1 missing file") and "of 2: b.png; all in " in line
    assert "a.png" not in line
    listing = Path(line.split("all in ")[1].rstrip(")"))
    assert listing.read_text() == "b.png\n"
    listing.unlink()


@pytest.mark.parametrize(
    "name",
    [
        *("A.PNG", "a.PNG", "Sub/c.png", "..\\images\\a.png", "sub\\c.png", "C:\\data\\a.png"),
        *(
            "C:/data/sub/c.png",
            "/data/images/a.png",
            "../a.png",
            "images/sub/c.png",
            "\\\\host\\a.png",
        ),
    ],
)
def test_a_name_of_another_system_is_offered_below_the_root_and_never_followed(
    tmp_path: Path, name: str
) -> None:
    root = pictures(tmp_path / "images", a="a.png", b="b.png", c="sub/c.png")
    pictures(tmp_path, outside="a.png")
    meant = "sub/c.png" if "c." in name else "a.png"
    data = named(name, "b.png")
    report = check_coco(data, root)
    assert report.errors == () and report.refused
    assert f"1 foreign file name: {OFFERS['foreign file names']}" in report.offers[0]
    assert f"{name!r} may be {meant!r}" in report.offers[0]
    with pytest.raises(CocoError, match="foreign file name"):
        checked(data, image_root=root)
    assert [one["file_name"] for one in mended(data, root)["images"]] == [meant, "b.png"]


def test_accents_written_in_another_way_are_offered(tmp_path: Path) -> None:
    root = pictures(tmp_path, a=unicodedata.normalize("NFD", "é.png"), b="b.png")
    data = named(unicodedata.normalize("NFC", "é.png"), "b.png")
    if check_coco(data, root).refused:  # some file systems write all names alike
        assert not check_coco(mended(data, root), root).refused


def test_a_name_that_may_mean_two_files_is_missing(tmp_path: Path) -> None:
    root = pictures(tmp_path, a="x.png", b="X.png", c="b.png")
    if len(list(root.iterdir())) < 3:
        return  # a file system without upper and lower case has no two such files
    assert "1 missing file" in check_coco(named("x.PNG", "b.png"), root).errors[0]


def test_names_that_leave_the_root_are_refused(tmp_path: Path) -> None:
    root, other = pictures(tmp_path / "images"), pictures(tmp_path / "other", c="c.png", d="d.png")
    (root / "link.png").symlink_to(other / "c.png")
    (root / "folder").symlink_to(other)
    (root / "inside.png").symlink_to(root / "a.png")
    for name in ("../other/c.png", str(other / "c.png"), "link.png", "folder/c.png"):
        (line,) = check_coco(named(name, "b.png"), root).errors
        assert line.startswith("1 name outside the image root") and repr(name) in line
    assert not check_coco(named("inside.png", "b.png"), root).refused
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    assert not check_coco(good(), alias).refused  # the root itself may be a link


def test_headers_of_another_size_are_refused_without_decoding(tmp_path: Path) -> None:
    Image.new("RGB", (30, 40)).save(pictures(tmp_path) / "b.png")
    (line,) = check_coco(good(), tmp_path).errors
    assert line.startswith("1 picture of another size")
    assert "b.png: annotated as 30 x 40 (height x width), the file has 40 x 30" in line


def test_decoding_finds_damaged_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures(tmp_path) / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    assert check_coco(good(), tmp_path).errors == ()
    (line,) = check_coco(good(), tmp_path, decode=True).errors
    assert line.startswith("1 wrong file") and "a.png: damaged or truncated" in line


def test_a_header_that_cannot_be_read_is_told_or_refused_where_asked(tmp_path: Path) -> None:
    (pictures(tmp_path) / "a.png").write_text("no picture")
    report = check_coco(good(), tmp_path)
    assert not report.refused and "a.png: text, not a picture" in report.notes[0]
    with pytest.raises(CocoError, match=r"1 wrong file.*a.png: text, not a picture"):
        checked(good(), image_root=tmp_path, strict=True)


@pytest.mark.parametrize("area", [48, None])
@pytest.mark.parametrize(
    "segmentation",
    [
        [[4, 4, 8, 7, 12, 10]],
        [[4.2, 4.2, 4.4, 4.2, 4.3, 4.4], [12, 10, 12, 10, 12, 10]],
        {"size": [30, 40], "counts": [1200]},
    ],
    ids=["line", "dots", "run lengths"],
)
def test_a_mask_without_a_pixel_is_told(segmentation: Any, area: float | None) -> None:
    data = changed(segmentation=segmentation, area=area)
    (note,) = check_coco(data).notes
    assert note.startswith("1 object with an empty mask: not a pixel") and "id 1" in note
    assert not any("empty mask" in note for note in check_coco(good()).notes)


def test_an_area_of_0_beside_a_mask_with_pixels_is_told() -> None:
    annotations = good()["annotations"]
    data = with_lists(annotations=[{**annotations[0], "area": 0}, *annotations[1:]])
    report = check_coco(data)
    assert not report.refused
    (note,) = report.notes
    assert note.startswith("1 object of area 0: training leaves them out") and "id 1" in note


def test_a_polygon_that_leaves_the_picture_is_judged_by_what_the_picture_shows() -> None:
    """Boxes end at the border, polygons of some programs do not: two thirds of this one lie outside."""
    beyond = [[-16, 4, 8, 4, 8, 10, -16, 10]]
    annotations = [_object(n, bbox=[0, 4, 8, 6], segmentation=beyond) for n in range(1, 4)]
    report = check_coco(with_lists(annotations=annotations))
    assert not report.says, report.lines()
    (beside,) = check_coco(changed(bbox=[20, 4, 8, 6], segmentation=beyond)).errors
    assert beside.startswith("1 box beside their masks")


def test_what_only_a_dropped_box_lacks_is_not_told() -> None:
    report = check_coco(changed(bbox=[4, 4, 0, 6], segmentation=[]))
    assert report.repairs and not report.notes


def test_two_entries_of_one_picture_are_told() -> None:
    data = good()
    for image in data["images"]:
        image["file_name"] = "a.png"
    (note,) = check_coco(data).notes
    assert note.startswith("1 picture listed twice") and "a.png in 2 entries" in note


def tagged(path: Path, hw: tuple[int, int], orientation: int, kind: str = "PNG") -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", hw[::-1]).save(path, kind, exif=exif)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_turned_picture_whose_size_does_not_decide_is_refused_until_told(
    tmp_path: Path, orientation: int, kind: str
) -> None:
    tagged(pictures(tmp_path) / "a.png", (30, 40), orientation, kind)
    (line,) = check_coco(good(), tmp_path).errors
    assert line.startswith("1 undecided orientation") and "--exif on" in line
    assert f"a.png: orientation {orientation}" in line
    for policy in ("on", "off"):
        report = check_coco(good(), tmp_path, exif=policy)
        assert not report.refused and f"1 with orientation {orientation}" in report.notes[0]


def test_a_tag_behind_the_pixels_of_a_png_turns_nothing_unseen(tmp_path: Path) -> None:
    """Where ExifTool writes XMP: pictures were read upside down that the check had passed."""
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png", exif=exif)
    early = (tmp_path / "a.png").read_bytes()
    start = early.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(early[start : start + 4], "big")
    last = early.index(b"IEND") - 4
    late = early[:start] + early[end:last] + early[start:end] + early[last:]
    (tmp_path / "a.png").write_bytes(late)
    (error,) = check_coco(good(), tmp_path).errors
    assert error.startswith("1 undecided orientation") and "a.png: orientation 3" in error
    assert not check_coco(good(), tmp_path, exif="off").refused


def test_a_size_that_decides_is_counted_only(tmp_path: Path) -> None:
    tagged(pictures(tmp_path) / "a.png", (30, 40), 6)
    assert not check_coco(good(), tmp_path).refused  # annotated as stored
    tagged(tmp_path / "a.png", (40, 30), 6)
    assert not check_coco(good(), tmp_path).refused  # annotated as shown
    assert "1 with orientation 6" in check_coco(good(), tmp_path).notes[0]
    (line,) = check_coco(good(), tmp_path, exif="off").errors
    assert line.startswith("1 picture of another size")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_run_lengths_as_text_are_read_as_pycocotools_writes_them(counts: list[int]) -> None:
    width = max(1, sum(counts))
    full = [*counts, width - sum(counts)]
    text = coco_mask.frPyObjects({"size": [1, width], "counts": full}, 1, width)["counts"]
    assert run_counts(text) == run_counts(text.decode()) == full
    assert are_run_lengths({"size": [1, width], "counts": text}, (1, width))


@given(st.binary(max_size=12) | st.text(max_size=12) | st.lists(st.floats() | st.integers()))
def test_run_lengths_that_pass_decode_to_the_whole_picture(counts: Any) -> None:
    data = changed(segmentation={"size": [30, 40], "counts": counts})
    if not check_coco(data).errors:
        segmentation = repaired(data)["annotations"][0]["segmentation"]
        assert sum(run_counts(segmentation["counts"])) == 1200
        assert decode_masks([segmentation], (30, 40)).shape == (1, 30, 40)


def test_coco_itself_is_good(coco_tiny: Path) -> None:
    files = find_coco("val2017", coco_tiny)
    report = check_coco(files.json, files.image_root, decode=True)
    assert report.errors == () and report.repairs == ()
    data = json.loads(files.json.read_text())
    assert repaired(data) == data
    assert len(CocoDataset(data, files.image_root, DataConfig())) == len(data["images"])
