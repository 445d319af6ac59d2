"""Tokens against complexity, rank correlation, and the ledger with what pruning can reach."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from support.runs import PROVENANCE, parts, write_run

from analysis.numbers import budget
from svit.core import macs
from svit.core.presets import PRESETS
from svit.core.types import TokenTrace
from svit.runs.run import RunWriter, open_run

GATED = list(range(3, 12))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "discs", (1, 2, 3, 4))


def test_complexity_by_hand(run):
    frame = budget.complexity_frame(run).set_index("image_id")
    one = parts(2)
    assert frame["objects"].tolist() == [2, 2, 2, 2]
    assert frame["area"][2] == pytest.approx(one["target"].masks.any(axis=0).mean())
    rows, columns = one["trace"].grid.valid_hw
    assert frame["keep_ratio"][2] == pytest.approx(one["trace"].keep[3:, :rows, :columns].mean())
    assert frame["edges"].between(0.005, 0.2).all()


def test_a_run_without_annotations_and_pictures_has_no_complexity(tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(parts(1)["trace"])
    frame = budget.complexity_frame(open_run(tmp_path / "run"))
    assert frame[list(budget.COMPLEXITY)].isna().all(axis=None)
    assert budget.correlation_table(frame)["rho"].isna().all()


def test_rank_correlation_of_a_monotone_curve_is_one():
    values = pd.Series([3.0, 1, 2, 5, 4])
    assert budget.spearman(values, np.exp(values)).value == pytest.approx(1)
    assert budget.spearman(values, -values).value == pytest.approx(-1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=15))
def test_rank_correlation_equals_that_of_scipy(points):
    first, second = (pd.Series(side, dtype=float) for side in zip(*points, strict=True))
    interval = budget.spearman(first, second, draws=20)
    if first.nunique() < 2 or second.nunique() < 2:
        assert np.isnan(interval.value)
    else:
        assert interval.value == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)
        assert -1 - 1e-9 <= interval.low <= interval.high <= 1 + 1e-9


def test_missing_values_and_few_images_have_no_correlation():
    numbers = pd.Series([1.0, 2, 3, np.nan])
    assert budget.spearman(numbers, numbers, draws=50).value == pytest.approx(1)
    assert np.isnan(budget.spearman(numbers[1:], numbers[1:]).value)


def ledgers(*traces: TokenTrace, preset: str = "svit-adapter-nano") -> pd.DataFrame:
    return pd.DataFrame([budget.ledger_row(one, 2, PRESETS[preset], GATED) for one in traces])


def test_the_ledger_of_an_image_is_that_of_compute():
    trace, config = parts(1)["trace"], PRESETS["svit-adapter-nano"]
    row = ledgers(trace).iloc[0]
    kept = trace.keep.sum(axis=(1, 2))
    size = (config.backbone, config.detector, config.pruning)
    expected = macs.ledger(*size, trace.grid.grid_hw, kept, detections=2)
    pd.testing.assert_series_equal(row[expected.index].astype(float), expected, check_names=False)
    assert row["total"] == pytest.approx(expected.sum())


def test_what_pruning_reaches_is_the_gated_blocks():
    trace, config = parts(1)["trace"], PRESETS["svit-adapter-nano"]
    row = ledgers(trace).iloc[0]
    tokens = trace.grid.tokens
    blocks = macs.block_macs(config.backbone, "dense", tokens, np.full(12, tokens))
    assert row["reachable"] == pytest.approx(blocks[GATED].sum() / row["dense"])
    heads = row[list(macs.HEAD_PARTS)].sum()
    assert row["reachable_of_backbone"] == pytest.approx(
        blocks[GATED].sum() / (row["dense"] - heads)
    )


def test_keeping_all_costs_the_gates_and_keeping_none_reaches_the_limit_but_for_them():
    trace = parts(1)["trace"]
    everything = TokenTrace(1, trace.grid, np.ones_like(trace.keep))
    nothing = np.ones_like(trace.keep)
    nothing[GATED] = False
    rows = ledgers(everything, TokenTrace(2, trace.grid, nothing))
    gates = rows["selection"] / rows["dense"]
    assert rows["saved"][0] == pytest.approx(-gates[0]) and gates[0] > 0
    assert rows["saved"][1] == pytest.approx(rows["reachable"][1] - gates[1])
    assert rows["saved_of_reachable"][1] < 1


def test_modules_share_the_mean_total():
    trace = parts(1)["trace"]
    frame = ledgers(trace, TokenTrace(2, trace.grid, np.ones_like(trace.keep)))
    table = budget.module_frame(frame)
    assert table["share"].sum() == pytest.approx(1)
    assert {"blocks", "selection", "box_head"} <= set(table["module"])
    blocks = table.set_index("module").loc["blocks"]
    assert blocks["low"] < blocks["mean"] < blocks["high"]
