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
from svit.data.shapes import write_dataset
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
    for n, name in enumerate(names):
        pixels = np.full((24, 32, 3), 10 * len(split) + n, np.uint8)
        Image.fromarray(pixels).save(root / split / name)
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


def test_frames_of_a_video_are_held_out_together_and_in_order(tmp_path: Path) -> None:
    write_dataset(tmp_path / "moving", 4, 2, seed=0, size=64, frames=3, workers=1, progress=False)
    held_out = []
    for folder in write_folds(tmp_path / "moving", tmp_path / "folds", 3):
        train, val = (
            [(frame.video, frame.number) for frame in opened(folder, split).frames]
            for split in ("train", "val")
        )
        assert not {video for video, _ in train} & {video for video, _ in val}
        assert val == [(video, number) for video, _ in val[::3] for number in range(3)]
        held_out += val
    assert len(set(held_out)) == len(held_out) == 18
    with pytest.raises(CocoError, match="2 to 6 folds of 6 videos and single images, found 7"):
        write_folds(tmp_path / "moving", tmp_path / "more", 7)


def test_copies_of_a_picture_are_held_out_together(source: Path, tmp_path: Path) -> None:
    for number in range(3):
        copy = (source / "train" / f"t{number}.png").read_bytes()
        (source / "val" / f"v{number}.png").write_bytes(copy)
    for folder in write_folds(source, tmp_path / "folds", 4):
        train, val = (
            {path.read_bytes() for path in (folder / split).iterdir()} for split in ("train", "val")
        )
        assert not train & val


def correct(source: Path, what: str) -> None:
    """Changes one thing of the first training image, or the name of the class."""
    if what == "pixels":
        Image.fromarray(np.full((24, 32, 3), 200, np.uint8)).save(source / "train" / "t0.png")
    for split in ("train", "val"):
        path = source / "annotations" / f"instances_{split}.json"
        data = json.loads(path.read_text())
        if what == "objects" and split == "train":
            data["annotations"][0] |= {"bbox": [2, 3, 9, 8], "area": 72}
            data["annotations"][0]["segmentation"] = [[2, 3, 11, 3, 11, 11, 2, 11]]
        if what == "classes":
            data["categories"][0]["name"] = "nucleus"
        if what == "entry" and split == "train":
            data["images"][0]["stain"] = "none"
        path.write_text(json.dumps(data))


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


@pytest.mark.parametrize(
    "corrected, told",
    [
        ("objects", "source.objects: .* there"),
        ("classes", "source.classes: .* there"),
        ("pixels", "source.pictures: .* there"),
        ("entry", "source.images: .* there"),
    ],
)
def test_folds_of_a_source_that_was_corrected_since_are_refused_and_say_what_is_other(
    source: Path, tmp_path: Path, corrected: str, told: str
) -> None:
    write_folds(source, tmp_path / "out", 2)
    correct(source, corrected)
    with pytest.raises(FileError, match=told) as error:
        write_folds(source, tmp_path / "out", 2)
    assert str(error.value).count(" now") == 1 and "choose another place" in str(error.value)


def test_a_picture_that_was_copied_in_part_is_placed_again(source: Path, tmp_path: Path) -> None:
    write_folds(source, tmp_path / "out", 2)
    target = next((tmp_path / "out" / "fold-1" / "train").glob("t*.png"))
    target.unlink()
    target.write_bytes(b"half a picture")
    write_folds(source, tmp_path / "out", 2)
    assert target.read_bytes() == (source / "train" / target.name).read_bytes()


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


def changed(source: Path, split: str, **lists: list) -> None:
    path = source / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **lists}))


def test_licences_of_the_pictures_come_along(source: Path, tmp_path: Path) -> None:
    bought, free = {"id": 4, "name": "bought"}, {"id": 5, "name": "free"}
    changed(source, "train", licenses=[bought])
    changed(source, "val", licenses=[bought, free])
    (folder, _) = write_folds(source, tmp_path / "folds", 2)
    for split in ("train", "val"):
        data = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        assert data["licenses"] == [bought, free]
    changed(source, "val", licenses=[{"id": 4, "name": "free"}])
    with pytest.raises(CocoError, match="id 4 of licenses is another in train than in val"):
        write_folds(source, tmp_path / "more", 2)


def test_objects_that_a_repair_drops_are_told(source: Path, tmp_path: Path, capsys, caplog) -> None:
    path = source / "annotations" / "instances_val.json"
    objects = json.loads(path.read_text())["annotations"]
    objects[0]["bbox"][2] = 0
    changed(source, "val", annotations=objects)
    write_folds(source, tmp_path / "folds", 2)
    assert "1 box dropped" in caplog.text
    assert main.main(["dataset", "statistics", str(path)]) == 0
    assert "1 box dropped" in capsys.readouterr().err
