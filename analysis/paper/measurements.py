"""Measured values for the claim ledger, computed from evaluations and recordings.

A group is what differs in nothing but the seed; groups are never averaged, and frameworks, inference
modes, models and data sets never share one. Runs whose masks were intervened in do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from analysis.numbers import usage
from analysis.sources import labels
from analysis.sources.benchmarks import Speed, conditions
from analysis.sources.collection import Collection, Recording
from analysis.sources.evaluations import Evaluation, Facts

FEW_IMAGES = 30  # below, a measurement shows neither a direction nor that something is absent


class Wanted(Protocol):
    """What of a claim (`analysis.paper.claims.Claim`) decides what is measured."""

    model: str
    against: str
    size: str
    measure: str


@dataclass(frozen=True)
class Measurement:
    """A measured value of a claim's quantity.

    Attributes:
        value: in the claim's unit; yes and no are 1 and 0.
        count: runs or evaluations behind it (seeds).
        images: of each; 0 of speeds, which pictures do not change.
        spread: standard deviation over them; NaN for one.
        noise: half of a 95 % interval over images, of differences in quadrature (which ignores that
            the images are the same, so it is wide); of speeds half the distance of the quartiles over
            rounds; NaN where not known.
        facts: of the model.
        sources: folders.
        exact: of the kind that the claim is about.
        place: machine and sizes of a speed; empty for what depends on data instead.
    """

    value: float
    count: int
    images: int
    spread: float
    noise: float
    facts: Facts
    sources: tuple[str, ...]
    exact: bool
    place: str = ""

    @property
    def of(self) -> str:
        """Model, and data or machine."""
        return f"{labels.of_facts(self.facts)} on {self.place or self.facts.data}"


def measurements(claim: Wanted, found: Collection) -> Iterator[Measurement]:
    """What was measured of a claim's quantity, of its own kind or of another.

    Raises:
        RunError: a recording is damaged.
    """
    kind, _, name = claim.measure.partition(":")
    if kind in MEASURES:
        yield from MEASURES[kind](claim, name, found)


def _ap(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement]:
    """AP of the model itself; only evaluations of the claim's own kind."""
    for group in _groups(claim.model, found):
        facts = group[0].facts
        if _exact(facts, claim.size):
            values = [one.ap(kind) for one in group]
            yield _measured(values, group, _noise(group, kind), exact=True)


def _difference(claim: Wanted, kind: str, found: Collection) -> Iterator[Measurement]:
    """AP of a model minus AP of the other, on the same images, neck, size and framework."""
    for group in _groups(claim.model, found):
        others = _groups(claim.against, found)
        for other in (one for one in others if _comparable(group[0], one[0])):
            reference = float(np.mean([one.ap(kind) for one in other]))
            values = [one.ap(kind) - reference for one in group]
            noise = float(np.hypot(_noise(group, kind), _noise(other, kind)))
            exact = all(_exact(one[0].facts, claim.size) for one in (group, other))
            yield _measured(values, [*group, *other], noise, exact, len(group))


def _share(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement]:
    """A share of the reactivation frame of a run."""
    for recording in _recorded(claim, found):
        frame = recording.reactivation
        if frame["later"].sum():
            yield _of_recording(claim, recording, _SHARES[name](frame, recording.facts.targets))


def _usage(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement]:
    """Mean usage in the central quarter of the picture minus that of the rest, in layers."""
    for recording in _recorded(claim, found):
        values = recording.counted.mean_usage((48, 80))
        centre = np.zeros(values.shape, bool)
        centre[12:36, 20:60] = True
        value = float(values[centre].mean() - values[~centre].mean())
        yield _of_recording(claim, recording, value)


def _trait(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement]:
    """Whether recorded masks show a trait of Table 1; one of the method, so any data will do.

    Few images can show a trait but not its absence. SViT's top-k mode forces counts: it shows nothing.
    """
    for recording in _recorded(claim, found):
        if (recording.facts.method, recording.facts.source[1]) == ("svit", "topk"):
            continue
        value = float(_TRAITS[name](recording))
        if value or len(recording.run) >= FEW_IMAGES:
            yield _of_recording(claim, recording, value, exact=True)


def _reactivates(recording: Recording) -> bool:
    return bool(recording.reactivation["later"].any())


def _is_dynamic(recording: Recording) -> bool:
    """Whether images of one grid keep different numbers of tokens, rounding (2 tokens) aside."""
    counts = recording.run.keep_counts().groupby(["layer", "tokens"])["kept"]
    return bool((counts.max() - counts.min() > 2).any())


_TRAITS = {"dynamic": _is_dynamic, "reactivates": _reactivates}


