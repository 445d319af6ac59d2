"""Measured values for the claim ledger: every claim names its measure, "kind:name"."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.paper import classified, differences, recorded, timed
from analysis.paper.measurement import LeftOut, Measurement, Wanted
from analysis.sources.collection import Collection

MEASURES = {
    "ap": differences.ap,
    "difference": differences.difference,
    "accuracy": classified.accuracy,
    "accuracy-difference": classified.difference,
    "complexity": differences.complexity,
    "speed": timed.speed,
    "tradeoff": timed.tradeoff,
    **recorded.MEASURES,
}


def measurements(
    claim: Wanted, found: Collection
) -> tuple[Sequence[Measurement], Sequence[LeftOut]]:
    """What was measured of a claim's quantity, of its own kind or of another, and what does not count.

    Raises:
        RunError: a recording is damaged.
    """
    kind, _, name = claim.measure.partition(":")
    all_found = list(MEASURES[kind](claim, name, found)) if kind in MEASURES else []
    measured = [one for one in all_found if isinstance(one, Measurement)]
    return measured, [one for one in all_found if isinstance(one, LeftOut)]
