"""AP and its differences for the claim ledger: like with like, trained alike, seed by seed.

Two evaluations may be subtracted if both models decide their masks themselves, at the keep ratios that the
claim is about and were trained for, on the same images at the same size, with the same body and framework,
from the same weights, by the same recipe, equally long and with the same seed. What does not fit is left out
with the reason; trainings are averaged where they differ in nothing but seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from analysis.paper.measurement import LeftOut, Measurement, Wanted, exact, unfit
from analysis.sources import paired
from analysis.sources.collection import Collection
from analysis.sources.evaluations import Evaluation, Origin
from analysis.sources.rates import recipe_of
from svit.core.statistics import Drawn

Pair = tuple[Evaluation, Evaluation]
PAIRED = "95 % percentile over images, paired"
APART = "95 % percentile over images, two intervals in quadrature"
UNKNOWN = "start and length of the trainings are not recorded"


def ap(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement]:
    """AP of the model itself; only evaluations of the claim's own kind."""
    chosen = [
        one
        for one in found.results
        if one.facts.model == claim.model
        and kind in one.kinds
        and exact(one.facts, claim.size, claim.ratios[0])
    ]
    for group in _groups(chosen):
        values = {seed: [one.ap(kind) for one in same] for seed, same in by_seed(group).items()}
        ends = np.mean([one.interval(kind) for one in group], axis=0)
        yield _measured(
            values, ends, "95 % percentile over images", group, exact=True, kept=(_kept(group),)
        )


def difference(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement | LeftOut]:
    """AP of a model minus AP of the other."""
    found = found.of_results([one for one in found.results if kind in one.kinds])
    sides = (
        list(_fitting(claim.model, claim.ratios[0], found)),
        list(_fitting(claim.against, claim.ratios[1], found)),
    )
    first, second = ([one for one, cause in side if not cause] for side in sides)
    fitting = [*first, *second]
    for one, cause in [pair for side in sides for pair in side if pair[0] not in fitting]:
        yield LeftOut(_name(one), cause)
    yield from _unpaired(first, second)
    yield from _unpaired(second, first)
    for pairs in _pair_groups(first, second):
        ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        right = (
            exact(side[0].facts, claim.size, ratio)
            for side, ratio in zip((ours, theirs), claim.ratios, strict=True)
        )
        yield _subtracted(pairs, kind, ours, theirs, all(right))


def _subtracted(
    pairs: Sequence[Pair],
    kind: str,
    ours: Sequence[Evaluation],
    theirs: Sequence[Evaluation],
    exact: bool,
) -> Measurement:
    """The difference of pairs that are alike: by seed, with the narrowest interval that is known."""
    seeds = by_seed(pairs)
    values = {
        seed: [one.ap(kind) - other.ap(kind) for one, other in same] for seed, same in seeds.items()
    }
    drawn = paired.gap(seeds.values(), kind)
    remarks = () if ours[0].origin.known else (UNKNOWN,)
    group, kept = [*ours, *theirs], (_kept(ours), _kept(theirs))
    if drawn is not None:
        ends = drawn.interval().bounds
        return _measured(values, ends, PAIRED, group, exact, kept, remarks, drawn)
    half = np.hypot(*(np.mean([one.half_width(kind) for one in side]) for side in (ours, theirs)))
    middle = np.mean([np.mean(found) for found in values.values()])
    return _measured(values, (middle - half, middle + half), APART, group, exact, kept, remarks)


def complexity(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement | LeftOut]:
    """Pearson's correlation over images of the tokens kept with `name`, objects or area; its interval by
    Fisher's transformation."""
    for one, cause in _fitting(claim.model, claim.ratios[0], found):
        value = (one.summary.get("correlation_with_keep_ratio") or {}).get(name)
        if cause:
            yield LeftOut(_name(one), cause)
        elif value is not None and one.images > 3:
            width = 1.96 / np.sqrt(one.images - 3)
            low, high = np.tanh(np.arctanh(value) + np.array([-width, width]))
            yield Measurement(
                value,
                float(low),
                float(high),
                "95 % over images (Fisher)",
                one.facts,
                (one.path.as_posix(),),
                exact(one.facts, claim.size, claim.ratios[0]),
                {one.facts.training_seed: value},
                one.images,
                (_kept([one]),),
            )


def unlike(one: Evaluation, other: Evaluation) -> list[str]:
    """In what two evaluations differ that may not differ where they are subtracted; empty if in nothing."""
    mine, theirs = one.facts, other.facts
    causes = []
    if (mine.data_sha256, one.images) != (theirs.data_sha256, other.images):
        causes.append("other images")
    if (mine.size, mine.neck) != (theirs.size, theirs.neck):
        causes.append("another body")
    if mine.source[0] != theirs.source[0]:
        causes.append("another framework")
    modes = {mine.source[1], theirs.source[1]} - {""}
    if len(modes) > 1:
        causes.append(f"decided by {mine.source[1]}, not {theirs.source[1]}")
    causes += _seen_apart(one, other)
    causes += _origins_apart(one.origin, other.origin)
    if one.origin.known and other.origin.known and one.recipe != other.recipe:
        causes.append("trained by another recipe")
    if mine.training_seed != theirs.training_seed:
        causes.append(f"training seed {mine.training_seed}")
    return causes


