"""Statistics of COCO data sets, against hand-counted ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svit.cli import main
from svit.data.segments import box_polygon
from svit.data.statistics import describe, object_table

ROOT = Path(__file__).resolve().parents[2]


def found(image_id: int, category_id: int, bbox: list[float], area: float, crowd: int = 0) -> dict:
    place = {"image_id": image_id, "category_id": category_id, "bbox": bbox, "area": area}
    return {**place, "iscrowd": crowd}


DATA = {
    "images": [
        {"id": 7, "file_name": "7.jpg", "height": 60, "width": 80},
        {"id": 8, "file_name": "8.jpg", "height": 300, "width": 400},
        {"id": 9, "file_name": "9.jpg", "height": 10, "width": 10},
    ],
    "categories": [{"id": 3, "name": "cup"}, {"id": 90, "name": "owl"}],
    "annotations": [
        found(7, 90, [30, 20, 20, 20], 1023.0),  # around the very middle
        found(7, 3, [70, 50, 20, 20], 1024.0),  # around a corner
        found(8, 90, [0, 0, 100, 100], 9215.0),
        found(8, 90, [0, 0, 100, 100], 9216.0),
        found(8, 3, [0, 0, 400, 300], 120000.0, crowd=1),
    ],
}


def test_objects_have_the_sizes_that_coco_counts_and_crowds_are_left_out() -> None:
    table = object_table(DATA)
    assert table["image_id"].tolist() == [7, 7, 8, 8]
    assert table["category"].tolist() == ["owl", "cup", "owl", "owl"]
    assert table["size"].tolist() == ["small", "medium", "medium", "large"]
    assert table["covered"][1] == pytest.approx(1024 / 4800)
    # a box at the corner of 400 x 300: 150 and 100 from the middle, over half a diagonal of 500
    corner = (150**2 + 100**2) ** 0.5 / 250
    assert table["from_middle"].tolist() == pytest.approx([0, 1, corner, corner])


def test_the_tables_count_images_without_objects() -> None:
    text = describe(DATA)
    assert text.startswith("3 images, 4 objects\n")
    assert "| objects an image | 1.3 | 0.0 | 0.4 | 2.0 | 2.0 | 2.0 |" in text
    assert "| size medium | 2 | 0.500 |" in text and "| class owl | 3 | 0.750 |" in text


def test_images_are_counted_by_a_text_that_groups_them() -> None:
    kinds = ["dark", "light", "dark", "light"]
    images = [{**DATA["images"][0], "id": n, "kind": kind} for n, kind in enumerate(kinds)]
    text = describe({**DATA, "images": images, "annotations": []})
    assert "| of the images | number | share |" in text and "| kind dark | 2 | 0.500 |" in text
    assert "of the images" not in describe(DATA)


def test_a_data_set_without_objects_has_dashes() -> None:
    text = describe({**DATA, "annotations": []})
    assert "| area of an object, pixels | – | – | – | – | – | – |" in text
    assert "| objects an image | 0.0 |" in text and "| class cup | 0 | 0.000 |" in text


def test_the_command_counts_what_is_left_after_repairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = [
        {**item, "segmentation": box_polygon(item["bbox"]), "id": n}
        for n, item in enumerate(DATA["annotations"], 1)
    ]
    annotations[0]["bbox"] = [5, 5, 0, 9]
    (tmp_path / "data.json").write_text(json.dumps({**DATA, "annotations": annotations}))
    assert main.main(["dataset", "statistics", f"{tmp_path}/data.json"]) == 0
    assert "3 images, 3 objects" in capsys.readouterr().out


def test_the_page_on_shapes_shows_what_the_command_counted() -> None:
    """`svit dataset statistics` wrote results/shapes-world/*.md; the page repeats them."""
    page = (ROOT / "docs" / "shapes.md").read_text(encoding="utf-8")
    counted = ROOT / "results" / "shapes-world"
    for tables in (counted / "train.md").read_text(encoding="utf-8").strip().split("\n\n")[1:]:
        assert tables in page
    middle = [_middle((counted / f"{kind}-64.md").read_text()) for kind in ("uniform", "biased")]
    assert f"mean distance from the middle is {middle[0]} instead of {middle[1]}" in page


def _middle(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("| middle of an object")]
    return line.split(" | ")[1]


def test_categories_of_one_name_are_counted_once() -> None:
    twins = [*DATA["categories"], {"id": 91, "name": "owl"}]
    assert describe({**DATA, "categories": twins}) == describe(DATA)
