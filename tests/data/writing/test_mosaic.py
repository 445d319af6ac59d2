"""Large fields of small annotated pictures: every object at its place, slices apart, nothing made up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svit.cli import main
from svit.core.config import DataConfig
from svit.data.coco import CocoDataset, find_coco
from svit.data.validate import CocoError
from svit.data.writing.mosaic import MosaicError, write_mosaic

CLASSES = [{"id": 7, "name": "cell"}, {"id": 9, "name": "wall"}]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Nine dark and five light portraits of 20 x 40 pixels, each with a bright rectangle of its own."""
    root = tmp_path / "source"
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, objects = [], []
    for number in range(1, 15):
        dark = number < 10
        pixels = np.full((40, 20, 3), 10 if dark else 120, np.uint8)
        pixels[2 : 2 + number, 4:12] = 200 + number
        Image.fromarray(pixels).save(root / "val2017" / f"{number}.png")
        kind = "dark" if dark else "light"
        about = {"id": number, "file_name": f"{number}.png", "height": 40, "width": 20}
        images.append(about | {"kind": kind})
        outline = [[4, 2, 12, 2, 12, 2 + number, 4, 2 + number]]
        box = {"bbox": [4, 2, 8, number], "area": 8 * number, "iscrowd": 0}
        box |= {"id": number, "image_id": number, "category_id": 7 if dark else 9}
        objects.append(box if number == 3 else box | {"segmentation": outline})
    data = {"images": images, "annotations": objects, "categories": CLASSES}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(data))
    return root


def written(out: Path) -> dict:
    return json.loads((out / "annotations/instances_val.json").read_text())


def test_every_object_lies_where_its_pixels_are(source: Path, tmp_path: Path) -> None:
    left = write_mosaic(source, tmp_path / "out", "val", across=2, tile=80, progress=False)
    data = written(tmp_path / "out")
    assert left == 2 and len(data["images"]) == 3 and len(data["annotations"]) == 12
    files = find_coco("val", tmp_path / "out")
    assert len(CocoDataset(files.json, files.image_root, DataConfig(), check_files=True)) == 3
    for image in data["images"]:
        pixels = np.asarray(Image.open(tmp_path / "out/val" / image["file_name"]).convert("RGB"))
        assert pixels.shape == (160, 160, 3)
        numbers = [int(name.removesuffix(".png")) for name in image["pictures"]]
        objects = [one for one in data["annotations"] if one["image_id"] == image["id"]]
        for number, one in zip(numbers, objects, strict=True):
            x, y, width, height = map(int, one["bbox"])
            inside = pixels[y + 2 : y + height - 2, x + 2 : x + width - 2]
            assert (inside == 200 + number).all() and width == 16 and height == 2 * number


def test_twice_the_size_is_four_times_the_area(source: Path, tmp_path: Path) -> None:
    write_mosaic(source, tmp_path / "out", "val", across=1, tile=80, progress=False)
    data = written(tmp_path / "out")
    names = {one["id"]: int(one["pictures"][0].removesuffix(".png")) for one in data["images"]}
    for one in data["annotations"]:
        number = names[one["image_id"]]
        assert one["area"] == 4 * 8 * number and one["bbox"][2:] == [16, 2 * number]
        assert ("segmentation" in one) == (number != 3)  # annotated by a box alone


def test_a_field_is_of_one_slice_and_of_the_pictures_colour_where_it_has_none(
    source: Path, tmp_path: Path
) -> None:
    write_mosaic(source, tmp_path / "out", "val", across=2, tile=80, progress=False)
    for image in written(tmp_path / "out")["images"]:
        dark = image["kind"] == "dark"
        numbers = [int(name.removesuffix(".png")) for name in image["pictures"]]
        assert all((number < 10) == dark for number in numbers)
        pixels = np.asarray(Image.open(tmp_path / "out/val" / image["file_name"]).convert("RGB"))
        assert (pixels[:, 40:80] == (10 if dark else 120)).all()  # portraits fill half of a tile


def test_the_bytes_do_not_depend_on_processes_and_a_second_call_changes_nothing(
    source: Path, tmp_path: Path
) -> None:
    for workers in (1, 2):
        write_mosaic(source, tmp_path / str(workers), "val", 2, 64, workers, progress=False)
    first, second = (sorted((tmp_path / name).rglob("*.*")) for name in ("1", "2"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    before = {path: path.stat().st_mtime_ns for path in first}
    write_mosaic(source, tmp_path / "1", "val", 2, 64, 1, progress=False)
    assert {path: path.stat().st_mtime_ns for path in first} == before
    with pytest.raises(MosaicError):
        write_mosaic(source, tmp_path / "1", "val", 3, 64, 1, progress=False)


def test_fields_of_a_source_that_was_corrected_since_are_refused_and_say_what_is_other(
    source: Path, tmp_path: Path
) -> None:
    def make() -> None:
        write_mosaic(source, tmp_path / "out", "val", 2, 64, 1, progress=False)

    make()
    path = source / "annotations/instances_val2017.json"
    before = path.read_text()
    data = json.loads(before)
    data["annotations"][0]["category_id"] = 9
    path.write_text(json.dumps(data))
    with pytest.raises(MosaicError, match=r"source\.objects: .* there.* now"):
        make()
    path.write_text(before)
    make()
    picture = source / "val2017/1.png"
    size = picture.stat()
    Image.fromarray(np.full((40, 20, 3), 60, np.uint8)).save(picture)
    os.utime(picture, ns=(size.st_atime_ns, size.st_mtime_ns))
    with pytest.raises(MosaicError, match=r"source\.pictures: .* there.* now"):
        make()


def test_too_few_pictures_are_told_and_small_objects_counted(source: Path, tmp_path: Path, capsys):
    with pytest.raises(CocoError, match="16 pictures of one slice"):
        write_mosaic(source, tmp_path / "out", "val", across=4, tile=80)
    out = ["--from", str(source), "--out", str(tmp_path / "small"), "--tile", "4", "--workers", "1"]
    assert main.main(["dataset", "mosaic", *out]) == 0
    said = capsys.readouterr().out
    assert "8 pixels a side" in said and "2 pictures of val left over" in said
    (told,) = written(tmp_path / "small")["info"]["told"]
    assert told.startswith("objects without a pixel at this size: ")


def test_a_field_has_the_licence_of_its_pictures_and_no_other(source: Path, tmp_path: Path) -> None:
    path = source / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    bought, free = {"id": 4, "name": "bought"}, {"id": 5, "name": "free"}
    for image in data["images"]:
        image["license"] = 4 if image["kind"] == "dark" else image["id"] % 2 + 4
    path.write_text(json.dumps({**data, "licenses": [bought, free]}))
    write_mosaic(source, tmp_path / "out", "val", across=2, tile=40, progress=False)
    mosaic = written(tmp_path / "out")
    assert mosaic["licenses"] == [bought, free]
    found = [(image["kind"], image.get("license")) for image in mosaic["images"]]
    assert found == [("dark", 4), ("dark", 4), ("light", None)]
