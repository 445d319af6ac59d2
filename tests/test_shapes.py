"""The synthetic world: exact books, honest difficulty, and a data set with the same bytes always."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from pycocotools.coco import COCO

from svit.data import shapes
from svit.data.shapes import (
    CLASSES,
    VAL_SEEDS,
    Scene,
    ShapesError,
    contact_sheet,
    scene,
    write_dataset,
)

TRAIN, VAL, SEED, SIZE = 10, 3, 5, 96


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene(seed) for seed in range(120)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shapes") / "set"
    write_dataset(out, TRAIN, VAL, SEED, SIZE, workers=1, progress=False)
    return out


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_PART", 4)


def tokens(picture: np.ndarray) -> np.ndarray:
    """(tokens, pixels, ...) of patches of 16 pixels in raster order."""
    rows, columns = picture.shape[0] // 16, picture.shape[1] // 16
    cut = picture.reshape(rows, 16, columns, 16, *picture.shape[2:]).swapaxes(1, 2)
    return cut.reshape(rows * columns, 256, *picture.shape[2:])


def area_under_curve(score: np.ndarray, positive: np.ndarray) -> float:
    """Mann-Whitney: how often a positive token outscores a negative one."""
    ranks = pd.Series(score).rank().to_numpy()[positive].sum()
    count = positive.sum()
    return (ranks - count * (count + 1) / 2) / (count * (~positive).sum())


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# --- scenes ---------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_bytes_and_the_next_seed_others() -> None:
    first, again, other = scene(11, SIZE), scene(11, SIZE), scene(12, SIZE)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.masks.tobytes() == again.masks.tobytes()
    assert first.labels.tolist() == again.labels.tolist()
    assert first.image.tobytes() != other.image.tobytes()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2 * VAL_SEEDS),
    size=st.sampled_from([64, 90, 128]),
    centre_bias=st.booleans(),
)
def test_every_scene_has_one_to_eight_objects_that_share_no_pixel(
    seed: int, size: int, centre_bias: bool
) -> None:
    drawn = scene(seed, size, centre_bias)
    assert drawn.image.shape == (size, size, 3) and drawn.image.dtype == np.uint8
    assert drawn.masks.shape == (len(drawn.labels), size, size) and drawn.masks.dtype == bool
    assert 1 <= len(drawn.labels) <= 8 and drawn.labels.dtype == np.int64
    assert set(drawn.labels) <= set(range(len(CLASSES)))
    assert drawn.masks.sum(0).max() <= 1
    assert drawn.masks.sum((1, 2)).min() >= 100 * (size / 256) ** 2


def test_a_mask_is_where_its_object_was_painted() -> None:
    """On a ground of one colour, whatever is not that colour is the object and its smooth edge."""
    random = np.random.default_rng(0)
    for label in range(len(CLASSES)):
        canvas = Image.new("RGB", (256, 256), (90, 140, 60))
        painter = shapes._Painter(random, canvas, np.float32([90, 140, 60]), bias=True)
        painter.add(label, 60.0)
        painted = (np.asarray(canvas) != (90, 140, 60)).any(2)
        (mask,) = painter.masks()
        assert (mask & ~painted).sum() <= 0.01 * mask.sum(), CLASSES[label]
        around = Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(7))
        assert not (painted & (np.asarray(around) == 0)).any(), CLASSES[label]  # tips are thin


@pytest.mark.parametrize("name", CLASSES)
def test_the_side_of_an_object_is_that_of_the_square_with_its_area(name: str) -> None:
    outline = shapes._OUTLINES[name] * 60
    stencil = shapes._stencil(240, lambda pen, fine: shapes._draw_object(pen, fine, outline, name))
    assert np.asarray(stencil).sum() / 255 == pytest.approx(60**2, rel=0.04)


def test_no_object_hides_another_by_more_than_the_rule_allows() -> None:
    hidden = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        canvas = Image.new("RGB", (256, 256), (90, 140, 60))
        painter = shapes._Painter(random, canvas, np.float32([90, 140, 60]), bias=True)
        for _ in range(8):
            before = painter.masks().sum((1, 2))
            painter.add(int(random.integers(8)), 70.0)
            after = painter.masks().sum((1, 2))
            hidden += (after[: len(before)] < before).sum()
            assert (after >= shapes._VISIBLE * 0.95 * 70**2).all()
    assert hidden > 20  # occlusion does happen


def test_objects_differ_from_the_ground_right_around_them(scenes: list[Scene]) -> None:
    clear = []
    for drawn in scenes[:25]:
        for mask in drawn.masks:
            solid = Image.fromarray(mask.astype(np.uint8) * 255)
            wide = np.asarray(solid.filter(ImageFilter.MaxFilter(7))) > 0
            near = np.asarray(solid.filter(ImageFilter.MaxFilter(3))) > 0
            outside = drawn.image[wide & ~near].astype(float)
            inside = np.median(drawn.image[mask], axis=0)
            clear.append(np.median(np.linalg.norm(outside - inside, axis=1)))
    assert np.quantile(clear, 0.05) > 45  # of 441 in RGB


def test_all_three_sizes_of_coco_and_all_classes_occur(scenes: list[Scene]) -> None:
    areas = np.concatenate([drawn.masks.sum((1, 2)) for drawn in scenes])
    shares = np.histogram(areas, [0, 32**2, 96**2, 256**2])[0] / len(areas)
    assert shares[0] > 0.15 and shares[1] > 0.4 and shares[2] > 0.03
    labels = np.concatenate([drawn.labels for drawn in scenes])
    assert np.bincount(labels, minlength=8).min() > 0.07 * len(labels)


def test_nearly_empty_and_crowded_scenes_are_both_common(scenes: list[Scene]) -> None:
    counts = np.array([len(drawn.labels) for drawn in scenes])
    assert (counts == 1).mean() > 0.15
    assert (counts >= 6).mean() > 0.25
    covered = np.array([drawn.masks.any(0).mean() for drawn in scenes])
    assert np.quantile(covered, 0.1) < 0.08 and np.quantile(covered, 0.9) > 0.3


def test_neither_contrast_nor_colour_betrays_objects(scenes: list[Scene]) -> None:
    """Predictors without any network; a throw-away forerunner of this world gave .753 and .825."""
    contrast, colour, foreground = [], [], []
    for drawn in scenes:
        contrast.append(tokens(drawn.image @ np.array([0.299, 0.587, 0.114])).std(1))
        means = tokens(drawn.image.astype(float)).mean(1)
        colour.append(np.linalg.norm(means - means.mean(0), axis=1))
        foreground.append(tokens(drawn.masks.any(0)).mean(1) > 0.25)
    positive = np.concatenate(foreground)
    assert 0.45 < area_under_curve(np.concatenate(contrast), positive) < 0.65
    assert 0.45 < area_under_curve(np.concatenate(colour), positive) < 0.65


def test_objects_gather_in_the_middle_unless_asked_not_to() -> None:
    def spread(centre_bias: bool) -> float:
        distances = []
        for seed in range(70):
            for mask in scene(seed, 64, centre_bias).masks:
                middle = np.argwhere(mask).mean(0) - 31.5
                distances.append(np.hypot(*middle) / 64)
        return float(np.mean(distances))

    assert spread(True) < 0.85 * spread(False)


# --- the data set ---------------------------------------------------------------------------


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
    assert not [name for name in files(folder) if "unfinished" in name]


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

    monkeypatch.setattr(shapes, "scene", interrupted)
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
    monkeypatch.setattr(shapes, "scene", None)  # drawing now would fail
    write_dataset(*call, workers=1, progress=False)


@pytest.mark.parametrize(("key", "other"), [("seed", 9), ("train", 4), ("size", 128)])
def test_another_data_set_in_the_folder_is_refused(folder: Path, key: str, other: int) -> None:
    asked = {"train": TRAIN, "val": VAL, "seed": SEED, "size": SIZE, key: other}
    before = files(folder)
    with pytest.raises(ShapesError, match=rf"{key}: \d+ there, {other} asked.*another folder"):
        write_dataset(folder, **asked, workers=1, progress=False)
    assert files(folder) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ShapesError, match="thesis.tex"):
        write_dataset(tmp_path, 1, 1, 0, workers=1, progress=False)
    assert list(files(tmp_path)) == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShapesError, match="file: .*repeat the command"):
        write_dataset(tmp_path / "file", 1, 1, 0, workers=1, progress=False)


@pytest.mark.parametrize(
    "wrong", [{"train": -1}, {"seed": -1}, {"seed": VAL_SEEDS}, {"size": 32}, {"workers": 0}]
)
def test_training_seeds_never_reach_validation_seeds(tmp_path: Path, wrong: dict) -> None:
    """Training stays below `VAL_SEEDS`, validation at or above: disjoint for every pair of data sets."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        write_dataset(tmp_path, **{"train": 1, "val": 1, "seed": 0, "progress": False, **wrong})


# --- the sheet ------------------------------------------------------------------------------


def test_the_sheet_outlines_objects_and_leaves_the_scenes_alone() -> None:
    drawn = [scene(seed, 64) for seed in range(5)]
    before = [one.image.copy() for one in drawn]
    sheet = contact_sheet(drawn, columns=3)
    assert sheet.size == (3 * 70 + 6, 2 * 70 + 6)
    tile = np.asarray(sheet)[6:70, 6:70]
    changed = (tile != before[0]).any(2)
    assert changed.any() and not (changed & drawn[0].masks[-1]).all()
    assert all(np.array_equal(one.image, old) for one, old in zip(drawn, before, strict=True))
