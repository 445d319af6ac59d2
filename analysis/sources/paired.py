"""Differences of APs over the same draws of the images, from the matches beside the summaries.

`svit evaluate` and `svit compare` keep the AP of every draw; draw i holds the same images in all evaluations
of the same data, so numbers are subtracted draw by draw. Evaluations without matches (made before these
were kept, or shipped without) give no row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.sources import control_gain
from analysis.sources.evaluations import Evaluation
from svit.core.statistics import Drawn, at_share, combined

COLUMNS = ("name", "against", "kind", "value", "low", "high", "above", "draws", "seeds")
DENSE, DIAL = "dense", "dial at its tokens"
DICE = {"trained on dice": "random", "trained on nested dice": "random inherit"}
BESIDE = {DENSE: DENSE, **DICE}  # trained alike, with their own masks: in words -> `Facts.model`

Pair = tuple[Evaluation, Evaluation]


def differences(
    results: Sequence[Evaluation], beside: Collection[str] = (*control_gain.CONTROLS, *BESIDE)
) -> pd.DataFrame:
    """What masks are worth, and how far models are from others trained alike: paired, means over training
    seeds.

    Columns: name (as in `control_gain.frame`); against, a control of `control_gain.CONTROLS` on the same
    weights, or one of `BESIDE`: that model trained alike, with its own masks; kind, as "box"; value in AP
    points with its 95 % percentile interval over images, low to high; above, the share of draws on which the
    name is better, and how many draws; seeds, how many trainings.

    Args:
        beside: what may stand in `against`.
    """
    found, known = control_gain.frame(results), _index(results)
    rows = []
    for name, models in found.groupby("name", sort=False) if len(found) else ():
        for kind in control_gain.kinds_of(found):
            for against in beside:
                apart = [
                    _apart(model, against, kind, found, known) for _, model in models.iterrows()
                ]
                rows += _row(name, against, kind, [one for one in apart if one is not None])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def gap(trainings: Iterable[Sequence[Pair]], kind: str) -> Drawn | None:
    """AP of the first minus AP of the second: mean over the pairs of each training (seeds of sampled masks),
    then over trainings; None where one has no matches, or they are of other images or draws."""
    parts = []
    for pairs in trainings:
        first, second = (_mean([pair[side] for pair in pairs], kind) for side in (0, 1))
        if first is None or second is None or first.key != second.key:
            return None
        parts.append(first - second)
    same = len({part.key for part in parts}) == 1
    return combined(parts, [1 / len(parts)] * len(parts)) if same else None


def _row(name: str, against: str, kind: str, apart: Sequence[Drawn]) -> Iterator[tuple]:
    if apart:
        mean = combined(apart, [1 / len(apart)] * len(apart))
        noise = (*mean.interval().bounds, mean.above, len(mean.draws))
        yield (name, against, kind, mean.value, *noise, len(apart))


def _apart(
    model: pd.Series,
    against: str,
    kind: str,
    found: pd.DataFrame,
    known: dict[tuple, list[Evaluation]],
) -> Drawn | None:
    own = _mean(known[_key(model, "learned")], kind)
    other = None
    if against not in BESIDE:
        other = _mean(known.get(_key(model, against), []), kind)
    elif model["model"] != BESIDE[against]:
        named = control_gain.beside(model, found, BESIDE[against])
        if against in DICE:
            named = named[_at_its_ratio(model, named["base_ratio"])]
        theirs = [known[_key(row, "learned")] for _, row in named.iterrows()]
        other = _mean([one for evaluations in theirs for one in evaluations], kind)
    return None if own is None or other is None else own - other


def _at_its_ratio(model: pd.Series, ratios: pd.Series) -> np.ndarray:
    """Which were trained for the ratio that a model was trained for or is calibrated to; the dense model,
    which has none, stands beside those of one ratio."""
    if model["model"] == BESIDE[DENSE]:
        return np.full(len(ratios), ratios.nunique() == 1)
    return np.isclose(ratios, model["base_ratio"])


def _mean(evaluations: Sequence[Evaluation], kind: str) -> Drawn | None:
    """Over seeds of sampled masks."""
    parts = [one.drawn(kind) for one in evaluations]
    if not parts or None in parts:
        return None
    return combined(parts, [1 / len(parts)] * len(parts))


def _index(results: Sequence[Evaluation]) -> dict[tuple, list[Evaluation]]:
    known: dict[tuple, list[Evaluation]] = {}
    for one in results:
        line = control_gain.line(one)
        known.setdefault(_key(line, line["masks"]), []).append(one)
    return known


def _key(line: pd.Series | dict, masks: object) -> tuple:
    return (*(line[name] for name in control_gain.MODEL), masks)


def at_equal_tokens(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `control_gain.frame` by which models are compared at equal tokens: of a model with
    thresholds its line calibrated to the ratios it was trained for, of others the one there is. The share
    that was reached is its keep_ratio.
    """
    own = found[~found["dial"]].set_index(_TRAINING)["base_ratio"]
    own = own[~own.index.duplicated()]
    trained = found.set_index(_TRAINING).index.map(own)
    with_dial = found.groupby(_TRAINING)["dial"].transform("any")
    calibrated = found["dial"] & (found["base_ratio"] == trained)
    chosen = found[calibrated | ~with_dial]
    names = found[~found["dial"]].set_index(_TRAINING)["name"]
    names = names[~names.index.duplicated()]
    return chosen.assign(name=chosen.set_index(_TRAINING).index.map(names))


