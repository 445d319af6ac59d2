"""Top-1 and top-5 for the claim ledger: the paper's supplement, on classifiers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from analysis.paper.measurement import LeftOut, Measurement, Wanted, unfit
from analysis.sources.classifiers import Classified, alike, own_of
from analysis.sources.collection import Collection
from analysis.sources.evaluations import ANYHOW
from svit.core.statistics import combined

OVER_IMAGES = "95 % percentile over images"
UNKNOWN = "start and length of the trainings are not recorded"


def accuracy(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement]:
    """Top-1 or top-5 of the model itself; only of the claim's own kind."""
    for one in found.accuracies:
        if one.facts.model == claim.model and _exact(claim, one):
            interval = one.drawn(kind).interval()
            yield Measurement(
                interval.value,
                *interval.bounds,
                OVER_IMAGES,
                one.facts,
                (one.path.as_posix(),),
                True,
                {one.facts.training_seed: interval.value},
                one.images,
                (one.keep_ratio,),
            )


def difference(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement | LeftOut]:
    """Top-1 or top-5 of a model minus that of another one alike, seed by seed; remarks tell what its masks
    are worth over moved ones."""
    pairs: dict[tuple, list[tuple[Classified, Classified]]] = {}
    for one in found.accuracies:
        if one.facts.model != claim.model:
            continue
        if cause := unfit(one.facts, claim.ratios[0]):
            yield LeftOut(one.path.name, cause)
            continue
        others = [two for two in found.accuracies if _own(two, claim.against) and alike(one, two)]
        if not others:
            yield LeftOut(one.path.name, f"no {claim.against} classifier alike")
        for other in others:
            pairs.setdefault(_key(one), []).append((one, other))
    for same in pairs.values():
        yield _subtracted(claim, kind, same, found.accuracies)


def _key(one: Classified) -> tuple:
    """All that classifiers of one measurement share: everything but the seeds of their trainings."""
    facts, trained = one.facts, one.provenance.get("trained") or {}
    recipe = {name: value for name, value in trained.items() if name not in ANYHOW}
    told = json.dumps(recipe, sort_keys=True)
    return facts.data_sha256, one.images, facts.size, facts.source, told


def _own(one: Classified, model: str) -> bool:
    return one.facts.model == model and one.facts.decides


def _subtracted(
    claim: Wanted,
    kind: str,
    pairs: Sequence[tuple[Classified, Classified]],
    known: Sequence[Classified],
) -> Measurement:
    """A mean over trainings, paired over images."""
    parts = [one.drawn(kind) - other.drawn(kind) for one, other in pairs]
    mean = combined(parts, [1 / len(parts)] * len(parts))
    first = pairs[0][0]
    seeds = {pair[0].facts.training_seed: part.value for pair, part in zip(pairs, parts)}
    kept = tuple(float(np.mean([one.keep_ratio for one in side])) for side in zip(*pairs))
    remarks = [f"own masks − {name} {worth}" for name, worth in _worths(kind, pairs, known)]
    return Measurement(
        mean.value,
        *mean.interval().bounds,
        f"{OVER_IMAGES}, paired",
        first.facts,
        tuple(dict.fromkeys(one.path.as_posix() for pair in pairs for one in pair)),
        _exact(claim, first),
        seeds,
        first.images,
        kept,
        remarks=(*remarks, *([] if first.provenance.get("trained") else [UNKNOWN])),
        above=mean.above,
        draws=len(mean.draws),
    )


def _worths(
    kind: str, pairs: Sequence[tuple[Classified, Classified]], known: Sequence[Classified]
) -> Iterator[tuple[str, str]]:
    """Name of moved masks -> how much better the models' own ones are, mean over trainings."""
    moved = [(one, own_of(one, known)) for one in known if not one.facts.decides]
    for masks in dict.fromkeys(one.facts.source[2] for one, _ in moved):
        parts = [
            own.drawn(kind) - one.drawn(kind)
            for one, own in moved
            if one.facts.source[2] == masks and any(own is pair[0] for pair in pairs)
        ]
        if parts:
            yield masks, combined(parts, [1 / len(parts)] * len(parts)).signed


def _exact(claim: Wanted, one: Classified) -> bool:
    """Whether it is what the supplement speaks of: DeiT-S on all of ImageNet's validation pictures."""
    right = one.facts.size == claim.size and one.facts.data == "ImageNet"
    return right and not unfit(one.facts, claim.ratios[0])
