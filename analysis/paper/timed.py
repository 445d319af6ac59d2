"""Speeds for the claim ledger: images a second, and how much faster one model is than another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.paper.differences import by_seed, recipe_text, seen
from analysis.paper.measurement import Measurement, Wanted
from analysis.sources.benchmarks import Speed, conditions, of_results, quartiles
from analysis.sources.collection import Collection
from analysis.sources.evaluations import Evaluation, own_masks
from analysis.sources.rates import recipe_of
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
                yield _measured(one, float(np.median(gains)), quartiles(gains), exact, other)


@dataclass(frozen=True)
class _Point:
    """A model at one speed: evaluations that differ in nothing but seeds."""

    timed: Speed
    results: tuple[Evaluation, ...]

    def aps(self, kind: str) -> dict[int, float]:
        """Training seed -> AP, a mean over the evaluations of that training."""
        return {
            seed: _mean(one.ap(kind) for one in same)
            for seed, same in by_seed(self.results).items()
        }

    def ap(self, kind: str) -> float:
        """Mean over trainings."""
        return _mean(self.aps(kind).values())


def tradeoff(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement]:
    """AP over that of dense models at equal speed, the least over a model's base ratios and recipes; means
    over trainings.

    Between the speeds of two dense sizes their APs are joined by a line. A model slower than all of them
    meets the slowest; one that is faster and less accurate than the fastest is neither better nor worse.
    """
    trained = [one for one in own_masks(found.results) if not one.facts.dial and kind in one.kinds]
    networks = [one for one in found.speeds if one.part == "network"]
    for condition, pairs in of_results(trained, networks).items():
        for points in _comparable(pairs):
            line = _line([one for one in points if one.timed.dense], kind)
            ours = [one for one in points if not one.timed.dense]
            ours = [one for one in ours if one.results[0].facts.model == claim.model]
            over = [(gains, one) for one in ours for gains in _over_line(one, kind, line)]
            if len(line) > 1 and over:
                gains, least = min(over, key=lambda pair: _mean(pair[0]))
                half = _mean(one.half_width(kind) for one in least.results)
                value = _mean(gains.values())
                yield Measurement(
                    value,
                    *(value - half, value + half),
                    "95 % percentile over images",
                    least.results[0].facts,
                    tuple(one.path.as_posix() for point in points for one in point.results),
                    all(_as_timed(one.timed, one.timed.facts.size) for one in points),
                    gains,
                    0,
                    place=condition,
                )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _comparable(pairs: Sequence[tuple[Evaluation, Speed]]) -> Iterator[list[_Point]]:
    """What was evaluated on the same images with the same neck and trained by the same recipe, where that is
    known: a point a model, size, ratio and recipe."""
    groups: dict[tuple, dict[tuple, list[tuple[Evaluation, Speed]]]] = {}
    for one, speed in pairs:
        facts, origin = one.facts, one.origin
        shared = (facts.neck, facts.source[0], origin.views, origin.pictures, recipe_of(one))
        group = groups.setdefault((*seen(one), *shared), {})
        model = (facts.model, facts.size, facts.base_ratio, facts.source[1], speed.variant)
        group.setdefault((*model, origin.start, recipe_text(one)), []).append((one, speed))
    for group in groups.values():
        yield [_Point(same[0][1], tuple(one for one, _ in same)) for same in group.values()]


def _line(dense: Sequence[_Point], kind: str) -> dict[float, float]:
    """Images a second -> AP of dense models, by speed; of several recipes at one speed the best."""
    found: dict[float, float] = {}
    for one in sorted(dense, key=lambda point: point.ap(kind)):
        found[one.timed.images_per_second] = one.ap(kind)
    return dict(sorted(found.items()))


def _over_line(point: _Point, kind: str, line: dict[float, float]) -> Iterator[dict[int, float]]:
    """Training seed -> AP over the line at the point's speed, where its mean says anything."""
    if line:
        speed, fastest = point.timed.images_per_second, max(line)
        level = float(np.interp(speed, list(line), list(line.values())))
        gains = {seed: ap - level for seed, ap in point.aps(kind).items()}
        if speed <= fastest or _mean(gains.values()) > 0:
            yield gains


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
    noise = "" if np.isnan(spread[0]) else NOISE
    return Measurement(value, *spread, noise, one.facts, paths, exact, place=place, remarks=remarks)
