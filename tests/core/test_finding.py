"""Detections find objects as pycocotools says."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval
from support.runs import crowd_of

from svit.core import finding
from svit.core.coco_rows import result_rows
from svit.core.types import Detections, Target
from svit.evaluation.average_precision import load_truth

SIDE = 24


def filled(boxes: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    left, top, right, bottom = (side[:, None, None] for side in np.asarray(boxes).reshape(-1, 4).T)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def target_of(boxes, labels=None, crowd=None) -> Target:
    boxes = np.array(boxes, float).reshape(-1, 4)
    labels = np.zeros(len(boxes), int) if labels is None else labels
    return Target(boxes, labels, filled(boxes), crowd)


def found_of(boxes, scores, labels=None) -> Detections:
    boxes = np.array(boxes, float).reshape(-1, 4)
    labels = np.zeros(len(boxes), int) if labels is None else labels
    return Detections(boxes, scores, labels, filled(boxes))


A, B = [0, 0, 10, 10], [12, 0, 22, 10]


def test_each_detection_takes_the_best_free_object():
    found = found_of([A, A, B], [0.9, 0.8, 0.7])
    matches = finding.match(found, target_of([A, B]))
    assert matches.detection.tolist() == [0, 2]
    assert matches.target.tolist() == [0, -1, 1]


def test_another_class_finds_nothing():
    matches = finding.match(found_of([A], [0.9], [1]), target_of([A]))
    assert matches.detection.tolist() == [-1] and matches.target.tolist() == [-1]


def test_a_crowd_takes_any_number_and_is_neither_right_nor_wrong():
    found = found_of([[0, 0, 5, 5], [5, 5, 10, 10], B], [0.9, 0.8, 0.7])
    matches = finding.match(found, target_of([A, B], crowd=[True, False]))
    assert matches.ignored.tolist() == [True, True, False]
    assert matches.detection.tolist() == [1, 2]


def test_detections_below_the_score_find_nothing():
    matches = finding.match(found_of([A, B], [0.9, 0.3]), target_of([A, B]), score=0.5)
    assert matches.detection.tolist() == [0, -1]


def test_nothing_meets_nothing():
    empty = finding.match(found_of([], []), target_of([]))
    assert not len(empty.detection) and not len(empty.target)
    assert finding.match(found_of([], []), target_of([A])).detection.tolist() == [-1]
    assert finding.match(found_of([A], [1.0]), target_of([])).target.tolist() == [-1]


def test_masks_that_are_not_there_are_asked_for():
    boxes_only = Detections(np.array([A]), np.array([0.5]), np.array([0]))
    with pytest.raises(ValueError, match="boxes only"):
        finding.match(boxes_only, target_of([A]), kind="mask")
    with pytest.raises(ValueError, match="expected 'box' or 'mask', found 'keypoint'"):
        finding.match(boxes_only, target_of([A]), kind="keypoint")


CORNER, LENGTH = st.integers(0, 14), st.integers(2, 10)
BOX = st.tuples(CORNER, CORNER, LENGTH, LENGTH).map(
    lambda side: [side[0], side[1], side[0] + side[2], side[1] + side[3]]
)
OBJECT = st.tuples(BOX, st.integers(0, 1), st.booleans())
DETECTION = st.tuples(BOX, st.integers(0, 1), st.sampled_from([0.9, 0.7, 0.7, 0.5, 0.2]))


def coco_matches(target: Target, found: Detections, kind: str) -> tuple[set, set]:
    """(detection, object) pairs and ignored detections by pycocotools, ids from 1."""
    annotations = []
    for index, box in enumerate(target.boxes_xyxy.tolist()):
        code = coco_mask.encode(np.asfortranarray(target.masks[index], np.uint8))
        annotations.append(
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": int(target.labels[index]),
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "segmentation": code,
                "area": float(target.masks[index].sum()),
                "iscrowd": int(target.crowd[index]),
            }
        )
    truth = load_truth(
        {
            "images": [{"id": 1, "height": SIDE, "width": SIDE}],
            "annotations": annotations,
            "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
        }
    )
    with contextlib.redirect_stdout(io.StringIO()):
        results = truth.loadRes(result_rows(1, found, [0, 1]))
        evaluation = COCOeval(truth, results, {"box": "bbox", "mask": "segm"}[kind])
        evaluation.params.maxDets = [1, 10, max(100, len(found))]  # of AP, not of matching
        evaluation.evaluate()
    whole = [e for e in evaluation.evalImgs if e and e["aRng"] == [0, 1e10]]
    pairs, ignored = set(), set()
    for entry in whole:
        at_half = zip(entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0], strict=True)
        for detection, match, ignore in at_half:
            if match:
                pairs.add((int(detection) - 1, int(match) - 1))
            if ignore:
                ignored.add(int(detection) - 1)
    return pairs, ignored


@pytest.mark.parametrize("kind", ["box", "mask"])
@given(st.lists(OBJECT, min_size=1, max_size=6), st.lists(DETECTION, min_size=1, max_size=8))
@settings(max_examples=80)
def test_matches_equal_those_of_pycocotools(kind, truth, seen):
    target = target_of(*map(list, zip(*truth, strict=True)))
    seen = sorted(seen, key=lambda entry: -entry[2])
    boxes, labels, scores = zip(*seen, strict=True)
    found = found_of(list(boxes), list(scores), list(labels))
    matches = finding.match(found, target, kind=kind)
    pairs = {(d, int(o)) for d, o in enumerate(matches.target) if o >= 0}
    assert (pairs, set(np.flatnonzero(matches.ignored))) == coco_matches(target, found, kind)


@pytest.mark.parametrize("seed", range(3))
def test_more_than_a_hundred_detections_are_matched_as_pycocotools_matches_all_of_them(seed):
    random = np.random.default_rng(seed)
    corner = random.integers(0, 14, (170, 2))
    boxes = np.concatenate([corner, corner + random.integers(2, 10, (170, 2))], axis=1)
    target = target_of(boxes[:150], (random.random(150) < 0.1).astype(int))
    scores = np.sort(random.random(170))[::-1]
    found = found_of(random.permutation(boxes), scores, (random.random(170) < 0.1).astype(int))
    matches = finding.match(found, target)
    pairs = {(d, int(o)) for d, o in enumerate(matches.target) if o >= 0}
    assert (pairs, set()) == coco_matches(target, found, "box")


def test_all_objects_of_a_crowded_image_are_found_by_as_many_detections():
    target, found = crowd_of(150)
    matches = finding.match(found, target)
    assert matches.detection.tolist() == matches.target.tolist() == list(range(150))
