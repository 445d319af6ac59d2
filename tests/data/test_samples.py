"""What identifies a set of pictures: ids, names, annotations; not where they lie. Which two sets share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from support.scenes import nano, shapes

from svit.data.coco import CocoDataset
from svit.data.folder import ImageFiles
from svit.data.samples import count_marked, count_shared, fingerprint, hash_of, marks_of


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


def painted(folder: Path, *seeds: int) -> ImageFiles:
    """Pictures whose files have the same number of bytes."""
    folder.mkdir()
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.bmp")
    return ImageFiles([folder], nano().data)


def test_pictures_are_the_same_by_their_bytes_not_their_names_or_sizes(tmp_path: Path) -> None:
    first, second = painted(tmp_path / "first", 1, 2, 3), painted(tmp_path / "second", 4, 5)
    places, others = range(len(first)), range(len(second))
    assert count_shared(first, places, second, others) == 0
    shutil.copy(first.path(1), tmp_path / "second" / "other.bmp")
    second = ImageFiles([tmp_path / "second"], nano().data)
    others = range(len(second))
    assert count_shared(first, places, second, others) == 1
    assert count_shared(first, [0, 2], second, others) == 0
    assert count_marked(first, places, marks_of(second, others)) == 1
    first.path(1).unlink()
    assert count_shared(first, places, second, others) == 0 and len(marks_of(first, places)) == 2
