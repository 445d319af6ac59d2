"""Data sets of shapes: COCO files with the same bytes always, interruptions, and what the commands show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from svit.cli import main
from svit.data.shapes import (
    CLASSES,
    VAL_SEEDS,
    Scene,
    ShapesError,
    contact_sheet,
    read_scenes,
    scene,
    write_dataset,
    writer,
)
from svit.data.writing import coco_folder

TRAIN, VAL, SEED, SIZE = 10, 3, 5, 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shapes") / "set"
    write_dataset(out, TRAIN, VAL, SEED, SIZE, workers=1, progress=False)
    return out


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_folder, "PART", 4)


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("split", "first", "count"), [("train", 0, TRAIN), ("val", VAL_SEEDS, VAL)]
)
def test_pycocotools_reads_back_the_very_masks(
    folder: Path, split: str, first: int, count: int
) -> None:
    coco = COCO(folder / "annotations" / f"instances_{split}2017.json")
    assert coco.getImgIds() == list(range(first + SEED, first + SEED + count))
    for image_id in coco.getImgIds():
        drawn = scene(image_id, SIZE)
        found = coco.loadAnns(coco.getAnnIds(image_id))
        masks = np.array([coco.annToMask(annotation) for annotation in found], bool)
        assert np.array_equal(masks, drawn.masks)
        assert [annotation["category_id"] - 1 for annotation in found] == drawn.labels.tolist()


def test_boxes_areas_and_ids_agree_with_the_masks(folder: Path) -> None:
    coco = COCO(folder / "annotations" / "instances_train2017.json")
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for annotation in coco.anns.values():
        rows, columns = np.nonzero(coco.annToMask(annotation))
        size = [np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == [columns.min(), rows.min(), *size]
        assert annotation["area"] == len(rows)
        assert annotation["iscrowd"] == 0


def test_the_files_show_the_scenes(folder: Path) -> None:
    records = json.loads((folder / "annotations/instances_val2017.json").read_text())["images"]
    assert [record["file_name"] for record in records] == sorted(
        path.name for path in (folder / "val2017").iterdir()
    )
    for record in records:
        stored = np.asarray(Image.open(folder / "val2017" / record["file_name"])).astype(int)
        assert stored.shape == (record["height"], record["width"], 3)
        assert abs(stored - scene(record["id"], SIZE).image).mean() < 8  # JPEG keeps most


def test_nothing_but_the_data_set_is_left_behind(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"annotations", "train2017", "val2017", "shapes.json"}
    assert not [name for name in files(folder) if "part" in name]


def test_the_bytes_do_not_depend_on_the_number_of_processes(
    folder: Path, tmp_path: Path, small_parts: None
) -> None:
    write_dataset(tmp_path / "set", TRAIN, VAL, SEED, SIZE, workers=2, progress=False)
    assert files(tmp_path / "set") == files(folder)


def test_an_interrupted_call_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def interrupted(seed: int, *rest: object) -> Scene:
        drawn.append(seed)
        if len(drawn) == 7:
            raise KeyboardInterrupt
        return scene(seed, *rest)

    monkeypatch.setattr(writer, "scene", interrupted)
    call = (tmp_path / "set", TRAIN, VAL, SEED, SIZE)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(*call, workers=1, progress=False)
    assert not list((tmp_path / "set/annotations").iterdir())
    write_dataset(*call, workers=1, progress=False)
    assert drawn[7] == SEED + 4  # the first part of four was whole
    assert files(tmp_path / "set") == files(folder)


def test_a_finished_data_set_is_left_alone_and_a_lost_image_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = (tmp_path, 2, 1, 0, 64)
    write_dataset(*call, workers=1, progress=False)
    before = files(tmp_path)
    (tmp_path / "train2017" / "000000000001.jpg").unlink()
    write_dataset(*call, workers=1, progress=False)
    assert files(tmp_path) == before
    monkeypatch.setattr(writer, "scene", None)  # drawing now would fail
    write_dataset(*call, workers=1, progress=False)


@pytest.mark.parametrize(("key", "other"), [("seed", 9), ("train", 4), ("size", 128)])
def test_another_data_set_in_the_folder_is_refused(folder: Path, key: str, other: int) -> None:
    asked = {"train": TRAIN, "val": VAL, "seed": SEED, "size": SIZE, key: other}
    before = files(folder)
    with pytest.raises(ShapesError, match=rf"choose another(?s:.*){key}: \d+ there, {other} now"):
        write_dataset(folder, **asked, workers=1, progress=False)
    assert files(folder) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ShapesError, match="thesis.tex"):
        write_dataset(tmp_path, 1, 1, 0, workers=1, progress=False)
    assert list(files(tmp_path)) == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShapesError, match="file is a file, not a folder; choose another folder"):
        write_dataset(tmp_path / "file", 1, 1, 0, workers=1, progress=False)


@pytest.mark.parametrize(
    "wrong", [{"train": -1}, {"seed": -1}, {"seed": VAL_SEEDS}, {"size": 32}, {"workers": 0}]
)
def test_training_seeds_never_reach_validation_seeds(tmp_path: Path, wrong: dict) -> None:
    """Training stays below `VAL_SEEDS`, validation at or above: disjoint for every pair of data sets."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        write_dataset(tmp_path, **{"train": 1, "val": 1, "seed": 0, "progress": False, **wrong})


