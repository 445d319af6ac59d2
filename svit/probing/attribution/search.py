"""The smallest set of tokens that suffices, by bisecting an order and then leaving tokens out group by group.

What a detector does is not monotone in its tokens, so a set is not proved to be the smallest; it is one that
was run and suffices, and from which, where `minimal` says so, no single token can go.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Enough = Callable[[list[np.ndarray]], list[tuple[bool, float]]]
"""Sets of tokens -> whether each suffices, and the score with it."""
GROUPS = 8  # that a set is cut into at first


class Budget:
    """Asks whether sets suffice until so many were asked about."""

    def __init__(self, ask: Enough, forwards: int) -> None:
        self._ask, self.left, self.spent = ask, forwards, 0

    def __call__(self, sets: list[np.ndarray]) -> list[tuple[bool, float]]:
        """Of as many of the sets as the budget allows, the first ones."""
        sets = sets[: self.left]
        self.left -= len(sets)
        self.spent += len(sets)
        return self._ask(sets) if sets else []


def shortest(order: np.ndarray, low: int, high: int, budget: Budget, batch: int) -> int:
    """A length at which the beginning of an order suffices, between one at which it does not and one at which
    it does; `batch` lengths a round, until they are neighbours or the budget is used."""
    while high - low > 1 and budget.left:
        sizes = np.unique(np.linspace(low, high, batch + 2).round().astype(int))
        sizes = [int(size) for size in sizes if low < size < high]
        found = budget([order[:size] for size in sizes])
        good = [size for size, (enough, _) in zip(sizes, found) if enough]
        high = min([high, *good])
        low = max([low, *(size for size, (enough, _) in zip(sizes, found) if size < high)])
    return high


def thinned(start: np.ndarray, budget: Budget, seed: int) -> tuple[np.ndarray, bool]:
    """A part of a set that suffices, by leaving groups out: the harmless ones first, as many together as can
    go; when none can, groups half as large.

    Returns: the part, and whether no single token of it can go.
    """
    random, kept = np.random.default_rng(seed), start
    size = max(1, len(kept) // GROUPS)
    while budget.left and len(kept) > 1:
        size = min(size, max(1, len(kept) // 2))
        groups = np.array_split(random.permutation(kept), -(-len(kept) // size))
        found = budget([np.setdiff1d(kept, group) for group in groups])
        complete = len(found) == len(groups)
        free = [(score, place) for place, (enough, score) in enumerate(found) if enough]
        if not free:
            if complete and size == 1:
                return kept, True
            size = max(1, size // 2)
            continue
        kept = _without(kept, [groups[place] for _, place in sorted(free, reverse=True)], budget)
    return kept, len(kept) < 2


def _without(kept: np.ndarray, groups: list[np.ndarray], budget: Budget) -> np.ndarray:
    """The set without the first groups, as many as can go together; the first alone can."""
    counts = sorted({1 << power for power in range(1, len(groups).bit_length())} | {len(groups)})
    counts = [count for count in counts if 1 < count <= len(groups)]
    parts = [np.setdiff1d(kept, np.concatenate(groups[:count])) for count in counts]
    parts = [part for part in parts if len(part)]
    good = [part for part, (enough, _) in zip(parts, budget(parts)) if enough]
    return min([np.setdiff1d(kept, groups[0]), *good], key=len)
