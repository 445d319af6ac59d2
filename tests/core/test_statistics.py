"""Intervals are those of scipy, paired differences cancel what both share, probabilities stay modest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svit.core.statistics import Drawn, at_share, bootstrap, combined, probability, resampled

VALUES = np.random.default_rng(0).normal(size=400)


def mean_of(values: np.ndarray):
    return lambda weights: float(weights @ values / weights.sum())


def test_a_bootstrap_of_a_mean_has_the_textbook_width() -> None:
    interval = bootstrap(mean_of(VALUES), 400, draws=2000)
    assert interval.value == pytest.approx(VALUES.mean())
    # 2 * 1.96 standard errors; 2,000 draws leave about 4 % of noise
    expected = 2 * 1.96 * VALUES.std() / 20
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_is_the_percentile_one_of_scipy(skewed: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.exp(2 * VALUES[:50]) if skewed else VALUES[:50]
    found = bootstrap(mean_of(values), 50, draws=20000)
    other = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    )
    expected = other.confidence_interval
    # both are random: a percentile of 20,000 draws is known to about 2 % of the width
    tolerance = 0.03 * (expected.high - expected.low)
    assert found.low == pytest.approx(expected.low, abs=tolerance)
    assert found.high == pytest.approx(expected.high, abs=tolerance)


def test_a_paired_difference_cancels_what_both_share() -> None:
    own, other = (resampled(mean_of(VALUES + gain), 400) for gain in (0.5, 0.0))
    apart = (own - other).interval()
    assert apart.bounds == pytest.approx((0.5, 0.5)) and apart.value == pytest.approx(0.5)
    assert (own - other).above == 1 and (other - own).above == 0 and (own - own).above == 0.5


@pytest.mark.parametrize("change", [{"seed": 1}, {"draws": 10}, {"name": "others"}])
def test_numbers_of_other_draws_are_not_paired(change: dict) -> None:
    first = resampled(mean_of(VALUES), 400)
    with pytest.raises(ValueError, match="the same images and draws"):
        first - resampled(mean_of(VALUES), 400, **change)


def test_a_mean_over_trainings_is_drawn_together() -> None:
    parts = [resampled(mean_of(VALUES + gain), 400) for gain in (0.0, 1.0, 2.0)]
    mean = combined(parts, [1 / 3] * 3)
    assert mean.value == pytest.approx(VALUES.mean() + 1)
    assert mean.draws == pytest.approx(parts[1].draws)


def curve() -> tuple[list[float], list[Drawn]]:
    """Three points of a rate curve, not in order."""
    points = {0.7: 60.0, 0.3: 50.0, 0.5: 58.0}
    return list(points), [Drawn(ap, np.array([ap, ap + 1]), "k") for ap in points.values()]


@pytest.mark.parametrize(
    ("share", "ap"), [(0.3, 50), (0.4, 54), (0.5, 58), (0.65, 59.5), (0.7, 60)]
)
def test_a_number_at_equal_tokens_lies_between_its_neighbours(share: float, ap: float) -> None:
    found = at_share(*curve(), share)
    assert found.value == pytest.approx(ap) and found.draws == pytest.approx([ap, ap + 1])


def test_no_curve_is_extrapolated() -> None:
    for share in (0.29, 0.71):
        with pytest.raises(ValueError, match="within the measured ones"):
            at_share(*curve(), share)
    with pytest.raises(ValueError, match="within the measured ones"):
        at_share([0.5], curve()[1][:1], 0.5)


@given(share=st.floats(0, 1), draws=st.sampled_from([20, 1000, 2000]))
def test_a_probability_claims_no_more_than_the_draws_can_tell(share: float, draws: int) -> None:
    text = probability(share, draws)
    assert float(text.lstrip("<>")) not in (0.0, 1.0)
    assert float(text.lstrip("<>")) == pytest.approx(share, abs=0.0051 + 1 / draws)


def test_a_probability_in_words() -> None:
    found = [probability(share, 1000) for share in (1, 0, 0.5, 0.974, 0.996)]
    assert found == [">0.999", "<0.001", "0.50", "0.97", "0.996"]


def test_a_single_image_tells_no_interval():
    alone = resampled(lambda weights: float(weights @ [3.0]) / weights.sum(), 1)
    assert alone.value == 3.0 and np.isnan(alone.interval().bounds).all() and np.isnan(alone.above)
    assert str(alone.interval()) == "3.0" and alone.signed == "+3.0"
    assert probability(alone.above, 1000) == ""
    apart = alone - alone
    assert apart.value == 0 and np.isnan(apart.interval().low)