_TRAINING = [*control_gain.ALIKE, "recipe", "row", "model"]


def beside_dial(results: Sequence[Evaluation], model: str) -> pd.DataFrame:
    """Models beside a dial, the same weights calibrated to several ratios, where it keeps as many tokens.

    Between two calibrated ratios the dial is a straight line (`svit.core.statistics.at_share`); nothing is
    extrapolated, and a training is compared with the dial of one that began and went on alike.

    Args:
        model: whose dial, as `Facts.model`.

    Returns: one row a name, with the columns of `differences` (against is `DIAL`; NaN without matches) and
        ap, kept and dial_ap, means over trainings.
    """
    known, found = _index(results), control_gain.frame(results)
    rows = []
    for name, same in found[~found["dial"]].groupby("name", sort=False) if len(found) else ():
        trained = [known[_key(row, "learned")] for _, row in same.iterrows()]
        meets = [(own, control_gain.dial_of(own[0], model, results)) for own in trained]
        for kind in control_gain.kinds_of(found):
            points = [point for own, dial in meets if (point := _meeting(own, dial, kind))]
            if points:
                rows.append({"name": name, "against": DIAL, "kind": kind} | _joined(points))
    return pd.DataFrame(rows, columns=[*COLUMNS, "ap", "kept", "dial_ap"])


@dataclass(frozen=True)
class _Meeting:
    """A model and the dial at the same share of tokens."""

    kept: float
    ap: float
    dial_ap: float
    gap: Drawn | None


def _meeting(own: Sequence[Evaluation], dial: Sequence[Evaluation], kind: str) -> _Meeting | None:
    """Of one training; its own evaluations differ in the seed of sampled masks."""
    dial = [point for point in dial if kind in point.kinds]
    own = [one for one in own if kind in one.kinds]
    shares = [point.mean("keep_ratio") for point in dial]
    kept = float(np.mean([one.mean("keep_ratio") for one in own])) if own else np.nan
    if len(dial) < 2 or not min(shares) <= kept <= max(shares):
        return None
    order = np.argsort(shares)
    aps = np.array([point.ap(kind) for point in dial])[order]
    level = float(np.interp(kept, np.array(shares)[order], aps))
    drawn, curve = _mean(own, kind), [point.drawn(kind) for point in dial]
    whole = drawn is not None and None not in curve
    gap = drawn - at_share(shares, curve, kept) if whole else None
    return _Meeting(kept, float(np.mean([one.ap(kind) for one in own])), level, gap)


def _joined(points: Sequence[_Meeting]) -> dict[str, float]:
    """Means over trainings, with the paired interval where all have one."""
    means = {
        name: float(np.mean([getattr(point, name) for point in points]))
        for name in ("ap", "kept", "dial_ap")
    }
    gaps = [point.gap for point in points if point.gap is not None]
    noise = dict.fromkeys(("low", "high", "above", "draws"), np.nan)
    if len(gaps) == len(points):
        mean = combined(gaps, [1 / len(gaps)] * len(gaps))
        low, high = mean.interval().bounds
        noise = {"low": low, "high": high, "above": mean.above, "draws": len(mean.draws)}
    return {"value": means["ap"] - means["dial_ap"], **noise, "seeds": len(points), **means}
