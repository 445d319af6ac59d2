"""`svit record`: complete, repeatable, resumable, and honest about images it could not read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scenes import IMAGES, SVIT, detector, nano, photos_with_damage, shapes

from svit.data.coco import CocoDataset, ImageFiles
from svit.detectors.base import Detector
from svit.evaluation.passes import (
    ALONE,
    ImageResult,
    PassOptions,
    batches_of,
    inference_mode,
    run_detector,
)
from svit.evaluation.record import record_run
from svit.runs.run import RunError, open_run
from svit.system.processes import Ranks


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return shapes(tmp_path_factory.mktemp("record"))


def quiet(
    dataset: CocoDataset,
    run: Path,
    model: Detector | None = None,
    picture_side: int = 640,
    ranks: Ranks = ALONE,
    weights: str = "",
    **options,
) -> int:
    how = PassOptions(progress=False, **options)
    sizes = {"picture_side": picture_side, "ranks": ranks}
    return record_run(model or detector(), dataset, run, how, **sizes, weights=weights)


def test_a_run_holds_masks_scores_detections_objects_pictures_and_their_origin(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model = detector()
    assert quiet(dataset, tmp_path / "run", model=model, seed=5, weights="nano") == 0
    run = open_run(tmp_path / "run")
    assert run.finished and list(run.image_ids) == dataset.image_ids
    with inference_mode(model):
        first = next(run_detector(model, dataset, [[0]], PassOptions()))
    trace = run.trace(dataset.image_ids[0])
    assert (trace.keep == first.trace.keep).all() and trace.keep.sum(axis=(1, 2))[3] == 10
    np.testing.assert_array_equal(trace.scores, first.trace.scores)
    found = run.detections(dataset.image_ids[0], masks=True)
    assert (found.boxes_xyxy == first.detections.boxes_xyxy).all() and len(found) == 3
    assert (found.masks == first.detections.masks).all()
    assert len(run.target(dataset.image_ids[0])) == len(dataset.target(0))
    assert run.picture(dataset.image_ids[0]).shape == (64, 64, 3)
    assert run.images["seconds"].gt(0).all()
    facts = run.provenance
    assert (facts["inference"], facts["seed"], facts["weights"]) == ("topk", 5, "nano")
    assert facts["targets"][3:] == [0.6] * 9 and facts["class_names"] == dataset.class_names
    assert {"torch", "python", "svit"} <= facts["versions"].keys()
    assert len(facts["weights_sha256"]) == len(facts["data_sha256"]) == 64


def test_a_recording_leaves_the_model_as_it_was(dataset: CocoDataset, tmp_path: Path) -> None:
    model = detector().train()
    quiet(dataset, tmp_path / "run", model=model, inference="sample", seed=9, limit=1)
    assert model.training and model.seed == 0 and model.backbone.method.inference == "topk"


@pytest.mark.parametrize("batch", [1, 3])
def test_a_recording_in_pieces_equals_an_unbroken_one(
    dataset: CocoDataset, tmp_path: Path, batch: int
) -> None:
    options = {"inference": "sample", "batch": batch, "picture_side": 0}
    quiet(dataset, tmp_path / "whole", **options)
    quiet(dataset, tmp_path / "pieces", limit=1, **options)
    assert len(open_run(tmp_path / "pieces")) == 1
    quiet(dataset, tmp_path / "pieces", **options)
    whole, pieces = open_run(tmp_path / "whole"), open_run(tmp_path / "pieces")
    assert len(pieces) == len(whole) == IMAGES
    assert whole.content_hash() == pieces.content_hash()


def repainted(path: Path) -> None:
    """Another picture of the same size under the same name."""
    with Image.open(path) as picture:
        pixels = 255 - np.asarray(picture.convert("RGB"))
    Image.fromarray(pixels).save(path)


def test_a_recording_does_not_go_on_with_pictures_that_were_changed(tmp_path: Path) -> None:
    dataset, run = shapes(tmp_path / "shapes"), tmp_path / "run"
    quiet(dataset, run, limit=1)
    before = open_run(run).content_hash()
    repainted(dataset.path(IMAGES - 1))  # not recorded yet
    path = dataset.path(0)
    kept = path.read_bytes()
    repainted(path)
    with pytest.raises(RunError, match=re.escape(f"{path} (SHA-256 ")) as refused:
        quiet(dataset, run)
    assert "put the recorded pictures back, or record" in str(refused.value)
    assert open_run(run).content_hash() == before
    path.write_bytes(kept)
    quiet(dataset, run)
    assert open_run(run).finished and len(open_run(run)) == IMAGES
    repainted(path)  # a finished one would be read back as if it were of these pictures
    with pytest.raises(RunError, match="is not the file that"):
        quiet(dataset, run)
    path.unlink()
    quiet(dataset, run)  # what is gone was not changed


def test_two_ranks_record_what_one_records(dataset: CocoDataset, tmp_path: Path) -> None:
    options = {"inference": "sample", "batch": 2, "picture_side": 0}
    quiet(dataset, tmp_path / "one", **options)
    for rank in range(2):
        quiet(dataset, tmp_path / "two", ranks=Ranks(rank, 2, ALONE.device), **options)
    one, two = open_run(tmp_path / "one"), open_run(tmp_path / "two")
    assert two.finished and two.content_hash() == one.content_hash()


def test_batches_are_cut_once_and_dealt_out() -> None:
    assert batches_of(5, 2) == [[0, 1], [2, 3], [4]]
    ranks = [Ranks(rank, 2, ALONE.device) for rank in range(2)]
    assert [batches_of(5, 2, rank) for rank in ranks] == [[[0, 1], [4]], [[2, 3]]]
    assert batches_of(0, 4) == []
    assert batches_of(5, 2, limit=1) == [[0, 1]] and batches_of(5, 2, limit=9)[-1] == [4]
    with pytest.raises(ValueError, match="at least one image, found 0"):
        batches_of(5, 0)


def test_other_settings_in_the_same_folder_are_refused(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    quiet(dataset, tmp_path / "run", limit=1)
    with pytest.raises(RunError, match="seed"):
        quiet(dataset, tmp_path / "run", seed=1)


def test_dense_models_have_no_inference_modes(dataset: CocoDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decides in one way only"):
        quiet(dataset, tmp_path / "run", model=detector("dense"), inference="topk")


def test_reading_ahead_in_processes_changes_nothing(dataset: CocoDataset) -> None:
    model = detector()
    runs = [
        list(run_detector(model, dataset, batches_of(2, 1), PassOptions(workers=workers)))
        for workers in (0, 1)
    ]
    for here, ahead in zip(*runs, strict=True):
        assert isinstance(ahead, ImageResult) and (here.trace.keep == ahead.trace.keep).all()


def test_plain_pictures_are_recorded_without_objects(tmp_path: Path) -> None:
    photos = photos_with_damage(tmp_path / "photos")
    assert quiet(ImageFiles([photos], nano().data), tmp_path / "run") == 1
    assert open_run(tmp_path / "run").target("0.png") is None
    assert SVIT["inference"] == open_run(tmp_path / "run").provenance["inference"]
