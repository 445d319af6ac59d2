"""The search ends with a set that was asked about and suffices, within its budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from svit.probing.attribution.search import Budget, shortest, thinned


def needing(needed: set[int], log: list[np.ndarray]):
    """Suffices is what holds all that is needed; scores tell how many others there are."""

    def ask(sets: list[np.ndarray]) -> list[tuple[bool, float]]:
        log.extend(sets)
        return [(needed <= set(one.tolist()), -len(one)) for one in sets]

    return ask


@given(st.sets(st.integers(0, 63), min_size=1, max_size=12), st.integers(0, 5))
def test_of_a_monotone_detector_the_needed_tokens_are_found_exactly(
    needed: set[int], seed: int
) -> None:
    budget = Budget(needing(needed, []), 2000)
    kept, minimal = thinned(np.arange(64), budget, seed)
    assert set(kept.tolist()) == needed and minimal


@given(st.integers(1, 60), st.integers(0, 40), st.integers(0, 3))
def test_a_budget_is_never_exceeded_and_what_is_returned_was_asked(
    needed: int, forwards: int, seed: int
) -> None:
    log: list[np.ndarray] = []
    budget = Budget(needing(set(range(needed)), log), forwards)
    kept, _ = thinned(np.arange(64), budget, seed)
    assert budget.spent == len(log) <= forwards
    assert len(kept) == 64 or any(np.array_equal(kept, one) for one in log)
    assert set(range(needed)) <= set(kept.tolist())


@given(st.integers(1, 63), st.integers(1, 9))
def test_bisecting_an_order_finds_where_it_begins_to_suffice(first: int, batch: int) -> None:
    order = np.random.default_rng(0).permutation(64)
    budget = Budget(needing(set(order[:first].tolist()), []), 500)
    assert shortest(order, 0, 64, budget, batch) == first
