"""What identifies a set of pictures: ids, names, annotations; not where they lie."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from support.scenes import nano, shapes

from svit.data.coco import CocoDataset
from svit.data.folder import ImageFiles
from svit.data.samples import fingerprint, hash_of


def test_a_set_is_known_by_its_annotations_and_not_by_its_folder(tmp_path: Path) -> None:
    dataset = shapes(tmp_path)
    truth = dataset.coco()
    moved = CocoDataset(truth, "elsewhere", nano().data)
    assert fingerprint(moved) == fingerprint(dataset)
    assert fingerprint(dataset, [0]) != fingerprint(dataset)
    truth["annotations"][0] = {**truth["annotations"][0], "iscrowd": 1}
    assert fingerprint(CocoDataset(truth, "elsewhere", nano().data)) != fingerprint(dataset)


def test_a_folder_of_one_picture_is_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert fingerprint(ImageFiles([tmp_path], nano().data)) == hash_of(["a.png"], ["a.png"])
    assert hash_of(["a.png"], ["b.png"]) != hash_of(["a.png"], ["a.png"])
