"""The fate of the tokens of missed objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import parts

from analysis.numbers import matching
from svit.core.finding import match
from svit.core.types import Detections, Target, TokenGrid, TokenTrace

GRID = TokenGrid((32, 32), (32, 32), (2, 2))


def trace_of(*layers) -> TokenTrace:
    return TokenTrace(1, GRID, np.array(layers, bool).reshape(len(layers), 2, 2))


def wide(*boxes) -> Target:
    masks = np.zeros((len(boxes), 32, 32), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return Target(np.array(boxes, float), np.zeros(len(boxes), int), masks)


def fate(shares) -> dict:
    """Of one object."""
    (row,) = matching.fates(np.array([shares], float)).to_dict("records")
    return row


LEFT, RIGHT = (0, 0, 16, 32), (16, 0, 32, 24)  # the right one covers 1 and 1/2 of its tokens


def test_shares_of_an_objects_tokens_by_hand():
    trace = trace_of([1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1])
    shares = matching.object_shares(trace, wide(LEFT, RIGHT))
    np.testing.assert_allclose(shares, [[1, 0.5, 0.5], [1, 2 / 3, 1 / 3]], atol=1e-6)


def test_an_empty_mask_has_no_shares():
    target = Target(np.zeros((1, 4)), np.array([0]), np.zeros((1, 32, 32), bool))
    assert np.isnan(matching.object_shares(trace_of([1] * 4), target)).all()
    assert fate([np.nan])["fate"] is None
    assert matching.object_shares(trace_of([1] * 4), wide()).shape == (0, 1)


def test_fates_by_hand():
    assert fate([1, 0.5, 0.7])["fate"] == "kept"
    lost = fate([1, 0.4, 0.2])
    assert (lost["fate"], lost["dropped"]) == ("lost", 2) and np.isnan(lost["back"])
    back = fate([1, 0.4, 0.2, 0.6])
    assert (back["fate"], back["dropped"], back["back"]) == ("rescued", 2, 4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_a_fate_agrees_with_its_blocks(shares):
    values = fate(shares)
    if values["fate"] == "kept":
        assert min(shares) >= 0.5 and np.isnan(values["dropped"])
    else:
        assert (
            shares[int(values["dropped"]) - 1] < 0.5
            and min([1, *shares[: int(values["dropped"]) - 1]]) >= 0.5
        )
    if values["fate"] == "rescued":
        assert shares[int(values["back"]) - 1] >= 0.5 and values["back"] > values["dropped"]


def test_errors_join_masks_and_matches():
    trace = trace_of([1, 1, 1, 1], [1, 0, 1, 0])
    target = wide(LEFT, RIGHT)
    found = Detections(np.array([LEFT], float), np.array([0.8]), np.array([0]))
    both = Detections(np.array([LEFT, RIGHT], float), np.array([0.8, 0.7]), np.array([0, 0]))
    frame = matching.error_frame([(trace, target, found)], ["thing"], [both])
    assert frame["found"].tolist() == [True, False]
    assert frame["dense_found"].tolist() == [True, True]
    assert frame["fate"].tolist() == ["kept", "lost"] and frame["dropped"].tolist()[1] == 2
    assert frame["used_2"].tolist() == pytest.approx([1, 0])
    fates = matching.fate_frame(frame).set_index("fate")
    assert fates["miss_rate"]["lost"] == 1 and fates["miss_rate"]["kept"] == 0
    assert fates["only_here"]["lost"] == 1 and fates["dense_missed"]["lost"] == 0
    assert np.isnan(fates["miss_rate"]["rescued"])


def test_without_a_dense_run_its_columns_are_missing():
    one = parts(3)
    frame = matching.error_frame([(one["trace"], one["target"], one["detections"])])
    assert frame["dense_found"].isna().all() and frame["found"].all()
    assert matching.fate_frame(frame)["only_here"].isna().all()
    assert matching.error_frame([]).empty
    assert matching.fate_frame(matching.error_frame([])).empty
    assert matching.share_frame(matching.error_frame([])).empty


def test_mean_shares_of_found_and_missed_objects():
    trace = trace_of([1, 1, 1, 1], [1, 0, 1, 0])
    found = Detections(np.array([LEFT], float), np.array([0.8]), np.array([0]))
    frame = matching.share_frame(matching.error_frame([(trace, wide(LEFT, RIGHT), found)]))
    rows = frame[frame["block"] == 2].set_index("found")
    assert rows["mean"].to_dict() == pytest.approx({True: 1, False: 0})
    assert rows["error"].isna().all()


@given(st.integers(0, 1000), st.sampled_from([0.2, 0.35, 0.5]))
def test_what_is_found_from_a_score_on_follows_from_what_is_found_at_all(seed, score):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (14, 2))
    boxes = np.concatenate([corners, corners + rng.integers(8, 16, (14, 2))], axis=1)
    target = wide(*boxes[:4])
    scores = rng.choice([0.1, 0.2, 0.35, 0.5, 0.9], 10).astype(np.float32)
    found = Detections(boxes[4:].astype(float), scores, np.zeros(10, int))
    frame = matching.error_frame([(trace_of([1] * 4), target, found)], score=score)
    hits = match(found, target, score=score).detection
    assert frame["found"].tolist() == (hits >= 0).tolist()
    np.testing.assert_array_equal(frame["score"], np.append(scores, np.nan)[hits])
