"""Carried is the third state beside used and pruned: in every count of tokens, and nowhere without merges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import census_of, merged_trace, reactivation_of

from analysis.figures.canvas import pictures, token_maps
from analysis.numbers import (
    biography,
    comparison,
    edit_effects,
    lifetimes,
    matching,
    per_image,
    usage,
)
from svit.core.types import Target, TokenGrid, TokenTrace

TRACE = merged_trace()


@st.composite
def traces(draw: st.DrawFn) -> TokenTrace:
    """Any groups of a small grid with padding, some carriers turned off, some tokens on."""
    layers, (rows, columns) = 3, (2, 4)
    own = np.arange(rows * columns)
    group, keep = [], []
    for _ in range(layers):
        carriers = draw(st.lists(st.sampled_from(own.tolist()), min_size=1, unique=True))
        group.append([n if n in carriers else draw(st.sampled_from(carriers)) for n in own])
        off = draw(st.sets(st.sampled_from(own.tolist())))
        keep.append([n in carriers and n not in off for n in own])
    shape = (layers, rows, columns)
    grid = TokenGrid((32, 40), (32, 40), (rows, columns))
    return TokenTrace(1, grid, np.reshape(keep, shape), group=np.reshape(group, shape))


@settings(max_examples=60)
@given(traces())
def test_used_carried_and_pruned_are_all(trace: TokenTrace) -> None:
    states = usage.layer_states(trace)
    total = states.used.astype(int) + states.carried + states.pruned
    assert (total == 1).all()
    assert (states.never | states.later == states.pruned).all()
    codes = comparison.lives(trace)
    assert ((codes == comparison.STATES.index("carried")) == states.carried).all()
    assert ((codes == 0) == states.used).all()


def test_a_carried_token_is_not_told_as_pruned_beside_edits() -> None:
    states = usage.layer_states(TRACE)
    for layer in range(TRACE.layers):
        told = edit_effects.token_frame(TRACE, TRACE, layer)["state"].to_numpy()
        for name in ("used", "carried", "pruned"):
            assert ((told == name) == getattr(states, name)[layer].ravel()).all()
    alone = replace(TRACE, keep=np.ones_like(TRACE.keep), group=None)
    layer = int(np.argmax(states.carried.any(axis=(1, 2))))
    told = edit_effects.token_frame(TRACE, alone, layer)["state"]
    assert (told == "turned on").sum() == (~states.used[layer]).sum()
    off = replace(TRACE, keep=np.zeros_like(TRACE.keep))
    told = edit_effects.token_frame(TRACE, off, layer)["state"]
    assert (told == "turned off").sum() == (~states.pruned[layer]).sum()


@settings(max_examples=15, deadline=None)
@given(st.lists(traces(), min_size=1, max_size=3))
def test_a_run_is_counted_over_packed_bits_as_image_by_image(found: list[TokenTrace]) -> None:
    counted = census_of(*found).reactivation()
    expected = reactivation_of(found)
    for name in expected:
        np.testing.assert_allclose(counted[name].astype(float), expected[name].astype(float))


def test_counts_of_a_run_that_merges_have_a_column_more_and_shares_that_add_up() -> None:
    frame = census_of(TRACE).reactivation()
    rows, columns = TRACE.grid.valid_hw
    assert frame["carried"].tolist() == [0, columns - 1, columns - 1, 2 * (columns - 1)]
    assert frame["pruned"].tolist() == [0] * 4
    by_image = census_of(TRACE).by_image()
    np.testing.assert_allclose(by_image["used_share"], 1 - frame["carried_share"])
    np.testing.assert_allclose(
        per_image.spread_frame(by_image)["used_share"], by_image["used_share"]
    )
    plain = census_of(replace(TRACE, group=None)).reactivation()
    assert "carried" not in plain and plain["pruned"].tolist() == frame["carried"].tolist()


def test_a_carried_token_is_neither_dropped_nor_back_in_the_lives_of_tokens() -> None:
    steps = lifetimes.transition_frame([TRACE])
    assert steps["drop"].tolist() == [0] * 3 and steps["return"].tolist() == [0] * 3
    assert not lifetimes.return_counts(TRACE).any()
    plain = lifetimes.transition_frame([replace(TRACE, group=None)])
    assert plain["drop"].tolist()[0] > 0


def test_the_story_of_a_token_tells_when_it_was_carried() -> None:
    life = biography.story(TRACE, 0, 1)
    assert (life.used, life.carried, life.joined) == (1, 3, 2)
    assert life.dropped is None and life.returns == 0
    states = biography.token_frame(TRACE, 0, 1)["state"]
    assert states.tolist() == ["used", "carried", "carried", "carried"]


def test_an_object_whose_tokens_are_carried_is_not_lost() -> None:
    mask = np.zeros((1, *TRACE.grid.image_hw), bool)
    mask[:, :10, 20:] = True  # in the first row of tokens, beside its carrier
    boxes = np.array([[20, 0, 60, 10]])
    target = Target(boxes, np.array([0]), mask)
    shares = matching.object_shares(TRACE, target)
    assert matching.fates(shares)["fate"][0] == "kept"
    plain = matching.object_shares(replace(TRACE, group=None), target)
    assert matching.fates(plain)["fate"][0] == "lost"


def test_carried_tokens_are_drawn_in_their_own_colour_and_named_where_they_are() -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    from analysis.figures import palette

    left, right = Figure().subplots(1, 2)
    states = usage.layer_states(TRACE)
    pictures.layer_tokens(states, 1, TRACE.grid, left, alpha=0.5)
    cover = np.asarray(left.get_images()[-1].get_array())
    np.testing.assert_allclose(cover[0, 1], to_rgba(palette.CARRIED, 0.5))
    assert cover[0, 0, 3] == 0 and cover[1, 0, 3] == 0
    pictures.state_legend(right, merges=True)
    texts = [text.get_text() for text in right.get_legend().get_texts()]
    assert len(texts) == 4 and "carried by another token" in texts
    pixels = token_maps.states(comparison.lives(TRACE)[1], 1.0)
    assert pixels[0, 1].tolist() == [round(255 * c) for c in to_rgba(palette.CARRIED)]


@pytest.mark.parametrize("part", ["used", "carried", "pruned"])
def test_padding_is_in_no_state(part: str) -> None:
    rows, columns = TRACE.grid.valid_hw
    assert getattr(usage.layer_states(TRACE), part).shape == (4, rows, columns)
