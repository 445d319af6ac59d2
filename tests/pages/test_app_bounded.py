"""What a viewer's session and the caches hold over 200 interactions: bounded, however long one looks."""

from __future__ import annotations

import pytest
import streamlit as st
from streamlit.runtime.caching import (
    get_data_cache_stats_provider,
    get_resource_cache_stats_provider,
)
from support.driven import open_page
from support.runs import write_run

from analysis.pages.parts import session

INTERACTIONS, HALF = 200, 100
IMAGES = 12
MOST = 64 * 2**20  # bytes of all caches: a cached picture of this run has some 100 kB


def held(page) -> dict[str, int]:
    """Entries of the session, addresses that Back finds, bytes in the caches."""
    providers = (get_data_cache_stats_provider(), get_resource_cache_stats_provider())
    stats = [one for provider in providers for one in provider.get_stats().values()]
    return {
        "session": len(page.session_state._state.filtered_state),
        "addresses": len(page.session_state[session.WRITTEN]),
        "cached": sum(one.byte_length for kind in stats for one in kind),
    }


@pytest.mark.slow
def test_two_hundred_interactions_leave_session_and_caches_bounded(monkeypatch, tmp_path):
    write_run(tmp_path / "discs", tuple(range(1, IMAGES + 1)))
    st.cache_data.clear(), st.cache_resource.clear()
    page = open_page(monkeypatch, "image", tmp_path)
    sizes = []
    for turn in range(INTERACTIONS):
        if turn % 4 == 3:
            page.selectbox(key="image").set_value(1 + turn // 4 % IMAGES)
        elif turn % 4 == 2:
            page.slider(key="score").set_value(0.05 * (turn % 20))
        else:
            page.slider(key="block").set_value(1 + turn * 7 % 12)
        page.run()
        assert not page.exception
        sizes.append(held(page))
    print(sizes[0], sizes[HALF - 1], sizes[-1])  # with -s
    for one in sizes:
        assert one["session"] <= sizes[HALF - 1]["session"] + 2, one
        assert one["addresses"] <= session.REMEMBERED
        assert one["cached"] <= MOST
    assert sizes[-1]["cached"] <= 1.1 * sizes[HALF - 1]["cached"] + 2**20
