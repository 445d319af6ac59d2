"""Missed objects asked about again, on a model with random weights."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.scenes import detector, shapes

from svit.data.coco import CocoDataset
from svit.data.shapes import write_dataset
from svit.evaluation import rescue as module
from svit.evaluation.passes import PassOptions
from svit.evaluation.record import record_run
from svit.evaluation.rescue import Question, rescue
from svit.probing.edits import EditError
from svit.runs.rescue import read_rescue, rescue_path
from svit.runs.run import RunError, open_run
from svit.system.files import FileError
from svit.system.processes import Ranks

QUIET = PassOptions(progress=False)
ASK = Question(draws=2, iou=0.1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def model():
    return detector(detections=20)


@pytest.fixture(scope="module")
def original(dataset, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "run"
    record_run(model, dataset, path, replace(QUIET, limit=2), weights="random")
    return path


@pytest.fixture
def recorded(model, original, tmp_path):
    return model, shutil.copytree(original, tmp_path / "run")


def test_every_object_that_is_not_found_is_asked_about_once(dataset, recorded):
    model, path = recorded
    run, before = open_run(path), open_run(path).content_hash()
    found = rescue(model, dataset, path, ASK, QUIET)
    objects = sum(len(target) for target in run.iter_targets())
    assert len(found.frame) == objects == len(found.frame.drop_duplicates(["image_id", "object"]))
    assert found.facts["blocks"] == list(range(4, 13)) and found.facts["draws"] == 2
    added = np.array(found.frame["random_added"].tolist())
    assert (found.frame["added"] > 0).any() and added.shape == (objects, 2)
    assert (added[:, 0] > 0).any()
    assert open_run(path).content_hash() == before


def test_an_object_that_is_found_is_not_asked_about(dataset, recorded):
    model, path = recorded
    found = rescue(model, dataset, path, replace(ASK, score=0.0), QUIET)
    assert found.frame["before"].isna().all()


def test_a_picture_that_was_changed_is_not_asked_about(model, tmp_path):
    dataset, path = shapes(tmp_path / "shapes"), tmp_path / "run"
    record_run(model, dataset, path, replace(QUIET, limit=1))
    dataset.path(0).write_bytes(dataset.path(1).read_bytes())
    with pytest.raises(RunError, match="is not the file that .* was recorded from"):
        rescue(model, dataset, path, ASK, QUIET)


def test_answers_do_not_depend_on_batches_or_processes(dataset, recorded):
    model, path = recorded
    one = rescue(model, dataset, path, ASK, QUIET).frame
    rescue_path(path, range(4, 13)).unlink()
    for rank in (0, 1):
        ranks = Ranks(rank, 2, next(model.parameters()).device)
        rescue(model, dataset, path, ASK, replace(QUIET, batch=9), ranks=ranks)
    both = read_rescue(path).frame.sort_values(["image_id", "object"], ignore_index=True)
    one = one.sort_values(["image_id", "object"], ignore_index=True)
    np.testing.assert_allclose(both["after"], one["after"], atol=1e-5)
    assert both["added"].tolist() == one["added"].tolist()
    for here, there in zip(both["random"], one["random"], strict=True):
        np.testing.assert_allclose(here, there, atol=1e-5)


def test_an_interrupted_question_goes_on_where_it_stopped(dataset, recorded, monkeypatch):
    model, path = recorded
    whole = rescue(model, dataset, path, ASK, QUIET).frame
    rescue_path(path, range(4, 13)).unlink()
    asked, seen = module._asked, []

    def stopping(*args):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(args[1])
        return asked(*args)

    monkeypatch.setattr(module, "_asked", stopping)
    with pytest.raises(KeyboardInterrupt):
        rescue(model, dataset, path, ASK, QUIET)
    assert len(read_rescue(path).frame) == 2
    seen.clear()
    monkeypatch.setattr(module, "_asked", lambda *args: seen.append(args[1]) or asked(*args))
    again = rescue(model, dataset, path, ASK, QUIET).frame
    assert len(seen) == len(whole) - 2
    assert again[["image_id", "object"]].equals(whole[["image_id", "object"]])


def test_questions_that_cannot_be_asked_are_refused(dataset, recorded, tmp_path):
    model, path = recorded
    with pytest.raises(EditError, match="found block 3"):
        rescue(model, dataset, path, replace(ASK, layers=(2, 3)), QUIET)
    with pytest.raises(RunError, match="prunes nothing, so no tokens can be given back"):
        rescue(detector("dense"), dataset, path, ASK, QUIET)
    with pytest.raises(ValueError, match="draws: expected a whole number from 1, found 0"):
        Question(draws=0)
    with pytest.raises(RunError, match="not a recorded run"):
        rescue(model, dataset, tmp_path / "none", ASK, QUIET)
    rescue(model, dataset, path, replace(ASK, score=0.0), QUIET)
    with pytest.raises(FileError, match=r"another question.*\n.*score: 0.0 there, 0.5 now"):
        rescue(model, dataset, path, ASK, QUIET)


def test_another_model_or_other_images_than_the_runs_are_refused(dataset, recorded, tmp_path):
    model, path = recorded
    with pytest.raises(RunError, match="another model or other masks.*\n  weights_sha256"):
        rescue(detector(seed=1, detections=20), dataset, path, ASK, QUIET)
    with pytest.raises(RunError, match="images that the data set lacks"):
        rescue(model, shapes_of_others(tmp_path), path, ASK, QUIET)
    with pytest.raises(RunError, match="other masks.*\n  dtype: None there, .bfloat16. now"):
        rescue(model, dataset, path, ASK, replace(QUIET, dtype="bfloat16"))
    fewer = detector(detections=2)
    with pytest.raises(RunError, match="other masks.*\n  detector.max_detections: 20 there, 2 now"):
        rescue(fewer, dataset, path, ASK, QUIET)
    moved = dataset.coco()
    box = {"bbox": [0, 0, 5, 5], "segmentation": [], "area": 25}
    objects = [{**one, **box} for one in moved["annotations"]]
    other = CocoDataset({**moved, "annotations": objects}, dataset.image_root, dataset.config)
    with pytest.raises(RunError, match="holds other annotations of image"):
        rescue(model, other, path, ASK, QUIET)


def shapes_of_others(folder):
    write_dataset(folder / "b", 0, 1, seed=90, size=64, workers=1, progress=False)
    json = folder / "b" / "annotations" / "instances_val2017.json"
    return CocoDataset(json, folder / "b" / "val2017", detector().config.data)
