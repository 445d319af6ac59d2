"""What edits did to detections: hand-made cases of objects kept, lost, gained and missed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.runs import TARGETS, grid_for, trace_of

from analysis.figures import palette
from analysis.numbers import edit_effects
from svit.core.types import Detections, Target, TokenTrace

BOXES = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], np.float32)
NAMES = ("cat", "dog")


def found(*rows: tuple[int, int, float]) -> Detections:
    """Detections (box, label, score), best first."""
    places, labels, scores = zip(*rows) if rows else ((), (), ())
    return Detections(BOXES[list(places)].reshape(-1, 4), np.array(scores), np.array(labels, int))


def truth(crowd: int | None = None) -> Target:
    flags = np.arange(4) == (-1 if crowd is None else crowd)
    return Target(BOXES, np.array([0, 1, 0, 1]), np.ones((4, 1, 1), bool), flags)


def states(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["class"], frame["state"], strict=True))


BEFORE = found((0, 0, 0.9), (1, 1, 0.8))
AFTER = found((0, 0, 0.7), (2, 0, 0.6))


def test_annotated_objects_are_kept_lost_gained_or_missed():
    frame = edit_effects.change_frame(BEFORE, AFTER, truth(), NAMES)
    assert states(frame) == [("cat", "kept"), ("dog", "lost"), ("cat", "gained"), ("dog", "missed")]
    assert frame.loc[0, ["before", "after"]].tolist() == pytest.approx([0.9, 0.7])
    assert frame["before"].isna().tolist() == [False, False, True, True]
    assert frame.loc[2, ["left", "top", "right", "bottom"]].tolist() == [40, 0, 50, 10]


def test_crowds_are_no_objects_and_weak_detections_find_none():
    assert len(edit_effects.change_frame(BEFORE, AFTER, truth(crowd=3), NAMES)) == 3
    frame = edit_effects.change_frame(BEFORE, AFTER, truth(), NAMES, score=0.75)
    assert frame["state"].tolist() == ["lost", "lost", "missed", "missed"]


def test_scores_below_the_limit_are_told():
    weak, strong = found((0, 0, 0.41), (1, 1, 0.45)), found((0, 0, 0.44), (1, 1, 0.2))
    frame = edit_effects.change_frame(weak, strong, truth(), NAMES, score=0.45)
    assert frame["state"].tolist() == ["missed", "lost", "missed", "missed"]
    assert frame.loc[:1, "before"].tolist() == pytest.approx([0.41, 0.45])
    assert frame.loc[:1, "after"].tolist() == pytest.approx([0.44, 0.2])
    assert frame.loc[2:, ["before", "after"]].isna().all(axis=None)


def test_the_class_must_agree():
    wrong = found((0, 1, 0.9))
    assert edit_effects.change_frame(wrong, wrong, truth())["state"].tolist() == ["missed"] * 4


def test_without_truth_the_detections_before_stand_for_the_objects():
    frame = edit_effects.change_frame(BEFORE, AFTER, None)
    assert states(frame) == [("class 0", "kept"), ("class 1", "lost"), ("class 0", "gained")]


@pytest.mark.parametrize("target", [None, truth()])
def test_nothing_found_is_a_frame_with_columns(target):
    frame = edit_effects.change_frame(found(), found(), target)
    assert frame.columns.tolist() == edit_effects.COLUMNS and set(frame["state"]) <= {"missed"}


def two_traces() -> tuple[TokenTrace, TokenTrace]:
    grid = grid_for((40, 64))
    before = trace_of(1, grid, np.zeros(grid.grid_hw))
    keep = before.keep.copy()
    keep[5, 0, 0], keep[5, 0, 1] = ~keep[5, 0, 0], ~keep[5, 0, 1]
    return before, TokenTrace(1, grid, keep)


def test_tokens_say_what_the_edits_did_to_them():
    before, after = two_traces()
    frame = edit_effects.token_frame(before, after, 5).set_index(["row", "column"])
    assert len(frame) == 12  # 3 x 4 valid tokens of a padded grid of 4 x 4
    for token in ((0, 0), (0, 1), (1, 2)):
        was, now = before.keep[5][token], after.keep[5][token]
        names = {(True, True): "used", (False, False): "pruned", (False, True): "turned on"}
        assert frame.loc[token, "state"] == names.get((bool(was), bool(now)), "turned off")
    assert frame.loc[(2, 3), ["x0", "y0", "x1", "y1"]].tolist() == [48, 32, 64, 40]
    assert set(edit_effects.token_frame(before, before, 0)["state"]) == {"used"}


def test_ratios_stand_beside_each_other_and_their_mean_is_over_gated_blocks():
    before, after = two_traces()
    frame = edit_effects.ratio_frame(before, after, TARGETS)
    assert frame.groupby("masks")["block"].apply(list).tolist() == [list(range(1, 13))] * 2
    own = before.keep[3:, :3, :4].mean()
    assert edit_effects.kept_share(before, TARGETS) == pytest.approx(own)


def test_costs_are_told_with_their_change():
    before, after = two_traces()
    share, points = edit_effects.kept_change(before, after, TARGETS)
    shares = [edit_effects.kept_share(one, TARGETS) for one in (before, after)]
    assert share == shares[1] and points == pytest.approx(100 * (shares[1] - shares[0]))


def test_fewer_tokens_never_cost_more_because_more_was_found():
    before = pd.Series({"blocks": 3.0, "selection": 1.0, "fpn": 2.0, "mask_head": 2.0})
    after = pd.Series({"blocks": 2.0, "selection": 1.0, "fpn": 2.0, "mask_head": 9.0})
    costs = edit_effects.macs_change(before, after)
    assert list(costs) == ["backbone", "network"], "what pruning reaches stands first"
    assert costs == {"backbone": (3.0, -0.25), "network": (7.0, -0.125)}


def test_a_repeated_forward_is_held_against_its_record():
    assert edit_effects.record_gap(BEFORE, BEFORE, 0.5) == (0, 0)
    gone, gap = edit_effects.record_gap(BEFORE, AFTER, 0.5)
    assert gone == 1 and gap == pytest.approx(0.2)
    assert edit_effects.record_gap(BEFORE, found(), 0.85) == (1, 0)
    assert edit_effects.record_gap(BEFORE, found(), 0.95) == (0, 0)


def test_frames_lie_just_outside_of_their_boxes():
    ax = Figure().subplots()
    ax.set(xlim=(0, 100), ylim=(100, 0))
    boxes = pd.DataFrame([(10, 20, 30, 50)], columns=["left", "top", "right", "bottom"])
    edit_effects.outline(boxes, ax, palette.LOST)
    (patch,) = ax.patches
    assert (patch.get_x(), patch.get_y()) == pytest.approx((9.2, 19.2))
    assert (patch.get_width(), patch.get_height()) == pytest.approx((21.6, 31.6))


def test_without_ground_truth_each_object_has_its_own_score_whatever_the_order():
    unsure_first = found((1, 1, 0.3), (0, 0, 0.9))
    frame = edit_effects.change_frame(unsure_first, AFTER, None, NAMES)
    assert frame["class"][0] == "cat"
    assert frame.loc[0, ["before", "after"]].tolist() == pytest.approx([0.9, 0.7])
