"""The life of a token against hand-written cases, and what lies over it against the slow version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import found, grid_for, parts, scene

from analysis.numbers import biography
from analysis.numbers.usage import valid_keep
from svit.core.coverage import token_cover
from svit.core.types import Detections, Target, TokenGrid, TokenTrace

GRID = TokenGrid((32, 32), (32, 32), (2, 2))
NAN = np.nan


def trace_of(lives: dict[tuple[int, int], str], scores: np.ndarray | None = None) -> TokenTrace:
    """Four layers of 2 x 2 tokens; "x.x." is used at the first and third layer."""
    keep = np.ones((4, 2, 2), bool)
    for (row, column), life in lives.items():
        keep[:, row, column] = [sign == "x" for sign in life]
    return TokenTrace(7, GRID, keep, scores)


def test_a_story_counts_blocks_from_one():
    trace = trace_of({(0, 1): ".x.x", (1, 0): "x...", (1, 1): "...."})
    assert biography.story(trace, 0, 0) == biography.Story(4, 4, None, 0, None, 4)
    assert biography.story(trace, 0, 1) == biography.Story(2, 4, 1, 2, 2, 4)
    assert biography.story(trace, 1, 0) == biography.Story(1, 4, 2, 0, None, 1)
    assert biography.story(trace, 1, 1) == biography.Story(0, 4, 1, 0, None, None)


def test_the_most_eventful_token_returned_most_often():
    assert biography.eventful(trace_of({(0, 1): ".x.x", (1, 0): "x.xx"})) == (0, 1)
    assert biography.eventful(trace_of({(0, 0): "x.x.", (1, 0): "x.xx"})) == (1, 0)  # more used
    assert biography.eventful(trace_of({})) == (0, 0)


def scored() -> TokenTrace:
    scores = np.full((4, 2, 2), NAN, np.float16)
    scores[1] = [[2, 1], [-1, -3]]  # two kept, two pruned: the limit is 0
    scores[2] = [[2, 1], [0.5, 3]]  # the lowest is kept and a higher one pruned: no limit
    scores[3] = [[1, 2], [3, 4]]  # all kept: no limit
    return trace_of({(1, 0): "x.xx", (1, 1): "x..x"}, scores)


def test_the_limit_lies_between_used_and_pruned_scores():
    assert biography.decision_limits(scored()) == pytest.approx([NAN, 0, NAN, NAN], nan_ok=True)
    assert np.isnan(biography.decision_limits(trace_of({(0, 0): "x..x"}))).all()


def test_a_token_has_state_score_margin_and_rank_at_every_layer():
    frame = biography.token_frame(scored(), 1, 0)
    assert frame["block"].tolist() == [1, 2, 3, 4]
    assert frame["state"].tolist() == ["used", "next", "used", "used"]
    assert frame["score"].tolist() == pytest.approx([NAN, -1, 0.5, 3], nan_ok=True)
    assert frame["margin"].tolist() == pytest.approx([NAN, -1, NAN, NAN], nan_ok=True)
    assert frame["rank"].tolist() == pytest.approx([NAN, 0.25, 0, 0.5], nan_ok=True)


def test_without_scores_a_life_has_states_alone():
    frame = biography.token_frame(trace_of({(0, 1): "x..x"}), 0, 1)
    assert frame["state"].tolist() == ["used", "later", "next", "used"]
    assert frame[["score", "margin", "rank"]].isna().all(axis=None)


@given(st.integers(0, 10_000))
def test_margins_have_the_sign_of_the_decision(seed):
    trace = parts(1, seed)["trace"]
    rng = np.random.default_rng(seed)
    row, column = rng.integers(trace.grid.valid_hw)
    frame = biography.token_frame(trace, row, column)
    known = frame["margin"].notna()
    kept = valid_keep(trace)[:, row, column]
    assert known.sum() >= 8  # nine gates; one may keep all
    assert ((frame["margin"] > 0) == kept)[known].all()


@given(st.integers(0, 10_000), st.floats(0.4, 1.6))
def test_masks_over_a_token_are_those_that_cover_it(seed, scale):
    image, target = scene(seed)
    grid = grid_for(image.shape[:2], scale)
    rng = np.random.default_rng(seed)
    token = tuple(int(side) for side in rng.integers(grid.valid_hw))
    frame = biography.over_token(grid, token, None, target)
    cover = token_cover(target.masks, grid)[:, token[0], token[1]]
    assert sorted(frame["index"]) == np.flatnonzero(cover > 0).tolist()
    expected = cover[frame["index"]]  # in float32
    assert frame["cover"].to_numpy() == pytest.approx(expected, abs=1e-4)


def test_objects_and_detections_over_a_token_are_listed_by_cover():
    masks = np.zeros((2, 32, 32), bool)
    masks[0, :, :8], masks[1, :16] = True, True
    boxes = np.array([[0, 0, 8, 32], [0, 0, 32, 16]], np.float32)
    target = Target(boxes, np.array([0, 5]), masks, crowd=np.array([False, True]))
    seen = Detections(boxes[:1], np.array([0.9]), np.array([1]))
    frame = biography.over_token(GRID, (0, 0), seen, target, ["cat", "dog"])
    assert frame["kind"].tolist() == ["crowd", "detected", "annotated"]
    assert frame["class"].tolist() == ["class 5", "dog", "cat"]
    assert frame["cover"].tolist() == [1, 0.5, 0.5]
    assert frame.loc[1, ["left", "top", "right", "bottom"]].tolist() == [0, 0, 8, 32]
    assert biography.over_token(GRID, (1, 1), seen, target).empty


def test_detections_below_the_score_are_left_out():
    _, target = scene(0)
    grid = grid_for((120, 150))
    centre = target.boxes_xyxy[1].reshape(2, 2).mean(axis=0)
    token = grid.token_at(*centre)
    kinds = [
        biography.over_token(grid, token, found(target), None, score=score)["kind"].tolist()
        for score in (0.3, 0.5)  # the second disc has score 0.4
    ]
    assert len(kinds[0]) == len(kinds[1]) + 1


def test_the_token_of_an_object_lies_on_it_and_is_used_least():
    run = parts(1)
    trace, target = run["trace"], run["target"]
    for index in range(2):
        row, column = biography.token_of_object(trace, target, index)
        cover = token_cover(target.masks, trace.grid)[index]
        assert cover[row, column] >= 0.5
        used = trace.keep.sum(axis=0)[: cover.shape[0], : cover.shape[1]]
        assert used[row, column] == used[cover >= 0.5].min()


def test_an_object_smaller_than_half_a_token_has_the_token_it_lies_on():
    image, target = scene(0)
    masks = np.zeros_like(target.masks[:1])
    masks[0, 40:44, 70:74] = True
    small = Target(np.array([[70, 40, 74, 44]], np.float32), target.labels[:1], masks)
    assert biography.token_of_object(parts(1)["trace"], small, 0) == (2, 4)


def test_a_detection_of_just_the_score_asked_for_is_listed_as_it_is_found_elsewhere():
    boxes = np.array([[0, 0, 32, 32]], np.float32)
    seen = Detections(boxes, np.array([0.35], np.float32), np.array([0]))  # a little below 0.35
    assert len(biography.over_token(GRID, (0, 0), seen, None, score=0.35)) == 1
    assert biography.over_token(GRID, (0, 0), seen, None, score=0.4).empty
