"""Imported runs: figures and the app read them as any other, nothing is made up; truth goes by file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.driven import open_page, texts

from analysis import render
from analysis.sources import labels
from svit.cli.main import main
from svit.exchange.lists import ListsError
from svit.runs.run import open_run

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"cat.jpg": (90, 90), "dog.jpg": (56, 90)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (name, hw) in enumerate(SIDES.items()):
        pixels = np.random.default_rng(number).integers(0, 255, (*hw, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def documented(folder: Path) -> Path:
    """The json of the page, as it stands there."""
    page = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
    path = folder / "kept.json"
    path.write_text(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    return path


def imported(lists: Path, photos: Path, out: Path, *more: str, code: int = 0):
    words = ["import", str(lists), "--image-root", str(photos), "--out", str(out), *more]
    assert main(words) == code
    return open_run(out)


def test_the_documented_lists_become_a_run(photos: Path, tmp_path: Path) -> None:
    run = imported(documented(tmp_path), photos, tmp_path / "run")
    assert run.image_ids == ("cat.jpg", "dog.jpg") and run.layers == 3 and run.finished
    assert np.flatnonzero(run.trace("cat.jpg").keep[2]).tolist() == [0, 1, 377]
    dog = run.trace("dog.jpg")
    assert np.flatnonzero(dog.keep[1]).tolist() == [5, 6] and dog.grid.valid_hw == (12, 20)
    assert run.picture("cat.jpg").shape == (90, 90, 3)
    assert run.provenance["method"] == "FastV" and run.targets == [] and run.class_names == []
    assert "config" not in run.provenance and "weights" not in run.provenance
    assert labels.label(run) == "run: FastV"


def test_every_entry_that_is_read_is_documented() -> None:
    from svit.exchange import lists

    page = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
    assert [name for name in (*lists.KNOWN, *lists.FACTS) if f"`{name}`" not in page] == []


def test_figures_and_pages_show_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    imported(documented(tmp_path), photos, runs / "fastv")
    for figure in ("heatmap", "layers", "reactivation"):
        assert render.main([figure, str(runs / "fastv"), "--out", str(tmp_path / "figures")]) == 0
    assert len(list((tmp_path / "figures").glob("*.png"))) >= 5
    for page in ("image", "dataset"):
        shown = open_page(monkeypatch, page, runs)
        assert not shown.exception, (page, shown.exception)
        assert "FastV" in texts(shown)


def test_ground_truth_comes_by_the_name_of_the_file(photos: Path, tmp_path: Path) -> None:
    annotation = {"id": 1, "image_id": 5, "category_id": 9, "iscrowd": 0, "bbox": [4, 6, 20, 10]}
    box = [[4, 6, 24, 6, 24, 16, 4, 16]]
    truth = {
        "images": [{"id": 5, "file_name": "dog.jpg", "height": 56, "width": 90}],
        "annotations": [{**annotation, "area": 200, "segmentation": box}],
        "categories": [{"id": 9, "name": "dog"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    words = ("--coco", str(tmp_path / "truth.json"))
    run = imported(documented(tmp_path), photos, tmp_path / "run", *words)
    assert run.target("cat.jpg") is None and run.class_names == ["dog"]
    found = run.target("dog.jpg")
    assert found.boxes_xyxy.tolist() == [[4, 6, 24, 16]] and found.masks.sum() == 200


def boxes_alone(folder: Path, *names: str) -> Path:
    """A json of one object in each picture of 56 x 90 pixels, without a mask."""
    images = [{"file_name": name, "height": 56, "width": 90} for name in names]
    box = {"category_id": 9, "iscrowd": 0, "bbox": [4, 6, 20, 10], "segmentation": []}
    truth = {
        "images": [{"id": number, **one} for number, one in enumerate(images, 1)],
        "annotations": [{"id": n, "image_id": n, **box} for n in range(1, len(names) + 1)],
        "categories": [{"id": 9, "name": "dog"}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder / "truth.json"


def test_a_box_without_a_mask_is_exported_as_one(photos: Path, tmp_path: Path) -> None:
    words = ("--coco", str(boxes_alone(tmp_path, "dog.jpg")))
    run = imported(documented(tmp_path), photos, tmp_path / "run", *words)
    assert run.target("dog.jpg").has_mask.tolist() == [False]
    assert [one if one is None else one.has_mask.tolist() for one in run.iter_targets()] == [
        None,
        [False],
    ]
    for kind in ("coco", "fiftyone"):
        assert main(["export", str(run.path), "--to", kind, "--out", str(tmp_path / kind)]) == 0
    instances = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert [one["segmentation"] for one in instances["annotations"]] == [[]]
    (dog,) = json.loads((tmp_path / "fiftyone" / "samples.json").read_text())["samples"][1:]
    assert "mask" not in dog["ground_truth"]["detections"][0]


def test_annotations_under_other_names_are_not_left_out_in_silence(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists, out = documented(tmp_path), tmp_path / "run"
    words = ["import", str(lists), "--image-root", str(photos), "--out", str(out), "--coco"]
    assert main([*words, str(boxes_alone(tmp_path, "val/dog.jpg"))]) == 2
    assert "lists none of the pictures: there 'val/dog.jpg', in the lists 'cat.jpg'" in (
        capsys.readouterr().err
    )
    assert main([*words, str(boxes_alone(tmp_path, "dog.jpg", "dog.jpg"))]) == 2
    assert "has 2 entries of 'dog.jpg'" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, str(boxes_alone(tmp_path, "dog.jpg"))]) == 0
    assert "does not list them: 1 image of 2, as 'cat.jpg'" in capsys.readouterr().err


def test_pictures_lie_as_the_model_was_given_them_and_a_tag_that_turns_them_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(photos / "dog.jpg") as dog:
        tag = dog.getexif()
        tag[0x0112] = 6  # to be turned by a quarter
        dog.save(photos / "dog.jpg", exif=tag)
    lists = documented(tmp_path)
    run = imported(lists, photos, tmp_path / "run")
    assert "an EXIF orientation: 1 image of 2, as 'dog.jpg'" in capsys.readouterr().err
    assert run.trace("dog.jpg").grid.image_hw == (90, 56) and "exif" not in run.provenance
    run = imported(lists, photos, tmp_path / "stored", "--exif", "off")
    assert "EXIF" not in capsys.readouterr().err
    assert run.trace("dog.jpg").grid.image_hw == (56, 90) and run.provenance["exif"] == "off"
    run = imported(
        lists, photos, tmp_path / "told", "--coco", str(boxes_alone(tmp_path, "dog.jpg"))
    )
    assert run.trace("dog.jpg").grid.image_hw == (56, 90)  # the size that was annotated


def test_a_missing_picture_is_told_and_an_import_goes_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = (photos / "cat.jpg").read_bytes()
    (photos / "cat.jpg").unlink()
    run = imported(documented(tmp_path), photos, tmp_path / "run", code=1)
    assert "1 image could not be read" in capsys.readouterr().err
    assert run.errors["image_id"].tolist() == ["cat.jpg"]
    (photos / "cat.jpg").write_bytes(cat)
    run = imported(documented(tmp_path), photos, tmp_path / "run")
    assert len(run) == 2 and run.errors.empty


def test_other_lists_do_not_go_into_the_same_run(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = documented(tmp_path)
    imported(lists, photos, tmp_path / "run")
    lists.write_text(lists.read_text().replace("412", "411"))
    words = ["import", str(lists), "--image-root", str(photos), "--out", str(tmp_path / "run")]
    assert main(words) == 2 and "lists_sha256" in capsys.readouterr().err


def test_images_with_other_numbers_of_layers_are_named(photos: Path, tmp_path: Path) -> None:
    lists = documented(tmp_path)
    lists.write_text(lists.read_text().replace("[null, null, [35, 36, 412]]", "[null]"))
    from svit.exchange.importing import import_lists
    from svit.exchange.lists import read_lists

    with pytest.raises(
        ListsError, match="image 2 .'dog.jpg'.: expected 1 layers as before, found 3"
    ):
        import_lists(read_lists(lists), photos, tmp_path / "run")


def test_a_box_that_begins_outside_of_the_picture_keeps_its_mask_and_its_slice_stays_a_text(
    photos: Path, tmp_path: Path
) -> None:
    """Annotated half a pixel outside, as careful annotators do; of the other picture nothing is told."""
    truth = json.loads(boxes_alone(tmp_path, "dog.jpg", "other.jpg").read_text())
    for image in truth["images"]:
        image["tags"] = "pets"
    for one in truth["annotations"]:
        one |= {"bbox": [-0.7, -0.7, 20.7, 10.7], "segmentation": [[0, 0, 20, 0, 20, 10, 0, 10]]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    words = ("--coco", str(tmp_path / "truth.json"))
    run = imported(documented(tmp_path), photos, tmp_path / "run", *words)
    assert run.target("dog.jpg").boxes_xyxy.tolist() == [[0, 0, 20, 10]]
    assert main(["export", str(run.path), "--to", "fiftyone", "--out", str(tmp_path / "out")]) == 0
    cat, dog = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert "mask" in dog["ground_truth"]["detections"][0]
    assert dog["tags"] == [] and dog["tags_slice"] == "pets" and "tags_slice" not in cat


def test_an_import_does_not_go_on_with_other_annotations(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = boxes_alone(tmp_path, "dog.jpg")
    imported(documented(tmp_path), photos, tmp_path / "run", "--coco", str(truth))
    truth.write_text(truth.read_text().replace("[4, 6, 20, 10]", "[5, 6, 20, 10]"))
    words = ["import", str(tmp_path / "kept.json"), "--image-root", str(photos)]
    assert main([*words, "--out", str(tmp_path / "run"), "--coco", str(truth)]) == 2
    assert "annotations_sha256" in capsys.readouterr().err


def test_frames_of_a_video_stay_frames_in_a_run_and_in_what_it_exports(
    photos: Path, tmp_path: Path
) -> None:
    path = boxes_alone(tmp_path, "dog.jpg", "other.jpg")
    truth = json.loads(path.read_text())
    for number, image in enumerate(truth["images"], 3):
        image |= {"video_id": 8, "frame_id": number}
    path.write_text(json.dumps(truth))
    run = imported(documented(tmp_path), photos, tmp_path / "run", "--coco", str(path))
    assert run.frames.to_dict("list") == {"image_id": ["dog.jpg"], "video": ["8"], "frame": [3]}
    assert main(["export", str(run.path), "--to", "coco", "--out", str(tmp_path / "out")]) == 0
    instances = json.loads((tmp_path / "out" / "instances.json").read_text())
    (dog,) = instances["images"]
    assert (dog["video_id"], dog["frame_id"]) == ("8", 3)
    assert instances["videos"] == [{"id": "8", "name": "8"}]
