"""Transitions, spells and returns of tokens: by hand, against loops, and as laws."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.runs import parts

from analysis.numbers import lifetimes
from svit.core.types import TokenGrid, TokenTrace


def trace_of(keep: np.ndarray) -> TokenTrace:
    """A trace of layers x tokens; the tokens lie in one row, with a padded one behind."""
    keep = np.asarray(keep, bool)
    padded = np.pad(keep, ((0, 0), (0, 1)), constant_values=True)[:, None]
    grid = TokenGrid((16, 16 * keep.shape[1]), (16, 16 * keep.shape[1]), padded.shape[1:])
    return TokenTrace(1, grid, padded)


# tokens down, layers across: stays, leaves for good, comes back, returns twice
LIVES = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 1, 1], [0, 1, 0, 1]]).T


def test_transitions_by_hand():
    frame = lifetimes.transition_frame([trace_of(LIVES)])
    assert frame[list(lifetimes.STEPS)].to_numpy().tolist() == [
        [1, 2, 1, 0],
        [1, 1, 1, 1],
        [2, 0, 1, 1],
    ]
    assert frame["tokens"].tolist() == [4, 4, 4] and frame["block"].tolist() == [1, 2, 3]
    assert frame["drop_of_used"].tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert frame["return_of_pruned"].tolist() == pytest.approx([1, 1 / 2, 1 / 2])


def test_spells_by_hand():
    frame = lifetimes.life_frame([trace_of(LIVES)])
    assert frame["used"].tolist() == [4, 1, 0, 1]
    assert frame["pruned_ended"].tolist() == [3, 0, 0, 0]
    assert frame["pruned_last"].tolist() == [0, 0, 1, 0]


def test_returns_by_hand():
    trace = trace_of(LIVES)
    assert lifetimes.return_counts(trace).tolist() == [[0, 0, 1, 2]]
    frame = lifetimes.return_frame([trace])
    assert frame["tokens"].tolist() == [2, 1, 1] and frame["pruned"].tolist() == [1, 1, 1]
    assert frame["share"].tolist() == [0.5, 0.25, 0.25]


MASKS = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 9)))


@given(MASKS)
def test_rows_of_the_transition_matrix_sum_to_one(keep):
    frame = lifetimes.transition_frame([trace_of(keep)])
    assert len(frame) == len(keep) - 1
    for state, names in (("used", ("stay", "drop")), ("pruned", ("return", "away"))):
        total = sum(frame[f"{name}_of_{state}"] for name in names)
        empty = sum(frame[name] for name in names) == 0
        assert np.allclose(total[~empty], 1) and total[empty].isna().all()
    assert np.allclose(sum(frame[f"{name}_share"] for name in lifetimes.STEPS), 1)


@given(MASKS)
def test_spells_agree_with_a_loop_and_fill_all_layers(keep):
    counts = np.zeros((3, len(keep)), int)
    for life in keep.T:
        spells = [(state, len(list(group))) for state, group in groupby(life)]
        for number, (state, length) in enumerate(spells):
            last = number == len(spells) - 1
            counts[0 if state else 2 if last else 1, length - 1] += 1
    frame = lifetimes.life_frame([trace_of(keep)])
    np.testing.assert_array_equal(frame[["used", "pruned_ended", "pruned_last"]].T, counts)
    assert (counts * np.arange(1, len(keep) + 1)).sum() == keep.size


@given(MASKS)
def test_a_return_is_the_end_of_a_pruned_spell_but_for_the_first(keep):
    trace = trace_of(keep)
    ended = lifetimes.life_frame([trace])["pruned_ended"].sum()
    assert lifetimes.return_counts(trace).sum() == ended
    steps = lifetimes.transition_frame([trace])
    assert steps["return"].sum() == ended


def test_tokens_pruned_for_good_never_return():
    keep = np.logical_and.accumulate(np.random.default_rng(0).random((6, 40)) < 0.8)
    frame = lifetimes.transition_frame([trace_of(keep)])
    assert not frame["return"].any()
    assert lifetimes.return_frame([trace_of(keep)])["returns"].tolist() == [0]


def test_images_pool_in_any_order():
    traces = [parts(seed)["trace"] for seed in (1, 2, 3)]
    for count in (lifetimes.transition_frame, lifetimes.life_frame, lifetimes.return_frame):
        assert count(traces).equals(count(traces[::-1]))


def test_no_traces_give_empty_frames():
    for count in (lifetimes.transition_frame, lifetimes.life_frame, lifetimes.return_frame):
        assert count([]).empty


@pytest.mark.parametrize("count", [lifetimes.transition_frame, lifetimes.life_frame])
def test_other_layer_counts_are_refused(count):
    traces = [trace_of(np.ones((layers, 2))) for layers in (3, 4)]
    with pytest.raises(ValueError, match="expected 3 layers, found 4"):
        count(traces)
