"""Errors beside the tokens they are about."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.runs import write_misses, write_run

from analysis.numbers import error_causes
from analysis.numbers.error_types import TYPES, Rule, errors_of
from analysis.numbers.matching import box_shares, object_shares
from svit.core.types import Detections, Target, TokenGrid, TokenTrace
from svit.runs.rescue import Rescue


def samples(run):
    return run.samples("trace", "target", "detections")


def errors_in(run):
    return errors_of((trace.image_id, *rest) for trace, *rest in samples(run))


def test_boxes_use_tokens_as_masks_of_their_rectangles_do():
    random = np.random.default_rng(0)
    grid = TokenGrid((100, 150), (80, 120), (8, 9))
    trace = TokenTrace(1, grid, random.random((4, *grid.grid_hw)) < 0.5)
    boxes = np.array(
        [[3, 7, 40, 90], [100, 0, 150, 100], [0, 0, 150, 100], [60, 60, 61, 62]], float
    )
    masks = np.zeros((4, 100, 150), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    target = Target(boxes, np.zeros(4, int), masks)
    np.testing.assert_allclose(box_shares(trace, boxes), object_shares(trace, target), atol=1e-5)
    assert np.isnan(box_shares(trace, np.array([[5, 5, 5, 5.0]]))).all()


def test_a_missed_object_is_told_with_its_last_block_and_whether_the_other_run_finds_it(tmp_path):
    run = write_misses(tmp_path / "a")
    dense = write_misses(tmp_path / "b", "dense", find=True)
    causes = error_causes.causes_of(samples(run), run.class_names, other=errors_in(dense))
    missed = causes.frame[causes.frame["error"] == "missed"]
    assert len(missed) == 3 and (missed["object"] == 1).all()
    assert (missed["last"] == 4).all() and (missed["dropped"] == 5).all()
    assert missed["found_there"].all() and missed["score"].isna().all()
    counts = error_causes.count_frame(causes.frame).set_index("error").loc["missed"]
    assert counts[["last", "errors", "found_there", "asked"]].tolist() == [4, 3, 3, 0]
    assert causes.unfound["error"].tolist() == ["missed"] * 3


def test_errors_tell_what_keeping_the_objects_tokens_did(tmp_path):
    run = write_misses(tmp_path / "a")
    none = float("nan")
    rows = [
        (run.image_ids[0], 1, none, 0.7, [none, 0.6]),
        (run.image_ids[1], 1, 0.3, 0.4, [none, none]),
    ]
    names = ["image_id", "object", "before", "after", "random"]
    facts = {"blocks": [4, 5], "draws": 2, "score": 0.5, "iou": 0.5, "kind": "box"}
    rescue = Rescue(facts, pd.DataFrame(rows, columns=names))
    rule = Rule(score=0.5)
    causes = error_causes.causes_of(samples(run), run.class_names, rule, rescue=rescue)
    told = causes.frame[causes.frame["error"] == "missed"].set_index("image_id")
    assert told.loc[run.image_ids[0], ["rescued", "chance", "score_after"]].tolist() == [
        True,
        0.5,
        0.7,
    ]
    assert told.loc[run.image_ids[1], ["rescued", "chance", "score_before"]].tolist() == [
        False,
        0,
        0.3,
    ]
    assert (
        told.loc[run.image_ids[2:], ["rescued", "chance"]].isna().all(axis=None)
    )  # not asked about
    assert causes.unfound["rescued"].tolist()[:2] == [True, False]
    (counts,) = error_causes.count_frame(causes.unfound).to_dict("records")
    assert (counts["errors"], counts["asked"], counts["rescued"], counts["chance"]) == (
        3,
        2,
        1,
        0.5,
    )
    (whole,) = error_causes.rescue_frame(causes.unfound, run.image_ids, draws=50).to_dict("records")
    assert whole["difference"] == 0.5 and whole["low"] == 0 < whole["high"]
    films = {one: place // 2 for place, one in enumerate(run.image_ids)}
    drawn = error_causes.rescue_frame(causes.unfound, run.image_ids, videos=films)
    apart = rescue.summary(run.image_ids, videos=films)["difference"]
    assert (*drawn.loc[0, ["difference", "low", "high"]],) == (apart.value, *apart.bounds)
    alone = error_causes.rescue_frame(causes.unfound, run.image_ids, videos=dict.fromkeys(films, 0))
    assert alone[["low", "high"]].isna().all(axis=None)
    sizes = error_causes.rescue_frame(causes.unfound, run.image_ids, "size", draws=5)
    assert sizes["asked"].sum() == 2
    without = error_causes.causes_of(samples(run), run.class_names, rule).frame
    assert without[["rescued", "chance", "score_before", "score_after"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="IoU 0.7 of box, found IoU 0.5 of box"):
        error_causes.causes_of(samples(run), rule=Rule(found=0.7), rescue=rescue)


def test_a_background_detection_is_told_by_its_own_box():
    grid = TokenGrid((64, 64), (64, 64), (4, 4))
    keep = np.ones((2, 4, 4), bool)
    keep[1, 2:] = False
    trace = TokenTrace(1, grid, keep)
    target = Target(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 64, 64), bool))
    found = Detections(np.array([[0, 40, 30, 64], [0, 0, 30, 30.0]]), [0.9, 0.8], [0, 1])
    frame = error_causes.causes_of([(trace, target, found)], ("disc",)).frame
    assert frame["error"].tolist() == ["background"] * 2
    assert frame["last"].tolist() == [1, 2] and frame["class"].tolist() == ["disc", "class 1"]
    assert frame["area"].tolist() == [720, 900] and frame["found_there"].isna().all()


def test_costs_of_all_groups_choose_every_error_once(tmp_path):
    run = write_misses(tmp_path / "a")
    causes = error_causes.causes_of(samples(run), run.class_names)
    whole = error_causes.cost_frame(causes, draws=20)
    assert whole["error"].tolist() == list(TYPES)
    assert whole["errors"].tolist() == causes.errors.counts().tolist()
    assert (whole["low"] <= whole["high"]).all()
    groups = error_causes.cost_frame(causes, "size", draws=20)
    assert groups["errors"].sum() == len(causes.frame) > 0
    assert error_causes.cost_frame(
        error_causes.causes_of(samples(write_run(tmp_path / "b"))), "size", 2
    ).empty


def test_errors_are_grouped_by_what_is_joined_to_them(tmp_path):
    run = write_misses(tmp_path / "a")
    causes = error_causes.causes_of(samples(run), run.class_names)
    kinds = run.images[["image_id"]].assign(kind=["day", "night", "night"])
    joined = causes.frame.merge(kinds, on="image_id")
    counts = error_causes.count_frame(joined[joined["error"] == "missed"], "kind")
    assert dict(zip(counts["kind"], counts["errors"], strict=True)) == {"day": 1, "night": 2}
    night = causes.chosen(joined[(joined["kind"] == "night") & (joined["error"] == "missed")])
    assert night.objects.sum() == 2 and not night.detections.any()


def test_a_run_differs_from_itself_by_nothing(tmp_path):
    errors = errors_in(write_run(tmp_path / "a"))
    apart = error_causes.difference_frame(errors, errors, draws=20)
    assert not apart[["cost", "low", "high"]].any(axis=None) and (apart["above"] == 0.5).all()


def test_runs_of_other_images_are_not_compared(tmp_path):
    run, other = write_misses(tmp_path / "a"), errors_of([])
    with pytest.raises(ValueError, match="same images"):
        error_causes.causes_of(samples(run), other=other)
    with pytest.raises(ValueError, match="same images"):
        error_causes.causes_of([], other=errors_in(run))
    with pytest.raises(ValueError, match="images to draw from, found none"):
        other.costs(draws=2)


def test_no_images_make_no_errors():
    causes = error_causes.causes_of([], rule=Rule(score=0.5))
    assert causes.frame.empty and causes.unfound.empty
