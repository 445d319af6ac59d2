"""Missed objects: TIDE's error, and what comes nearest at any score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.runs import write_dense, write_misses

from analysis.numbers import matching, missed, per_image
from svit.core.types import Detections, Target, TokenGrid, TokenTrace
from svit.runs.rescue import Rescue

CLASSES = ("disc", "ball")
BOX = [10, 10, 50, 50]


def told(boxes, scores, labels, objects=((10, 10, 50, 50),), classes=(0,)):
    """The missed objects of one picture, from score 0.5 on."""
    grid = TokenGrid((64, 64), (64, 64), (4, 4))
    masks = np.zeros((len(objects), 64, 64), bool)
    for mask, (left, top, right, bottom) in zip(masks, objects, strict=True):
        mask[top:bottom, left:right] = True
    target = Target(np.array(objects, float), np.array(classes), masks)
    found = Detections(np.array(boxes, float).reshape(-1, 4), np.array(scores), np.array(labels))
    trace = TokenTrace(7, grid, np.ones((2, 4, 4), bool))
    frame = matching.error_frame([(trace, target, found)], CLASSES, score=0.5)
    seen = [(7, target, found)]
    types = missed.type_frame(seen, CLASSES)
    return missed.missed_frame(frame, missed.nearest_frame(seen, CLASSES), types)


@pytest.mark.parametrize(
    ("box", "score", "label", "error", "match"),
    [
        (BOX, 0.41, 0, "missed", "unsure"),
        (BOX, 0.9, 1, "classification", "classification"),
        (BOX, 0.2, 1, "missed", "classification"),  # too unsure to be TIDE's reason
        ([10, 10, 50, 25], 0.9, 0, "localisation", "localisation"),
        ([10, 10, 50, 25], 0.9, 1, "missed", "both"),
        ([55, 55, 60, 60], 0.9, 0, "missed", "nothing"),
    ],
)
def test_the_nearest_detection_is_told_beside_tides_error(box, score, label, error, match):
    (row,) = told([box], [score], [label]).to_dict("records")
    assert (row["error"], row["match"]) == (error, match)
    if match == "nothing":
        assert row["match_class"] == "" and np.isnan(row["match_score"])
    else:
        assert row["match_class"] == CLASSES[label]
        assert row["match_score"] == pytest.approx(score)


def test_a_right_one_that_is_unsure_comes_before_a_sure_one_of_another_class():
    (row,) = told([BOX, BOX], [0.9, 0.41], [1, 0]).to_dict("records")
    assert row["error"] == "classification" and row["match"] == "unsure"
    assert row["match_score"] == pytest.approx(0.41)


def test_a_detection_that_finds_the_neighbour_is_told_as_such():
    objects = ((10, 10, 50, 50), (12, 10, 52, 50))
    (row,) = told([BOX], [0.9], [0], objects, (0, 0)).to_dict("records")
    assert row["object"] == 1 and row["match"] == "duplicate" and row["match_iou"] > 0.8


def test_without_detections_nothing_is_near():
    (row,) = told([], [], []).to_dict("records")
    assert row["error"] == "missed" and row["match"] == "nothing"
    assert set(missed.MATCHES) >= {row["match"]}


def test_every_missed_object_is_listed_whatever_its_tokens_did_and_can_be_ordered(tmp_path):
    run, dense = write_misses(tmp_path / "a"), write_dense(tmp_path / "b")
    ids = per_image.scored_ids(run, dense)
    found = (one for (one,) in dense.samples("detections", ids=ids))
    samples = run.samples("trace", "target", "detections", ids=ids)
    frame = matching.error_frame(samples, CLASSES, found, score=0.99)
    pairs = zip(ids, run.samples("target", "detections", ids=ids), strict=True)
    seen = [(one, *rest) for one, rest in pairs]
    types = missed.type_frame(seen, CLASSES, 0.99)
    rows = missed.missed_frame(frame, missed.nearest_frame(seen, CLASSES), types)
    assert len(rows) == 6 and set(rows["fate"]) == {"kept", "lost"}
    assert rows.loc[rows["object"] == 0, "match"].tolist() == ["unsure"] * 3
    rows = missed.with_rescue(rows, None, 0.99)
    first = missed.ordered(rows, "second run finds it")
    assert first["dense_found"].tolist() == sorted(first["dense_found"], reverse=True)
    assert first["dropped"].tolist()[0] == 5
    for order, (column, ascending) in missed.ORDERS.items():
        values = missed.ordered(rows, order)[column].dropna()
        assert list(values) == sorted(values, reverse=not ascending)


def test_what_keeping_its_tokens_did_stands_beside_an_object_that_was_asked_about():
    rows = told([BOX], [0.41], [0])
    asked = {
        "image_id": [7],
        "object": [0],
        "before": [0.41],
        "after": [0.6],
        "random": [[0.7, 0.2]],
    }
    rescue = Rescue({"score": 0.5, "draws": 2}, pd.DataFrame(asked))
    (row,) = missed.with_rescue(rows, rescue, 0.5).to_dict("records")
    assert row["rescued"] is True and row["after"] == 0.6 and row["chance"] == 0.5
    for nothing in (missed.with_rescue(rows, rescue, 0.6), missed.with_rescue(rows, None, 0.5)):
        assert nothing[["after", "rescued", "chance"]].isna().all(axis=None)
