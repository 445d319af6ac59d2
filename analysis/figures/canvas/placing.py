"""Where words and axes go so that everything can be read: labels apart, outliers told, names cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FAR = 0.3  # share of the whole range from which a gap sets outliers apart
FEW = 1 / 3  # outliers are at most so many of all


def apart(wanted: Sequence[float], least: float, low: float, high: float) -> np.ndarray:
    """Places as near to the wanted ones as can be, in their order, each at least so far from the next, and
    from low to high where they fit.

    Least squares under these distances: isotonic regression of the places minus their rank's share, by
    pooling neighbours that violate the order.
    """
    order = np.argsort(wanted, kind="stable")
    steps = least * np.arange(len(order))
    pools: list[tuple[float, int]] = []  # mean, members
    for value in np.asarray(wanted, float)[order] - steps:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, few), (other, many) = pools[-2:]
            pools[-2:] = [((one * few + other * many) / (few + many), few + many)]
    places = np.repeat([mean for mean, _ in pools], [count for _, count in pools]) + steps
    places = np.maximum(np.minimum(places, high - steps[::-1]), low + steps)
    return places[np.argsort(order)]


def floor(values: Sequence[float]) -> float:
    """The least value that an axis needs to show, where a few lie far below all others.

    Few: at most a third; far: the largest gap between neighbours is more than 30 % of the whole range.
    """
    known = np.sort(np.asarray(values, float))
    known = known[~np.isnan(known)]
    if len(known) < 4 or known[0] == known[-1]:
        return float(known[0]) if len(known) else float("nan")
    gaps = np.diff(known)
    widest = int(gaps.argmax())
    outliers = gaps[widest] > FAR * (known[-1] - known[0]) and widest + 1 <= FEW * len(known)
    return float(known[widest + 1] if outliers else known[0])


def shortened(name: str, most: int = 28) -> str:
    """A long name by its two ends, where names of runs and models differ."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"


def short_names(names: Sequence[str], most: int = 28) -> dict[str, str]:
    """`shortened` names by name; those that would look alike are numbered."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        short, turn = shortened(name, most), 1
        while short in found.values():
            turn += 1
            short = f"{shortened(name, most - 3 - len(str(turn)))} ({turn})"
        found[name] = short
    return found
