"""The bars of Fig. 5a by their artists, on paper and on screen."""

from __future__ import annotations

import numpy as np
import pytest
from support.runs import PROVENANCE, census_of, parts, trace_of, write_run

from analysis.figures.output import DrawOptions
from analysis.figures.tokens import reactivation
from svit.core.types import TokenTrace
from svit.runs.run import RunWriter, open_run

TRACE = parts(1)["trace"]


@pytest.fixture(scope="module")
def frame():
    return census_of(TRACE).reactivation()


@pytest.fixture(scope="module")
def all_back():
    """Block 4 prunes half of its tokens and block 5 uses all: nothing is pruned for good."""
    keep = np.ones_like(TRACE.keep)
    keep[3, :, ::2] = False
    return census_of(TokenTrace(1, TRACE.grid, keep))


def numbers(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_reactivation_bars_add_up_to_the_pruned_share(frame, ax):
    assert reactivation.print(frame, ax) is ax
    later, following, never = ax.containers
    gated = frame[frame.pruned > 0]
    tops = [bar.get_y() + bar.get_height() for bar in never]
    np.testing.assert_allclose(tops, gated.pruned_share)
    np.testing.assert_allclose([bar.get_height() for bar in later], gated.later_share)
    np.testing.assert_allclose([bar.get_height() for bar in following], gated.next_share)
    for inner, outer in zip(following, later, strict=True):  # nested, not stacked
        assert inner.get_y() == 0 and inner.get_width() < outer.get_width()
    assert ax.get_xticks().tolist() == list(range(4, 13))


def test_bars_of_the_pruned_tokens_reach_one(frame, ax):
    reactivation.print(frame, ax, of="pruned")
    later, following, never = ax.containers
    gated = frame[frame.pruned > 0]
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in never], 1)
    np.testing.assert_allclose([bar.get_height() for bar in later], gated.later_of_pruned)
    np.testing.assert_allclose([bar.get_height() for bar in following], gated.next_of_pruned)
    assert ax.get_ylabel() == "share of pruned tokens"


@pytest.mark.parametrize(("of", "part"), [("all", 2), ("pruned", 0)])
def test_a_number_stands_over_the_bar_whose_height_it_is(frame, ax, of, part):
    reactivation.print(frame, ax, of=of)
    for text, bar in zip(ax.texts, ax.containers[part], strict=True):
        assert text.xy[1] == pytest.approx(bar.get_y() + bar.get_height())
        assert text.get_text() == f"{text.xy[1]:.0%}"


@pytest.mark.parametrize("of", reactivation.DENOMINATORS)
def test_numbers_have_room_below_the_legend_when_nothing_is_pruned_for_good(all_back, ax, of):
    frame = all_back.reactivation()
    reactivation.print(frame, ax, of=of)
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[0]]
    assert ax.get_ylim()[1] >= 1.1 * max(tops)
    assert numbers(ax) == [f"{tops[0]:.0%}"]


def test_a_frame_without_pruning_draws_no_bar(frame, ax):
    reactivation.print(frame.assign(pruned=0), ax)
    assert not ax.patches


def test_the_screen_stacks_the_same_shares(all_back):
    chart = reactivation.screen(reactivation.frame(all_back))
    bars = chart.layer[0].data
    assert bars.state.tolist() == list(reactivation.STATES)
    assert bars.share.sum() == pytest.approx(all_back.reactivation().pruned_share.max())
    drawn = chart.to_dict()["layer"][0]["encoding"]["color"]
    assert drawn["scale"]["domain"] == list(reactivation.STATES)


def test_runs_below_each_other_have_one_scale(tmp_path):
    mild = [1.0] * 3 + [0.9] * 9
    with RunWriter(tmp_path / "mild", {**PROVENANCE, "targets": mild}) as writer:
        writer.add(trace_of(1, TRACE.grid, np.zeros(TRACE.grid.grid_hw), 0, mild))
    runs = [write_run(tmp_path / "run", (1,)), open_run(tmp_path / "mild")]
    (product,) = reactivation.draw(runs, DrawOptions())
    (top,) = {part.axes[0].get_ylim()[1] for part in product.figure.subfigs}
    assert top > 0.6  # of the one that prunes more
