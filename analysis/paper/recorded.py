"""What recorded masks say of a claim: shares of reactivation, usage on objects, traits of Table 1.

Intervals are of images drawn anew: every quantity is a function of counts that are summed over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from analysis.numbers import usage
from analysis.numbers.object_counts import ObjectCounts
from analysis.numbers.regions import GOALS, auc_of_counts
from analysis.numbers.run_counts import COUNTS
from analysis.paper.measurement import FEW_IMAGES, LeftOut, Measurement, Wanted, exact, unfit
from analysis.sources.collection import Collection, Recording
from svit.core.statistics import bootstrap

NOISE = "95 % percentile over images"
CENTRE = (48, 80)  # rows and columns of the map that `usage:centre` is read from

Statistic = Callable[[np.ndarray], float]
OfRun = Callable[[Wanted, str, Recording], Iterator[Measurement | LeftOut]]


def _share_of(claim: Wanted, name: str, recording: Recording) -> Iterator[Measurement]:
    """A share of pruned and reactivated tokens."""
    counts = recording.counted.counts
    if counts[..., COUNTS.index("pruned")].sum():
        yield _measured(claim, recording, partial(_share, name, counts, recording.facts.targets))


def _centre(claim: Wanted, name: str, recording: Recording) -> Iterator[Measurement]:
    """Mean usage in the central quarter of the picture minus that of the rest, in layers."""
    values = np.array([_centred(usage.usage(one)) for one in recording.run.iter_traces(False)])
    yield _measured(claim, recording, partial(_mean, values))


def _objects(claim: Wanted, name: str, recording: Recording) -> Iterator[Measurement]:
    """Of usage, or of pruned tokens, on annotated objects and off them."""
    if recording.run.images["objects"].notna().any():
        counted = recording.on_objects
        statistic = partial(_OBJECTS[name], counted)
        if np.isfinite(statistic(np.ones(counted.images, np.int64))):
            yield _measured(claim, recording, statistic, counted.images)


def _trait(claim: Wanted, name: str, recording: Recording) -> Iterator[Measurement | LeftOut]:
    """Whether recorded masks show a trait of Table 1.

    Few images can show a trait but not its absence. SViT's top-k mode forces counts: it shows nothing.
    """
    facts, images = recording.facts, len(recording.run)
    if (facts.method, facts.source[1]) == ("svit", "topk"):
        yield LeftOut(recording.run.path.name, "top-k forces its counts")
        return
    value = float(_TRAITS[name](recording))
    if not value and images < FEW_IMAGES:
        yield LeftOut(recording.run.path.name, f"{images} images cannot show that it is absent")
        return
    paths, right = (recording.run.path.as_posix(),), _exact(claim, recording)
    yield Measurement(value, value, value, "", facts, paths, right, images=images)


def _share(name: str, counts: np.ndarray, targets: Sequence[float], weights: np.ndarray) -> float:
    return _SHARES[name](np.tensordot(weights, counts, 1), targets)


def _column(totals: np.ndarray, name: str) -> np.ndarray:
    return totals[..., COUNTS.index(name)].astype(float)


def _immediate(totals: np.ndarray, targets: Sequence[float]) -> float:
    return _ratio(_column(totals, "next").sum(), _column(totals, "later").sum())


def _stage(totals: np.ndarray, targets: Sequence[float], last: bool = False) -> np.ndarray:
    """Counts of the first or last stage: gated layers that share a target."""
    gated = usage.gated_layers(len(totals), targets)
    wanted = targets[gated[-1 if last else 0]] if len(targets) == len(totals) else None
    return totals[[layer for layer in gated if wanted is None or targets[layer] == wanted]]


def _early(totals: np.ndarray, targets: Sequence[float]) -> float:
    rows = _stage(totals, targets)
    return _ratio(_column(rows, "later").sum(), _column(rows, "pruned").sum())


def _deeper(totals: np.ndarray, targets: Sequence[float]) -> float:
    first, last = (_stage(totals, targets, last) for last in (False, True))
    shares = [(_column(rows, "later") / _column(rows, "tokens")).mean() for rows in (first, last)]
    return float(shares[1] - shares[0])


def _back(totals: np.ndarray, targets: Sequence[float]) -> float:
    return _ratio(_column(totals, "later").sum(), _column(totals, "pruned").sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


_SHARES = {"immediate": _immediate, "early": _early, "deeper": _deeper, "back": _back}


def _centred(values: np.ndarray) -> float:
    shown = usage.resample(values, CENTRE)
    inside = np.zeros(CENTRE, bool)
    inside[12:36, 20:60] = True
    return float(shown[inside].mean() - shown[~inside].mean())


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(values @ weights / weights.sum())


def _auc(goal: str, counted: ObjectCounts, weights: np.ndarray) -> float:
    return auc_of_counts(*np.tensordot(weights, counted.usage[:, GOALS.index(goal)], 1))


def _objects_return(counted: ObjectCounts, weights: np.ndarray) -> float:
    """P(used again | pruned, on an object) - P(used again | pruned, on the background)."""
    on, off = np.tensordot(weights, counted.pruned, 1)
    return _ratio(on[1], on[0]) - _ratio(off[1], off[0])


def _background_stays(counted: ObjectCounts, weights: np.ndarray) -> float:
    """P(never used again | pruned, on the background)."""
    pruned, later = np.tensordot(weights, counted.pruned, 1)[1]
    return 1 - _ratio(later, pruned)


_OBJECTS = {
    "objects": partial(_auc, "foreground"),
    "contours": partial(_auc, "contour"),
    "return": _objects_return,
    "stay": _background_stays,
}


def _reactivates(recording: Recording) -> bool:
    return bool(recording.reactivation["later"].any())


def _is_dynamic(recording: Recording) -> bool:
    """Whether images of one grid keep different numbers of tokens, rounding (2 tokens) aside."""
    counts = recording.run.keep_counts().groupby(["layer", "tokens"])["kept"]
    return bool((counts.max() - counts.min() > 2).any())


_TRAITS = {"dynamic": _is_dynamic, "reactivates": _reactivates}


def _over_runs(measure: OfRun) -> Callable[..., Iterator[Measurement | LeftOut]]:
    """A measurement of every run of a claim's model, or why a run does not count."""

    def measured(claim: Wanted, name: str, found: Collection) -> Iterator[Measurement | LeftOut]:
        for recording in found.recordings:
            if recording.facts.model == claim.model:
                cause = unfit(recording.facts, claim.ratios[0])
                left_out = LeftOut(recording.run.path.name, cause)
                yield from [left_out] if cause else measure(claim, name, recording)

    return measured


def _exact(claim: Wanted, recording: Recording) -> bool:
    return exact(recording.facts, claim.size, claim.ratios[0])


def _measured(
    claim: Wanted, recording: Recording, statistic: Statistic, images: int | None = None
) -> Measurement:
    images = len(recording.run) if images is None else images
    interval = bootstrap(statistic, images)
    paths = (recording.run.path.as_posix(),)
    return Measurement(
        interval.value,
        interval.low,
        interval.high,
        NOISE,
        recording.facts,
        paths,
        _exact(claim, recording),
        images=images,
    )


MEASURES = {
    "share": _over_runs(_share_of),
    "usage": _over_runs(_centre),
    "on": _over_runs(_objects),
    "trait": _over_runs(_trait),
}
