"""Metrics against cases computed by hand, and laws that hold for any masks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import TARGETS, census_of, write_run

from analysis.numbers import usage
from svit.core.types import TokenGrid, TokenTrace

# four layers of a 2 x 2 image in a 2 x 4 grid; the two padding columns are kept and must not count
HAND = np.array(
    [
        [[1, 1], [1, 1]],
        [[1, 0], [0, 0]],
        [[1, 1], [0, 0]],
        [[0, 0], [1, 0]],
    ],
    dtype=bool,
)


def hand_trace() -> TokenTrace:
    keep = np.concatenate([HAND, np.ones((4, 2, 2), bool)], axis=2)
    return TokenTrace(1, TokenGrid((32, 32), (32, 32), (2, 4)), keep)


def test_usage_counts_layers_of_valid_tokens():
    np.testing.assert_array_equal(usage.usage(hand_trace()), [[3, 2], [2, 1]])


def test_states_of_the_hand_case():
    states = usage.layer_states(hand_trace())
    np.testing.assert_array_equal(states.used, HAND)
    np.testing.assert_array_equal(states.pruned, ~HAND)
    later = np.zeros_like(HAND)
    later[1] = [[0, 1], [1, 0]]  # back in layer 2, back in layer 3
    later[2] = [[0, 0], [1, 0]]
    following = np.zeros_like(HAND)
    following[1] = [[0, 1], [0, 0]]
    following[2] = [[0, 0], [1, 0]]
    np.testing.assert_array_equal(states.later, later)
    np.testing.assert_array_equal(states.next, following)
    np.testing.assert_array_equal(states.never, ~HAND & ~later)


def test_keep_ratios_divide_by_valid_tokens():
    np.testing.assert_allclose(usage.keep_ratios(hand_trace()), [1, 0.25, 0.5, 0.25])


def test_reactivation_of_the_hand_case():
    frame = census_of(hand_trace(), hand_trace()).reactivation()
    assert frame.block.tolist() == [1, 2, 3, 4]
    assert frame.tokens.tolist() == [8, 8, 8, 8]
    assert frame.pruned.tolist() == [0, 6, 4, 6]
    assert frame.later.tolist() == [0, 4, 2, 0]
    assert frame.next.tolist() == [0, 2, 2, 0]
    np.testing.assert_allclose(frame.later_share, [0, 0.5, 0.25, 0])
    np.testing.assert_allclose(frame.later_of_pruned, [np.nan, 2 / 3, 0.5, 0])
    np.testing.assert_allclose(frame.next_of_pruned, [np.nan, 1 / 3, 0.5, 0])
    np.testing.assert_allclose(frame.never_of_pruned, [np.nan, 1 / 3, 0.5, 1])
    np.testing.assert_allclose(frame.next_of_later, [np.nan, 0.5, 1, np.nan])
    assert usage.immediate_share(frame) == pytest.approx(4 / 6)  # pooled, not a mean of layers
    assert np.isnan(usage.immediate_share(census_of().reactivation()))


def test_no_traces_give_an_empty_frame_and_a_map_of_nan():
    frame = census_of().reactivation()
    assert len(frame) == 0 and "later_of_pruned" in frame
    assert np.isnan(census_of().mean_usage((2, 3))).all()


def test_keep_frame_pools_by_tokens_and_averages_by_images():
    counts = pd.DataFrame(
        {"image_id": [1, 2], "layer": [0, 0], "kept_valid": [10, 10], "valid": [10, 40]}
    )
    row = usage.keep_frame(counts, [0.5]).iloc[0]
    assert row.pooled == pytest.approx(20 / 50)
    assert row["mean"] == pytest.approx((1 + 0.25) / 2)
    assert row.block == 1 and row.target == 0.5
    assert np.isnan(usage.keep_frame(counts).target[0])


def test_frames_of_a_run_agree_with_its_traces(tmp_path):
    run = write_run(tmp_path / "run")
    frame = usage.keep_frame(run.keep_counts(), run.targets)
    one = usage.image_keep_frame(run.trace(1), run.targets)
    ratios = np.mean([usage.keep_ratios(trace) for trace in run.iter_traces()], axis=0)
    np.testing.assert_allclose(frame["mean"], ratios)
    np.testing.assert_allclose(frame.target, TARGETS)
    np.testing.assert_allclose(one.ratio, usage.keep_ratios(run.trace(1)))


@pytest.mark.parametrize(
    ("layers", "targets", "limits"),
    [
        (12, TARGETS, (3, 12)),
        (12, [1.0] * 12, (0, 12)),  # dense
        (12, [], (0, 12)),
        (4, [1.0, 0.5, 0.5, 0.5], (1, 4)),
    ],
)
def test_colour_limits_come_from_the_layer_count(layers, targets, limits):
    assert usage.usage_limits(layers, targets) == limits


def test_resampling_keeps_constants_identities_and_halves_ramps():
    constant = np.full((3, 5), 7.0)
    np.testing.assert_allclose(usage.resample(constant, (50, 80)), 7.0)
    values = np.random.default_rng(0).random((3, 5))
    np.testing.assert_allclose(usage.resample(values, (3, 5)), values)
    # two cells to four: centres at -0.25, 0.25, 0.75, 1.25 of the old ones, ends clamped
    np.testing.assert_allclose(usage.resample(np.array([[0.0, 1.0]]), (1, 4)), [[0, 0.25, 0.75, 1]])


def test_mean_usage_averages_images_not_tokens():
    grid = TokenGrid((32, 32), (32, 32), (2, 2))
    full = TokenTrace(1, grid, np.ones((4, 2, 2), bool))
    wide = TokenGrid((64, 96), (64, 96), (4, 6))
    none = TokenTrace(2, wide, np.zeros((4, 4, 6), bool))
    np.testing.assert_allclose(census_of(full, none).mean_usage((5, 8)), 2.0)


masks = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**16))


def random_trace(layers: int, rows: int, columns: int, seed: int) -> TokenTrace:
    rng = np.random.default_rng(seed)
    grid = TokenGrid((rows * 16, columns * 16), (rows * 16, columns * 16), (rows + 1, columns))
    keep = rng.random((layers, *grid.grid_hw)) < rng.random()
    return TokenTrace(seed, grid, keep)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_laws_of_the_states(shape):
    states = usage.layer_states(random_trace(*shape))
    assert (states.used ^ states.pruned).all()
    assert (states.later | states.never == states.pruned).all()
    assert not (states.later & states.never).any()
    assert not (states.next & ~states.later).any()
    assert not states.later[-1].any() and not states.next[-1].any()
    if len(states.used) > 1:  # at the next-to-last layer the next layer is all that is later
        assert (states.next[-2] == states.later[-2]).all()


@settings(max_examples=50, deadline=None)
@given(masks)
def test_states_agree_with_a_loop_over_tokens(shape):
    trace = random_trace(*shape)
    states = usage.layer_states(trace)
    used = usage.valid_keep(trace)
    for layer, row, column in np.ndindex(used.shape):
        pruned = not used[layer, row, column]
        back = used[layer + 1 :, row, column]
        assert states.later[layer, row, column] == (pruned and any(back))
        assert states.next[layer, row, column] == (pruned and len(back) > 0 and back[0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=5), st.randoms())
def test_averages_do_not_depend_on_the_order_of_images(seeds, random):
    traces = [random_trace(4, 3, 3, seed) for seed in seeds]
    shuffled = random.sample(traces, len(traces))
    first, second = census_of(*traces), census_of(*shuffled)
    pd.testing.assert_frame_equal(first.reactivation(), second.reactivation())
    one, other = first.mean_usage((6, 6)), second.mean_usage((6, 6))
    np.testing.assert_allclose(one, other)
    assert one.min() >= 0 and one.max() <= 4 + 1e-12