def _seen_apart(one: Evaluation, other: Evaluation) -> Iterator[str]:
    if one.precision != other.precision:
        yield f"evaluated in {one.precision}, not {other.precision}"
    if one.sides != other.sides:
        yield f"pictures of {one.sides or 'unknown size'}, not {other.sides or 'unknown size'}"
    if one.reading != other.reading:
        yield f"data read with {one.reading}, not {other.reading}"


def _origins_apart(mine: Origin, theirs: Origin) -> Iterator[str]:
    if mine.views != theirs.views:
        yield f"trained on {mine.views or 'unknown'} pictures, not {theirs.views or 'unknown'}"
    if mine.start != theirs.start:
        yield "started from other weights" if mine.start and theirs.start else "start not recorded"
    if mine.pictures != theirs.pictures and mine.pictures and theirs.pictures:
        yield "trained on other pictures"


def by_seed(group: Iterable) -> dict[int, list]:
    """Evaluations, or pairs of them, by the seed of their training; several of a seed differ in sampled
    masks only."""
    found: dict[int, list] = {}
    for one in group:
        first = one[0] if isinstance(one, tuple) else one
        found.setdefault(first.facts.training_seed, []).append(one)
    return dict(sorted(found.items()))


def _fitting(
    model: str, ratio: float | None, found: Collection
) -> Iterator[tuple[Evaluation, str]]:
    """The evaluations of a model, and why one is not of the claim's."""
    for one in found.results:
        if one.facts.model == model:
            yield one, unfit(one.facts, ratio)


def _unpaired(first: Sequence[Evaluation], second: Sequence[Evaluation]) -> Iterator[LeftOut]:
    """Those of the first that no evaluation of the second is like, with the least that differs."""
    for one in first:
        causes = [unlike(one, other) for other in second]
        if second and all(causes):
            least = ", ".join(min(causes, key=len))
            yield LeftOut(_name(one), f"no {second[0].facts.model} alike ({least})")


def _pair_groups(
    first: Sequence[Evaluation], second: Sequence[Evaluation]
) -> Iterator[Sequence[Pair]]:
    """Pairs that are alike, together where they differ in nothing but seeds."""
    groups: dict[tuple, list[Pair]] = {}
    for one in first:
        for other in second:
            if not unlike(one, other):
                groups.setdefault((*_key(one), *_key(other)), []).append((one, other))
    yield from groups.values()


def _groups(results: Sequence[Evaluation]) -> Iterator[list[Evaluation]]:
    groups: dict[tuple, list[Evaluation]] = {}
    for one in results:
        groups.setdefault(_key(one), []).append(one)
    yield from groups.values()


def _key(one: Evaluation) -> tuple:
    """All that evaluations of one group share: everything but seeds."""
    facts = one.facts
    body = (facts.preset, facts.size, facts.neck, facts.targets, facts.source)
    return *body, *seen(one), one.origin, recipe_text(one)


def seen(one: Evaluation) -> tuple:
    """The images of an evaluation, how many, and how the network saw them."""
    return one.facts.data_sha256, one.images, one.precision, one.sides, one.reading


def recipe_text(one: Evaluation) -> str:
    """What trainings of one model that differ in seeds alone have in common: `recipe_of`, and where that is
    not known all settings, as there the length is known by them alone."""
    return recipe_of(one) or json.dumps(one.recipe, sort_keys=True)


def _measured(
    values: dict[int, list[float]],
    ends: Sequence[float],
    noise: str,
    group: Sequence[Evaluation],
    exact: bool,
    kept: tuple[float, ...],
    remarks: tuple[str, ...] = (),
    drawn: Drawn | None = None,
) -> Measurement:
    """Means over trainings, each the mean over its sampled masks; the first of the group is the model's."""
    seeds = {seed: float(np.mean(found)) for seed, found in values.items()}
    return Measurement(
        float(np.mean(list(seeds.values()))),
        *(float(end) for end in ends),
        noise,
        group[0].facts,
        tuple(dict.fromkeys(one.path.as_posix() for one in group)),
        exact,
        seeds,
        group[0].images,
        kept,
        remarks=remarks,
        above=drawn.above if drawn else float("nan"),
        draws=len(drawn.draws) if drawn else 0,
    )


def _kept(group: Sequence[Evaluation]) -> float:
    return float(np.mean([one.mean("keep_ratio") for one in group]))


def _name(one: Evaluation) -> str:
    return "/".join(one.path.parts[-2:])