def test_stored_scenes_are_read_back_with_their_masks(folder: Path) -> None:
    found = read_scenes(folder, "val2017", 2)
    assert len(found) == 2
    for number, stored in enumerate(found):
        drawn = scene(VAL_SEEDS + SEED + number, SIZE)
        assert np.array_equal(stored.masks, drawn.masks)
        assert np.array_equal(stored.labels, drawn.labels)
        assert abs(stored.image.astype(int) - drawn.image).mean() < 8


# --- the commands ---------------------------------------------------------------------------


def test_the_command_writes_without_centre_bias_where_asked(tmp_path: Path) -> None:
    words = ["dataset", "shapes", "--out", f"{tmp_path}/set", "--train", "2", "--val", "1"]
    options = ["--size", "64", "--seed", "7", "--no-centre-bias", "--workers", "1"]
    assert main.main([*words, *options]) == 0
    coco = COCO(tmp_path / "set/annotations/instances_train2017.json")
    assert coco.dataset["info"]["centre_bias"] is False
    (first, *_) = read_scenes(tmp_path / "set", "train2017", 1)
    assert np.array_equal(first.masks, scene(7, 64, centre_bias=False).masks)


def test_the_command_draws_a_sheet_of_what_is_stored(folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["dataset", "sheet", str(folder), "--split", "train2017", "--columns", "4"]
    assert main.main([*words, "--images", "6", "--out", str(sheet)]) == 0
    assert Image.open(sheet).size == (4 * (SIZE + 6) + 6, 2 * (SIZE + 6) + 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--split", "test2017"], "no finished split 'test2017'"),
        (["--out", "nowhere/sheet.png"], "nowhere/sheet.png: No such file"),
        (["--out", "sheet.txt"], "sheet.txt: expected the name of a picture"),
    ],
)
def test_a_sheet_that_cannot_be_drawn_is_explained(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["dataset", "sheet", str(folder), "--out", "sheet.png", *change]) == 2
    assert words in capsys.readouterr().err


def test_the_sheet_outlines_objects_and_leaves_the_scenes_alone() -> None:
    drawn = [scene(seed, 64) for seed in range(5)]
    before = [one.image.copy() for one in drawn]
    sheet = contact_sheet(drawn, columns=3)
    assert sheet.size == (3 * 70 + 6, 2 * 70 + 6)
    tile = np.asarray(sheet)[6:70, 6:70]
    changed = (tile != before[0]).any(2)
    assert changed.any() and not (changed & drawn[0].masks[-1]).all()
    assert all(np.array_equal(one.image, old) for one, old in zip(drawn, before, strict=True))
