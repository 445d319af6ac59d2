"""Two runs compared: overlap and its chance level, differences, intervals, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.runs import (
    PROVENANCE,
    TARGETS,
    grid_for,
    parts,
    trace_of,
    write_dense,
    write_run,
)

from analysis.numbers import agreement
from svit.core.types import Detections, TokenGrid, TokenTrace
from svit.runs import pairing
from svit.runs.run import RunWriter, open_run

GRID = TokenGrid((48, 64), (48, 64), (4, 4))  # the last row is padding


def trace(keep: np.ndarray) -> TokenTrace:
    padded = np.ones((len(keep), 4, 4), bool)
    padded[:, :3] = keep
    return TokenTrace(1, GRID, padded)


def test_overlap_by_hand():
    a, b = np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    a[0, 0], b[0, 0, :2], b[0, 1, :2] = True, True, True  # 4 and 4 tokens, 2 of them shared
    frame = agreement.agreement_frame([(trace(a), trace(b))])
    row = frame.iloc[0]
    assert (row["first"], row["second"], row["both"], row["tokens"]) == (4, 4, 2, 12)
    assert row["iou"] == pytest.approx(2 / 6)
    shared = 4 * 4 / 12
    assert row["chance"] == pytest.approx(shared / (8 - shared))
    assert row["excess"] == pytest.approx((2 / 6 - 0.2) / 0.8)
    assert frame["iou"][1] == 1 and frame["chance"][1] == 1 and np.isnan(frame["excess"][1])


MASKS = arrays(bool, (3, 3, 4))


@given(MASKS, MASKS)
def test_overlap_is_symmetric_and_whole_with_itself(a, b):
    one, other = trace(a), trace(b)
    there = agreement.agreement_frame([(one, other)])
    back = agreement.agreement_frame([(other, one)])
    columns = ["tokens", "both", "iou", "chance", "excess"]
    pd.testing.assert_frame_equal(there[columns], back[columns])
    assert agreement.agreement_frame([(one, one)])["iou"].eq(1).all()
    assert there["iou"].between(0, 1).all() and there["chance"].between(0, 1).all()
    np.testing.assert_array_equal(
        agreement.usage_difference(one, other), -agreement.usage_difference(other, one)
    )


def test_masks_at_random_agree_by_chance():
    rng = np.random.default_rng(0)
    grid = TokenGrid((800, 1280), (800, 1280), (50, 80))
    traces = [TokenTrace(1, grid, rng.random((4, 50, 80)) < 0.6) for _ in range(2)]
    frame = agreement.agreement_frame([tuple(traces)])
    np.testing.assert_allclose(frame["iou"], frame["chance"], atol=0.02)
    np.testing.assert_allclose(frame["excess"], 0, atol=0.04)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder):
    return write_run(folder / "one")


def other_run(path, image_ids=(3, 1, 2), seed=50, scale=1.0, targets=TARGETS):
    """Other masks on the same images, with half of the detections."""
    with RunWriter(path, PROVENANCE) as writer:
        for image_id in image_ids:
            values = parts(image_id)
            grid = grid_for(values["image"].shape[:2], scale)
            wanted = np.zeros(grid.grid_hw)
            values["trace"] = trace_of(image_id, grid, wanted, seed + image_id, targets)
            values["detections"] = values["detections"][:1]
            writer.add(**values)
    return open_run(path)


def test_pairs_join_images_whatever_their_order(run, folder):
    other = other_run(folder / "order", (1, 2, 3))
    ids = [(a.image_id, b.image_id) for a, b in agreement.pairs(run, other)]
    assert ids == [(3, 3), (1, 1), (2, 2)]


def refused(first, second) -> str:
    with pytest.raises(pairing.MismatchError) as caught:
        list(agreement.pairs(first, second))
    return str(caught.value)


def test_other_images_are_refused(run, folder):
    other = other_run(folder / "images", (3, 1, 4, 5))
    message = refused(run, other)
    assert "2 of both, 1 only in the first, 2 only in the second" in message
    assert str(other.path) in message


def test_other_grids_are_refused(run, folder):
    message = refused(run, other_run(folder / "grids", scale=2.0))
    assert "image 3 has 8x10 tokens of 16 pixels" in message and "16x20" in message


def test_other_layers_are_refused(run, folder):
    message = refused(run, other_run(folder / "layers", targets=TARGETS[:5]))
    assert "12 and 5 layers" in message


def test_an_empty_run_is_refused(run, folder):
    RunWriter(folder / "empty", PROVENANCE).close()
    assert "without images" in refused(run, open_run(folder / "empty"))


def test_deltas_are_first_minus_second(run, folder):
    frame = agreement.delta_frame(run, other_run(folder / "half"), range(3, 12))
    assert frame["image_id"].tolist() == [3, 1, 2]
    assert frame["first_found"].tolist() == [1, 1, 1]
    assert frame["found"].tolist() == [0.5, 0.5, 0.5]
    trace = run.trace(3)
    rows, columns = trace.grid.valid_hw
    expected = trace.keep[3:, :rows, :columns].mean()
    assert frame["first_keep_ratio"][0] == pytest.approx(expected)
    found = agreement.paired_interval(frame["found"], draws=200)
    assert [found.value, found.low, found.high] == [0.5] * 3
    kept = agreement.paired_interval(frame["keep_ratio"], draws=200)
    assert kept.low <= kept.value == frame["keep_ratio"].mean()


def test_a_run_against_itself_differs_by_nothing(run):
    frame = agreement.delta_frame(run, run)
    for name in agreement.DELTAS:
        interval = agreement.paired_interval(frame[name], draws=50)
        assert interval.value == interval.low == interval.high == 0
    assert not agreement.mean_difference(agreement.pairs(run, run), (4, 5)).any()


def test_each_two_of_several_runs_agree_beside_chance(run, folder):
    runs = {"one": run, "again": run, "other": other_run(folder / "other", seed=90)}
    frame = agreement.between_frame(runs, draws=50).set_index(["first", "second"])
    same = frame.loc[("one", "again")]
    assert same[["iou", "excess", "low", "high"]].tolist() == [1] * 4 and same["chance"] < 1
    apart = frame.loc[("one", "other")]
    assert apart["low"] <= apart["excess"] <= apart["high"] < 1 and apart["images"] == 3
    whole = agreement.agreement_frame(agreement.pairs(run, runs["other"]))
    gated = whole[whole["block"] > 3]
    union = gated["first"].sum() + gated["second"].sum() - gated["both"].sum()
    assert apart["iou"] == pytest.approx(gated["both"].sum() / union)


def test_runs_that_prune_nothing_have_no_agreement(folder):
    dense = [write_dense(folder / name) for name in ("dense", "dense2")]
    frame = agreement.between_frame(dict(zip("ab", dense, strict=True)), draws=5)
    assert frame["excess"].isna().all() and frame["images"].tolist() == [3]


def test_images_without_a_difference_are_left_out():
    interval = agreement.paired_interval(pd.Series([1.0, np.nan, 3.0]), draws=500)
    assert interval.value == 2 and interval.low == 1 and interval.high == 3
    assert np.isnan(agreement.paired_interval(pd.Series([np.nan])).value)


def test_differences_of_frames_are_drawn_with_their_videos():
    deltas = pd.Series([1.0, 1.0, np.nan, 3.0, 3.0, 3.0])
    together = agreement.paired_interval(deltas, 500, videos=np.array([0, 0, 0, 1, 1, 1]))
    apart = agreement.paired_interval(deltas, 500)
    assert together.value == apart.value == pytest.approx(2.2)
    assert (together.low, together.high) == (1, 3)
    assert together.low < apart.low < apart.high
    assert np.isnan(agreement.paired_interval(deltas, videos=np.zeros(6, int)).low)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_an_interval_holds_its_mean_and_stays_in_range(values):
    interval = agreement.paired_interval(pd.Series(values), draws=300)
    slack = 1e-9
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


def test_detections_without_annotations_give_no_found(folder):
    path = folder / "bare"
    with RunWriter(path, PROVENANCE) as writer:
        none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
        writer.add(parts(1)["trace"], none)
    frame = agreement.delta_frame(open_run(path), open_run(path))
    assert frame["found"].isna().all()


def test_no_pairs_give_empty_results():
    assert agreement.agreement_frame([]).empty
    assert np.isnan(agreement.mean_difference([], (2, 2))).all()
