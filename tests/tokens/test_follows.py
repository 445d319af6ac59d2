"""What use follows, on pictures in which it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.tokens import follows
from svit.core.types import Target, TokenGrid, TokenTrace

MADE = ("contour", "middle", "object")
GRID = TokenGrid((96, 96), (96, 96), (12, 12), 8)


def pictured(image_id: int, layers=None):
    """Noise of growing strength to the right, one object, and masks made of the measures."""
    random = np.random.default_rng(image_id)
    strength = np.linspace(0, 60, 96)[None, :, None]
    picture = np.clip(120 + strength * random.normal(size=(96, 96, 1)), 0, 255).repeat(3, 2)
    mask = np.zeros((1, 96, 96), bool)
    top, left = random.integers(0, 56, 2)
    mask[0, top : top + 40, left : left + 40] = True
    box = np.array([[left, top, left + 40, top + 40]], float)
    target = Target(box, np.zeros(1, int), mask)
    table = follows.token_measures(picture.astype(np.uint8), target, GRID)
    if layers is None:
        wanted = {name: table[name].to_numpy() for name in MADE}
        layers = [one > np.median(one) for one in wanted.values()]
    keep = np.stack([one.reshape(12, 12) for one in layers])
    return TokenTrace(image_id, GRID, keep), target, picture.astype(np.uint8)


@pytest.fixture(scope="module")
def table():
    frame = follows.follow_frame([pictured(number) for number in range(6)], draws=40)
    return frame.set_index(["tokens", "masks", "block", "measure"]).sort_index()


def test_a_mask_made_of_a_measure_follows_it_and_not_the_others(table):
    for block, made in enumerate(MADE, 1):
        partial = table.loc[(follows.EVERY, follows.OWN, block), "partial"]
        assert partial.idxmax() == made and partial[made] > 0.5
        low = table.loc[(follows.EVERY, follows.OWN, block, made), "partial_low"]
        assert low > partial.drop(made).abs().max()


def test_shuffled_masks_follow_nothing(table):
    shuffled = table.xs(follows.SHUFFLED, level="masks").dropna()
    assert shuffled["partial"].abs().max() < 0.2
    assert ((shuffled["partial_low"] < 0.1) & (shuffled["partial_high"] > -0.1)).all()


def test_block_0_is_the_number_of_blocks_that_use_a_token(table):
    assert set(table.index.get_level_values("block")) == {0, 1, 2, 3}
    use = table.loc[(follows.EVERY, follows.OWN, 0), "rank"]
    assert (use[list(MADE)] > 0.2).all()


def test_partial_correlations_are_those_of_residuals():
    random = np.random.default_rng(1)
    measures = random.normal(size=(3, 50))
    measures[1] += measures[0]
    use = measures[0] + 0.5 * measures[2] + random.normal(size=50)
    rows = np.vstack([use, measures])
    rows -= rows.mean(axis=1, keepdims=True)
    products = rows @ rows.T
    found = follows.partial_of(products[None, 1:, 1:], products[None, 0, 0], products[None, 0, 1:])
    for place in range(3):
        others = rows[1:][np.arange(3) != place].T
        left = [
            one - others @ np.linalg.lstsq(others, one, rcond=None)[0]
            for one in (rows[0], rows[1 + place])
        ]
        assert found[0, place] == pytest.approx(np.corrcoef(left)[0, 1])
    raw = follows.raw_of(products[None, 1:, 1:], products[None, 0, 0], products[None, 0, 1:])
    np.testing.assert_allclose(raw[0], np.corrcoef(rows)[0, 1:])


def test_where_nothing_varies_there_is_no_correlation():
    on = [np.ones(144, bool)] * 2
    frame = follows.follow_frame([pictured(1, on), pictured(2, on)], draws=3)
    assert frame[["rank", "partial"]].isna().all(axis=None)
    assert follows.follow_frame([], draws=3).empty


def test_measures_of_tokens_by_hand():
    mask = np.zeros((2, 96, 96), bool)
    mask[0, :36, :36], mask[1, 18:54, 18:54] = True, True
    boxes = np.array([[0, 0, 36, 36], [18, 18, 54, 54]], float)
    target = Target(boxes, np.zeros(2, int), mask, areas=np.array([1024.0, 500.0]))
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[:, 80:] = 200
    table = follows.token_measures(picture, target, GRID)
    assert follows.overlaps(target).tolist() == [0.25, 0.25]
    assert table.loc[[0, 65], "size"].tolist() == [1024, 500]  # rows 0 and 5, column 5
    assert np.isnan(table.loc[143, "size"]) and table.loc[0, "object"] == 1
    assert table["gradient"].max() > 0 and table.loc[0, "contrast"] == pytest.approx(0, abs=0.1)
    assert table["contour"].max() == 0 and table.loc[143, "contour"] < -7
    nothing = Target(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 96, 96), bool))
    assert follows.token_measures(picture, nothing, GRID)["contour"].isna().all()
    assert (follows.token_measures(picture[:1], nothing, GRID)["gradient"] == 0).all()
    assert isinstance(table, pd.DataFrame) and len(table) == 144


def test_one_image_has_no_interval():
    frame = follows.follow_frame([pictured(1)], draws=5)
    assert frame["partial"].notna().any() and (frame["images"] == 1).all()
    ends = [f"{kind}_{end}" for kind in ("rank", "partial") for end in ("low", "high")]
    assert frame[ends].isna().all(axis=None)
