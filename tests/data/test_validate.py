"""COCO json files: what is good passes untouched, each fault is named, each repair mends what it says."""

from __future__ import annotations

import copy
import json
import math
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
from svit.data.segments import are_run_lengths, decode_masks, run_counts
from svit.data.validate import ERRORS, REPAIRS, CocoError, check_coco, checked, repaired

SQUARE = [4.0, 4.0, 12.0, 4.0, 12.0, 10.0, 4.0, 10.0]  # 8 wide, 6 high


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
            _object(2, image_id=9, category_id=3, segmentation=runs, iscrowd=1),
            _object(3, image_id=9, segmentation={"size": [30, 40], "counts": text}),
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
FAULTS = {
    "no images": [with_lists(images=[], annotations=[])],
    "incomplete images": [
        with_lists(images=[*good()["images"], {**IMAGE, "id": 6, **wrong}])
        for wrong in (
            {"width": -1},
            {"width": 40.5},
            {"height": math.nan},
            {"height": "30"},
            {"width": 10**9, "height": 10**9},
            {"file_name": None},
            {"id": None},
        )
    ],
    "incomplete categories": [with_lists(categories=[*good()["categories"], {"id": 8}])],
    "duplicate image ids": [with_lists(images=[*good()["images"], IMAGE])],
    "duplicate category ids": [
        with_lists(categories=[*good()["categories"], {"id": 7, "name": "x"}])
    ],
    "duplicate annotation ids": [changed(id=2)],
    "incomplete annotations": [
        changed(bbox=None),
        changed(segmentation=None),
        changed(image_id=None),
    ],
    "unknown images": [changed(image_id=6), changed(image_id=[5])],
    "unknown categories": [changed(category_id=4)],
    "not finite numbers": [
        changed(bbox=[4, 4, math.inf, 6]),
        changed(area=math.nan),
        changed(segmentation=[[*SQUARE[:-1], math.nan]]),
        changed(segmentation=[[*SQUARE[:-1], "10"]]),
    ],
    "boxes not of 4 numbers": [changed(bbox=[4, 4, 8]), changed(bbox=8)],
    "wrong crowd flags": [changed(iscrowd=2)],
    "wrong polygons": [
        changed(segmentation=SQUARE),
        changed(segmentation=[SQUARE[:-1]]),
        changed(segmentation=[[0, 0, 1e9, 0, 0, 5]]),
        changed(segmentation="polygon"),
    ],
    "wrong run lengths": [
        changed(segmentation={"size": [30, 40], "counts": counts})
        for counts in ([30, 1200], [-1, 10], [1.5, 8], "zzzz", "\x7f", "0" + "o" * 99, None, 3)
    ]
    + [changed(segmentation={"size": [40, 30], "counts": [1200]}), changed(segmentation={})],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_error_is_named_once_and_stops_the_use(kind: str) -> None:
    for data in FAULTS[kind]:
        report = check_coco(data)
        assert len(report.errors) == 1, report.lines()
        assert report.errors[0].startswith(f"1 {kind}: {ERRORS[kind]}")
        with pytest.raises(CocoError, match=kind):
            repaired(data)


def test_every_kind_of_error_is_tested() -> None:
    assert {*FAULTS, "missing files", "wrong files"} == set(ERRORS)


# kind -> (what needs it, field of the first annotation that is left -> its value)
MENDED: dict[str, list[tuple[dict[str, Any], dict[str, Any] | None]]] = {
    "iscrowd added": [(changed(iscrowd=None), {"iscrowd": 0})],
    "area added": [(changed(area=None), {"area": 48.0}), (changed(area=-3), {"area": 48.0})],
    "ids renumbered": [(changed(id=0), {"id": 1}), (changed(id=None), {"id": 1}), (changed(id="7"), {})],
    "boxes dropped": [
        (changed(bbox=[4, 4, 0, 6]), None),
        (changed(bbox=[4, 4, 8, -6]), None),
        (changed(bbox=[50, 4, 8, 6]), None),
    ],
    "boxes clipped": [
        (changed(bbox=[-4, 4, 12, 40]), {"bbox": [0, 4, 8, 26]}),
        (changed(bbox=[36, 24, 8, 6]), {"bbox": [36, 24, 4, 6]}),
    ],
    "polygons dropped": [(changed(segmentation=[SQUARE, [1, 1, 2, 2], []]), {"segmentation": [SQUARE]})],
    "objects dropped": [(changed(segmentation=[[1, 1, 2, 2]]), None), (changed(segmentation=[]), None)],
    "run lengths re-encoded": [
        (changed(segmentation={"size": [30, 40], "counts": counts}), {"bbox": [4, 4, 8, 6]})
        for counts in ([30, 60], [30, 60, 5], "n0l1", "")
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", MENDED)
def test_a_repair_is_reported_and_mends(kind: str) -> None:
    for data, expected in MENDED[kind]:
        before = copy.deepcopy(data)
        report = check_coco(data)
        assert report.errors == () and len(report.repairs) == 1, report.lines()
        assert report.repairs[0].startswith(f"1 {kind}: {REPAIRS[kind]}")
        fixed = repaired(data)
        assert data == before
        assert check_coco(fixed).lines()[1:] == []
        if expected is None:
            assert [item["id"] for item in fixed["annotations"]] == [2, 3]
        else:
            assert expected.items() <= fixed["annotations"][0].items()
        with pytest.raises(CocoError, match=kind):
            checked(data, repair=False)


def test_every_kind_of_repair_is_tested() -> None:
    assert set(MENDED) == set(REPAIRS)


def test_boxes_a_pixel_beyond_the_picture_are_not_touched() -> None:
    assert check_coco(changed(bbox=[-0.5, 4, 41.4, 6])).repairs == ()


def test_triangles_are_polygons() -> None:
    assert check_coco(changed(segmentation=[[1, 1, 5, 1, 5, 5]])).repairs == ()


def test_short_run_lengths_become_background() -> None:
    short = changed(segmentation={"size": [30, 40], "counts": [30, 60, 5]})
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
    assert line.startswith("8 unknown images") and "id 5, ..." in line and "id 6" not in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "check the path"),
        ("", "unreadable json"),
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
        path.write_text(content)
    report = check_coco(path)
    assert words in report.errors[0]
    assert str(path) in report.lines()[0]
    with pytest.raises(CocoError, match="instances.json"):
        checked(path)


def test_missing_pictures_are_counted_and_named(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (line,) = check_coco(good(), tmp_path).errors
    assert line.startswith("1 missing files") and str(tmp_path / "b.png") in line
    assert "a.png" not in line


def test_decoding_finds_damaged_pictures_and_those_of_another_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    Image.new("RGB", (30, 40)).save(tmp_path / "b.png")
    assert check_coco(good(), tmp_path).errors == ()
    (line,) = check_coco(good(), tmp_path, decode=True).errors
    assert line.startswith("2 wrong files")
    assert "a.png: damaged or truncated" in line
    assert "expected height and width (30, 40)" in line and "found (40, 30)" in line


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
