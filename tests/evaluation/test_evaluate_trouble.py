"""An evaluation in trouble: full disks, folders that cannot be written, data without an answer."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from support.scenes import IMAGES, detector, nano, shapes

from analysis.sources.evaluations import read_evaluation
from svit.data.coco import CocoDataset
from svit.detectors.base import Detector
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.evaluation_table import report
from svit.evaluation.passes import PassOptions
from svit.evaluation.summary import NothingMeasured, Summary
from svit.system.files import FileError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return shapes(tmp_path_factory.mktemp("trouble"))


def quiet(
    model: Detector,
    dataset: CocoDataset,
    output: Path,
    record: Path | None = None,
    weights: str = "",
    **options,
) -> Summary:
    how, scoring = PassOptions(progress=False, **options), Scoring(draws=2, record=record)
    found = evaluate(model, dataset, output, how, scoring, weights=weights)
    assert found is not None
    return found


def test_a_folder_that_cannot_be_written_is_noticed_before_the_first_image(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(Detector, "predict", None)  # looking at an image would fail otherwise
    with pytest.raises(
        FileError, match="cannot write into .*file is a file, not a folder; choose another"
    ):
        quiet(detector(), dataset, tmp_path / "file" / "out")


def test_a_disk_that_is_full_in_the_end_costs_no_recorded_image(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(FileError, match="No space left"):
        patch.setattr("svit.evaluation.evaluate.prepare_folder", lambda output: None)
        patch.setattr("svit.evaluation.summary.write_text", full)
        quiet(detector(), dataset, tmp_path / "out", record=tmp_path / "run")
    monkeypatch.setattr(Detector, "predict", None)  # nothing is looked at again
    summary = quiet(detector(), dataset, tmp_path / "out", record=tmp_path / "run")
    assert len(summary.images) == IMAGES


def test_images_without_an_object_have_no_ap(dataset: CocoDataset, tmp_path: Path) -> None:
    truth = dataset.coco()
    crowds = [{**annotation, "iscrowd": 1} for annotation in truth["annotations"]]
    for left in ([], crowds):
        empty = {**truth, "annotations": left}
        with pytest.raises(ValueError, match="none of the 4 images has an object to find"):
            quiet(detector(), CocoDataset(empty, dataset.image_root, nano().data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_said_where_no_image_could_be_read(dataset: CocoDataset, tmp_path: Path) -> None:
    for name in {dataset.file_name(index) for index in range(IMAGES)}:
        (tmp_path / name).write_text("no picture")
    blind = CocoDataset(dataset.coco(), tmp_path, nano().data)
    with pytest.raises(
        NothingMeasured, match="none of the 4 images could be read.*jpg: text, not a picture"
    ):
        quiet(detector(), blind, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()


def test_images_that_could_not_be_read_stand_in_the_table(
    dataset: CocoDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(IMAGES):
        shutil.copy(dataset.image_root / dataset.file_name(index), tmp_path)
    (tmp_path / dataset.file_name(1)).write_text("no picture")
    torn = CocoDataset(dataset.coco(), tmp_path, nano().data)
    text = report([quiet(detector(), torn, tmp_path / "out")])
    assert caplog.messages == [
        f"{tmp_path / dataset.file_name(1)}: text, not a picture; replace the file or leave it out"
    ]
    assert "1 of 4 images could not be read and count as empty:" in text
    assert (
        f"- {dataset.image_ids[1]}: {tmp_path / dataset.file_name(1)}: text, not a picture" in text
    )


def test_boxes_alone_are_measured_as_boxes(dataset: CocoDataset, tmp_path: Path) -> None:
    truth = dataset.coco()
    for one in truth["annotations"]:
        one["segmentation"] = []
    summary = quiet(detector(), CocoDataset(truth, dataset.image_root, nano().data), tmp_path)
    objects, text = len(truth["annotations"]), report([summary])
    assert f"{objects} objects have no mask: box AP counts them, mask AP leaves them out." in text
    row = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert row[4] != "–" and row[6:8] == ["–", "–"]
    assert summary.to_json()["objects_without_mask"] == objects


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"intervention": "random", "layers": [2]}, "decides, blocks 4–12; found block 3"),
        ({"intervention": "off", "layers": [-1, 12]}, "decides, blocks 4–12; found blocks 0, 13"),
        ({"layers": [4]}, "found neither"),
        ({"intervention": "reverse"}, "expected one of learned, random"),
    ],
)
def test_masks_that_would_change_nothing_are_refused(
    dataset: CocoDataset, tmp_path: Path, options: dict, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        quiet(detector(), dataset, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_data_set_of_other_classes_is_refused(dataset: CocoDataset, tmp_path: Path) -> None:
    truth = dataset.coco()
    extra = {**truth, "categories": [*truth["categories"], {"id": 50, "name": "more"}]}
    with pytest.raises(ValueError, match="9 classes and the model"):
        quiet(detector(), CocoDataset(extra, dataset.image_root, nano().data), tmp_path)


def test_an_evaluation_does_not_replace_another(dataset: CocoDataset, tmp_path: Path) -> None:
    quiet(detector(), dataset, tmp_path, limit=2, weights="a")
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(FileError) as error:
        quiet(detector(seed=1), dataset, tmp_path, limit=1, weights="b", inference="sample")
    for fact in ("weights: 'a' there, 'b' now", "limit: 2 there, 1 now", "inference: 'topk' there"):
        assert fact in str(error.value)
    assert "weights_sha256" in str(error.value) and "belongs to another evaluation" in str(
        error.value
    )
    assert (tmp_path / "summary.json").read_bytes() == before
    quiet(detector(), dataset, tmp_path, limit=3, weights="a")  # of more images: it goes on


@pytest.mark.parametrize(
    "otherwise", [{"exif": "on"}, {"class_map": {"ring": "star", "star": "ring"}}]
)
def test_an_evaluation_is_not_gone_on_with_where_pictures_or_classes_are_read_otherwise(
    dataset: CocoDataset, tmp_path: Path, otherwise: dict
) -> None:
    (name,), folder = otherwise, dataset.image_root.parent
    changed = CocoDataset(
        folder / "annotations" / "instances_val2017.json",
        dataset.image_root,
        dataset.config,
        class_names=dataset.class_names,
        **otherwise,
    )
    scoring = Scoring(draws=2, record=tmp_path / "run")
    options = PassOptions(progress=False, limit=1)
    evaluate(detector(), dataset, tmp_path / "numbers", options, scoring)
    for output in ("numbers", "others"):  # the folder of numbers, and the run alone
        with pytest.raises(FileError, match=f"{name}.*: nothing there"):
            evaluate(detector(), changed, tmp_path / output, options, scoring)
    assert name not in (tmp_path / "numbers" / "summary.json").read_text()


def test_a_damaged_summary_in_the_way_is_named(dataset: CocoDataset, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(FileError, match=r"summary\.json is half-written or damaged.*delete it"):
        quiet(detector(), dataset, tmp_path)


def test_images_too_crowded_for_what_ap_counts_are_told(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    truth = dataset.coco()
    most = max(
        sum((one["image_id"], one["category_id"]) == key for one in truth["annotations"])
        for key in {(one["image_id"], one["category_id"]) for one in truth["annotations"]}
    )
    assert "AP counts" not in report([quiet(detector(), dataset, tmp_path / "all")])
    many = CocoDataset(
        truth | {"annotations": crowded(truth["annotations"])}, dataset.image_root, nano().data
    )
    text = report([quiet(detector(), many, tmp_path / "many")])
    assert "1 image has more objects of a class than AP counts detections: 100" in text
    scoring = Scoring(draws=2, counted=101 + most)
    summary = evaluate(detector(), many, tmp_path / "more", PassOptions(progress=False), scoring)
    text = report([summary])
    assert f"AP counts {101 + most} detections an image and class; COCO's 100." in text
    assert "more objects of a class" not in text
    facts = read_evaluation(tmp_path / "more" / "summary.json").facts
    other = read_evaluation(tmp_path / "many" / "summary.json").facts
    assert facts.data == f"{other.data}, {101 + most} detections"
    assert facts.data_sha256 != other.data_sha256  # never subtracted
    with pytest.raises(FileError, match="counted"):
        quiet(detector(), many, tmp_path / "more")


def crowded(annotations: list[dict]) -> list[dict]:
    """The first object a hundred times more."""
    first = annotations[0]
    return annotations + [{**first, "id": 10_000 + number} for number in range(100)]


def test_an_evaluation_without_boundaries_does_not_replace_one_with_them(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model, how = detector(), PassOptions(progress=False, limit=1)
    evaluate(model, dataset, tmp_path, how, Scoring(draws=2, boundary=True))
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(FileError, match="AP of boundaries, which would be lost: add --boundary"):
        evaluate(model, dataset, tmp_path, how, Scoring(draws=2))
    assert (tmp_path / "summary.json").read_bytes() == before
    evaluate(model, dataset, tmp_path, how, Scoring(draws=2, boundary=True))


def test_a_table_of_the_first_images_alone_says_so(dataset: CocoDataset, tmp_path: Path) -> None:
    """The data may be sorted, by class or place."""
    part = report([quiet(detector(), dataset, tmp_path / "part", limit=3)])
    assert "\n\nOf the first 3 of 4 images alone (--limit).\n\n" in part
    assert "alone" not in report([quiet(detector(), dataset, tmp_path / "whole")])
    for limit in (IMAGES, IMAGES + 1):
        every = quiet(detector(), dataset, tmp_path / f"{limit}", limit=limit)
        assert "alone" not in report([every])
    quiet(detector(), dataset, tmp_path / "whole")  # goes on in the folder of before


def test_masks_lent_by_equal_weights_that_decide_otherwise_are_other_masks(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    dense, half = detector("dense"), detector(keep_ratios=[0.5] * 9)
    quiet(dense, dataset, tmp_path, limit=1, masks_from=detector())
    with pytest.raises(FileError, match="masks_from_settings.targets"):
        quiet(dense, dataset, tmp_path, limit=1, masks_from=half)
