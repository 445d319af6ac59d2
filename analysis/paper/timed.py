"""Speeds for the claim ledger: images a second, and how much faster one model is than another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.paper.measurement import Measurement, Wanted
from analysis.sources.benchmarks import Speed, conditions, of_results
from analysis.sources.collection import Collection
from analysis.sources.evaluations import Evaluation, own_masks
from svit.core.presets import PRESETS

NOISE = "quartiles over rounds"
RANDOM = (
    "random weights: how many objects are found, and with it the time of the heads, is arbitrary"
)


def speed(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement]:
    """Images a second, only on the paper's GPU; or how much faster than another model in the same
    benchmark, in percent, anywhere.

    Where a benchmark has no dense model of that size, the model itself with all tokens kept stands in
    for it, which is never of the claim's kind: its gates still cost.
    """
    part = {"whole": "network", "backbone": "backbone"}[name]
    for group in conditions(found.speeds).values():
        for one in group:
            mine = one.part == part and one.facts.model == claim.model
            if not mine or one.dense != (claim.model == "dense"):
                continue
            if not claim.against and _as_timed(one, claim.size):
                yield _measured(one, one.images_per_second, one.quartiles, exact=True)
            for other in _slower(one, claim, group) if claim.against else ():
                gains = one.faster_than(other)
                exact = all(_as_timed(each, claim.size) for each in (one, other))
                exact = exact and other.facts.model == claim.against
                spread = tuple(np.quantile(gains, [0.25, 0.75]).tolist())
                yield _measured(one, float(np.median(gains)), spread, exact, other)


def tradeoff(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement]:
    """AP over that of dense models at equal speed, the least over a model's base ratios.

    Between the speeds of two dense sizes their APs are joined by a line. A model slower than all of them
    meets the slowest; one that is faster and less accurate than the fastest is neither better nor worse.
    """
    trained = [one for one in own_masks(found.results) if not one.facts.dial]
    networks = [one for one in found.speeds if one.part == "network"]
    for condition, pairs in of_results(trained, networks).items():
        for group in _comparable(pairs):
            dense = sorted((one.images_per_second, a.ap(kind)) for a, one in group if one.dense)
            ours = [(a, one) for a, one in group if a.facts.model == claim.model and not one.dense]
            margins = [gain for pair in ours for gain in _over_line(*pair, kind, dense)]
            if len(dense) > 1 and margins:
                half = float(np.mean([a.half_width(kind) for a, _ in ours]))
                exact = all(_as_timed(one, one.facts.size) for _, one in group)
                facts, least = ours[0][0].facts, min(margins)
                paths = tuple(a.path.as_posix() for a, _ in group)
                spread = (least - half, least + half)
                yield Measurement(
                    least,
                    *spread,
                    "95 % percentile over images",
                    facts,
                    paths,
                    exact,
                    {},
                    0,
                    place=condition,
                )


def _comparable(
    pairs: Sequence[tuple[Evaluation, Speed]],
) -> Iterator[list[tuple[Evaluation, Speed]]]:
    """Pairs on the same images with the same neck, one a model, size and ratio."""
    groups: dict[tuple, dict[tuple, tuple[Evaluation, Speed]]] = {}
    for one, speed in pairs:
        facts = one.facts
        data = (facts.data_sha256, one.images, facts.neck, facts.source[0])
        groups.setdefault(data, {})[(facts.model, facts.size, facts.base_ratio)] = (one, speed)
    for group in groups.values():
        yield list(group.values())


def _over_line(
    one: Evaluation, timed: Speed, kind: str, dense: Sequence[tuple[float, float]]
) -> Iterator[float]:
    if dense:
        speeds, aps = zip(*dense, strict=True)
        gain = one.ap(kind) - float(np.interp(timed.images_per_second, speeds, aps))
        if timed.images_per_second <= speeds[-1] or gain > 0:
            yield gain


def _slower(one: Speed, claim: Wanted, group: Sequence[Speed]) -> list[Speed]:
    """What a claim compares a variant with; a base ratio other than the model's own has no pair."""
    if one.keep not in ("paper", "learned"):
        return []
    same = [other for other in group if other.facts.size == one.facts.size]
    found = [other for other in same if other.facts.model == claim.against]
    if claim.against == "dense":
        return found or [other for other in same if other.model == one.model and other.dense]
    return [other for other in found if other.keep == one.keep]


def _as_timed(one: Speed, size: str) -> bool:
    """Whether a speed was taken as the paper's: batch 1 on an A100, pictures of COCO's usual size."""
    facts, sides = one.facts, [int(side) for side in one.size.split("x")]
    model = facts.size == size and facts.neck == "adapter" and one.keep in ("", "paper", "learned")
    return model and "A100" in one.device and one.batch == 1 and min(sides) == 800


def _measured(
    one: Speed, value: float, spread: tuple[float, float], exact: bool, other: Speed | None = None
) -> Measurement:
    against = "" if other is None else f", against {other.variant}"
    place = f"{one.condition}{against}"
    paths = (one.path.as_posix(),)
    remarks = (RANDOM,) if one.part == "network" and one.model in PRESETS else ()
    return Measurement(value, *spread, NOISE, one.facts, paths, exact, place=place, remarks=remarks)
