"""Steps, spells and returns by their artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.runs import parts

from analysis.figures.tokens import lives, transitions
from analysis.numbers import lifetimes

TRACE, OTHER = parts(1)["trace"], parts(2)["trace"]


def labels(ax) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def test_stacked_steps_reach_one(ax):
    frame = lifetimes.transition_frame([TRACE])
    transitions.print(frame, ax)
    tops = [bar.get_y() + bar.get_height() for bar in ax.patches[-len(frame) :]]
    np.testing.assert_allclose(tops, 1)
    assert labels(ax) == [name for _, name in transitions.STEPS.values()]


def test_rates_are_the_off_diagonal(ax):
    frame = lifetimes.transition_frame([TRACE], spread=True)
    transitions.rates(frame, ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), frame["drop_of_used"])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), frame["return_of_pruned"])
    assert ax.lines[0].get_xdata()[0] == pytest.approx(2, abs=0.2)


def test_bars_of_spells_and_returns_add_up_to_one(ax):
    lives.print(lifetimes.life_frame([TRACE]), ax)
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(3, -1)
    np.testing.assert_allclose(heights.sum(axis=1), 1)
    ax.clear()
    lives.returns(lifetimes.return_frame([TRACE]), ax)
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)


def test_a_rate_has_the_spread_of_its_images(ax):
    frame = lifetimes.transition_frame([TRACE, OTHER], spread=True)
    single = [lifetimes.transition_frame([one])["drop_of_used"] for one in (TRACE, OTHER)]
    ends = pd.concat(single, axis=1).quantile([0.05, 0.95], axis=1)
    np.testing.assert_allclose(frame["drop_of_used_low"], ends.iloc[0])
    np.testing.assert_allclose(frame["drop_of_used_high"], ends.iloc[1])
    transitions.rates(frame, ax)
    bar = ax.collections[0].get_segments()[-1][:, 1]
    np.testing.assert_allclose(bar, frame[["drop_of_used_low", "drop_of_used_high"]].iloc[-1])
