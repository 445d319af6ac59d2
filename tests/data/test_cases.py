"""Inputs that were silently wrong, as people have them: each is good, refused with its remedy, or mended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svit.core.config import DataConfig
from svit.data.coco import CocoDataset
from svit.data.findings import Report
from svit.data.shapes import CLASSES
from svit.data.validate import check_coco, checked, mended, read_json

REFUSED = {
    "area_zero": "wrong areas",
    "bbox_strings": 'bbox holds text "143.0"',
    "bbox_xyxy": "boxes as x1, y1, x2, y2",
    "ids_mixed": "image ids of two types",
    "ids_str_one_side": 'image_id is text "1005000000"',
    "image_larger": "pictures of another size",
    "poly_normalised": "coordinates from 0 to 1",
    "poly_pairs": "holds pairs",
    "x3_raw": "undecided orientations",
}
OFFERED = ("backslash", "case_upper")
GOOD = {"cat_alphabetical": 0, "roboflow_cat0": 0, "seg_empty_some": 4, "seg_missing": 12}


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = os.environ.get("SVIT_CASES")
    if not folder:
        pytest.skip("set SVIT_CASES to the folder of inputs that fail")
    return Path(folder)


def report(case: Path, **options: str) -> Report:
    return check_coco(case / "instances.json", case / "images", **options)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_with_what_was_found(cases: Path, name: str) -> None:
    found = report(cases / name)
    assert len(found.errors) == 1 and REFUSED[name] in found.errors[0], found.lines()


def test_turned_pictures_are_read_as_told(cases: Path) -> None:
    found = report(cases / "x3_raw", exif="off")
    assert not found.refused and "6 turned pictures" in found.notes[0]


@pytest.mark.parametrize("name", OFFERED)
def test_names_of_another_system_are_offered(cases: Path, name: str) -> None:
    case = cases / name
    assert report(case).errors == () and "6 foreign file names" in report(case).offers[0]
    data = mended(read_json(case / "instances.json"), case / "images")
    assert not checked(data, image_root=case / "images")[1].says


@pytest.mark.parametrize("name", GOOD)
def test_good_ones_have_all_their_objects_under_their_names(cases: Path, name: str) -> None:
    case = cases / name
    files = (case / "instances.json", case / "images")
    dataset = CocoDataset(*files, DataConfig(), check_files=True, class_names=CLASSES)
    targets = [dataset.target(index) for index in range(len(dataset))]
    assert sum(map(len, targets)) == 12
    assert sum(int((~target.has_mask).sum()) for target in targets) == GOOD[name]
    named = [CLASSES[label] for label in targets[0].labels]
    assert named == ["triangle", "cross", "square", "circle"]