def _stage(frame: pd.DataFrame, targets: Sequence[float], last: bool = False) -> pd.DataFrame:
    """Rows of the first or last stage: gated layers that share a target."""
    gated = usage.gated_layers(len(frame), targets)
    wanted = targets[gated[-1 if last else 0]] if len(targets) == len(frame) else None
    same = [layer for layer in gated if wanted is None or targets[layer] == wanted]
    return frame[frame["layer"].isin(same)]


def _early(frame: pd.DataFrame, targets: Sequence[float]) -> float:
    rows = _stage(frame, targets)
    return float(rows["later"].sum() / rows["pruned"].sum())


def _deeper(frame: pd.DataFrame, targets: Sequence[float]) -> float:
    last, first = _stage(frame, targets, last=True), _stage(frame, targets)
    return float(last["later_share"].mean() - first["later_share"].mean())


_SHARES = {
    "immediate": lambda frame, targets: usage.immediate_share(frame),
    "early": _early,
    "deeper": _deeper,
}


def _speed(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement]:
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
                low, high = one.quartiles
                yield _of_speed(one, one.images_per_second, (high - low) / 2, exact=True)
            for other in _slower(one, claim, group) if claim.against else ():
                gains = one.faster_than(other)
                noise = float(np.diff(np.quantile(gains, [0.25, 0.75]))[0]) / 2
                exact = all(_as_timed(each, claim.size) for each in (one, other))
                exact = exact and other.facts.model == claim.against
                yield _of_speed(one, float(np.median(gains)), noise, exact, other)


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


def _of_speed(
    one: Speed, value: float, noise: float, exact: bool, other: Speed | None = None
) -> Measurement:
    against = "" if other is None else f", against {other.variant}"
    place = f"{one.condition}{against}"
    paths = (one.path.as_posix(),)
    return Measurement(value, 1, 0, float("nan"), noise, one.facts, paths, exact, place)


def _recorded(claim: Wanted, found: Collection) -> Iterator[Recording]:
    for recording in found.recordings:
        same = recording.facts.model == claim.model and _untouched(recording.facts)
        if same and len(recording.run):
            yield recording


def _of_recording(
    claim: Wanted, recording: Recording, value: float, exact: bool | None = None
) -> Measurement:
    facts, images = recording.facts, len(recording.run)
    exact = _exact(facts, claim.size) if exact is None else exact
    paths = (recording.run.path.as_posix(),)
    return Measurement(value, 1, images, float("nan"), float("nan"), facts, paths, exact)


def _groups(model: str, found: Collection) -> list[list[Evaluation]]:
    """Evaluations of a model that differ in nothing but the seed."""
    groups: dict[tuple, list[Evaluation]] = {}
    for one in found.results:
        facts = one.facts
        if facts.model == model and _untouched(facts):
            key = (facts.preset, facts.size, facts.neck, facts.targets, facts.source)
            groups.setdefault((*key, facts.data_sha256, one.images), []).append(one)
    return list(groups.values())


def _measured(
    values: Sequence[float],
    group: Sequence[Evaluation],
    noise: float,
    exact: bool,
    count: int | None = None,
) -> Measurement:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    paths = tuple(one.path.as_posix() for one in group)
    first = group[0]
    count = len(group) if count is None else count
    mean = float(np.mean(values))
    return Measurement(mean, count, first.images, spread, noise, first.facts, paths, exact)


def _noise(group: Sequence[Evaluation], kind: str) -> float:
    return float(np.mean([one.half_width(kind) for one in group]))


def _comparable(one: Evaluation, other: Evaluation) -> bool:
    """Same images, size, neck and framework, and one way of deciding where both have one."""
    mine, theirs = one.facts, other.facts
    same = ("data_sha256", "size", "neck")
    agree = all(getattr(mine, name) == getattr(theirs, name) for name in same)
    modes = {mine.source[1], theirs.source[1]} - {""}
    return (
        agree
        and one.images == other.images
        and mine.source[0] == theirs.source[0]
        and len(modes) < 2
    )


def _untouched(facts: Facts) -> bool:
    return facts.source[2] == "learned"


def _exact(facts: Facts, size: str) -> bool:
    """Whether a model on its data is what the paper speaks of: size, neck, keep ratios, COCO val."""
    right_size = facts.size == size if size else facts.size in ("tiny", "small")
    targets = (1.0,) if facts.method == "dense" else (1.0, 0.7, 0.49, 0.343)
    same = sorted({round(target, 6) for target in facts.targets}, reverse=True) == list(targets)
    return right_size and same and facts.neck == "adapter" and facts.data == "COCO val2017"


MEASURES = {
    "ap": _ap,
    "difference": _difference,
    "share": _share,
    "usage": _usage,
    "trait": _trait,
    "speed": _speed,
}
