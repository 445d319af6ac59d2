"""Folds: every image once for validation, each slice in every fold, nothing copied twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svit.cli import main
from svit.core.config import DataConfig
from svit.data.coco import CocoDataset, find_coco
from svit.data.validate import CocoError
from svit.data.writing.folds import write_folds
from svit.system.files import FileError

CLASSES = [{"id": 4, "name": "cell"}]


def write_split(
    root: Path, split: str, names: list[str], kinds: list[str], classes=CLASSES
) -> None:
    """A split whose ids begin with 1, as those of the other do."""
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    box = {"bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0, "category_id": classes[0]["id"]}
    outline = [[2, 3, 12, 3, 12, 11, 2, 11]]
    for name in names:
        Image.fromarray(np.full((24, 32, 3), len(name), np.uint8)).save(root / split / name)
    images = [
        {"id": n, "file_name": name, "height": 24, "width": 32, "kind": kind}
        for n, (name, kind) in enumerate(zip(names, kinds, strict=True), 1)
    ]
    objects = [
        {"id": n, "image_id": n, "segmentation": outline, **box} for n in range(1, len(names) + 1)
    ]
    data = {"images": images, "annotations": objects, "categories": classes}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write_split(root, "train", [f"t{n}.png" for n in range(8)], ["dark", "light"] * 4)
    write_split(root, "val", ["v0.png", "v1.png", "v2.png", "v3.png"], ["dark"] * 2 + ["light"] * 2)
    return root


def opened(folder: Path, split: str) -> CocoDataset:
    files = find_coco(split, folder)
    return CocoDataset(files.json, files.image_root, DataConfig(), check_files=True)


def names(data: CocoDataset) -> list[str]:
    return [data.file_name(index) for index in range(len(data))]


def test_every_image_is_held_out_once_and_each_fold_has_its_share_of_a_slice(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        main.main(["dataset", "folds", "--from", str(source), "--out", str(out), "--folds", "3"])
        == 0
    )
    seen = []
    for fold in (1, 2, 3):
        train, val = (opened(out / f"fold-{fold}", split) for split in ("train", "val"))
        assert len(val) == 4 and val.slices["kind"].count("dark") == 2
        assert not set(names(train)) & set(names(val)) and len(train) == 8
        assert len(val.target(0)) == 1 and val.class_names == ["cell"]
        seen += names(val)
    assert sorted(seen) == sorted(path.name for path in source.rglob("*.png"))


def test_folds_are_the_same_again_and_pictures_lie_on_the_disk_once(
    source: Path, tmp_path: Path
) -> None:
    first = write_folds(source, tmp_path / "out", 2)
    there = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.png")}
    texts = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.json")}
    (tmp_path / "out" / "fold-1" / "val" / names(opened(first[0], "val"))[0]).unlink()
    assert write_folds(source, tmp_path / "out", 2) == first
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.json")} == texts
    assert {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.png")} == there
    assert len(set(there.values())) == 12
    with pytest.raises(FileError, match="folds: 2 there, 3 now"):
        write_folds(source, tmp_path / "out", 3)


def test_what_cannot_be_dealt_out_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for count in (1, 13):
        with pytest.raises(CocoError, match=f"expected 2 to 12 folds of 12 images, found {count}"):
            write_folds(source, out, count)
    twice, other = tmp_path / "twice", tmp_path / "other"
    for root, classes in ((twice, CLASSES), (other, [{"id": 4, "name": "nucleus"}])):
        write_split(root, "train", ["a.png", "b.png"], ["dark"] * 2)
        name = "a.png" if root == twice else "c.png"
        write_split(root, "val", [name, "d.png"], ["dark"] * 2, classes)
    with pytest.raises(CocoError, match=r"a\.png is a picture of both splits"):
        write_folds(twice, out, 2)
    with pytest.raises(CocoError, match="have other classes"):
        write_folds(other, out, 2)
    with pytest.raises(
        CocoError, match="instances_train or instances_train2017.json in it, found neither"
    ):
        write_folds(tmp_path / "nowhere", out, 2)
    assert not out.exists()
