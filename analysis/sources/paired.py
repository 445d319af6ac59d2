"""Differences of APs over the same draws of the images, from the matches beside the summaries.

`svit evaluate` and `svit compare` keep the AP of every draw; draw i holds the same images in all evaluations
of the same data, so numbers are subtracted draw by draw. Evaluations without matches (made before these
were kept, or shipped without) give no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.sources import control_gain
from analysis.sources.evaluations import Evaluation
from svit.core.statistics import Drawn, combined

COLUMNS = ("name", "against", "kind", "value", "low", "high", "above", "seeds")
DENSE = "dense"


def differences(results: Sequence[Evaluation]) -> pd.DataFrame:
    """What masks are worth, and how far models are from the dense one: paired, means over training seeds.

    Columns: name (as in `control_gain.frame`); against, a control of `control_gain.CONTROLS` on the same
    weights, or "dense": the dense model alike with its own masks; kind, "box" or "mask"; value in AP points
    with its 95 % percentile interval over images, low to high; above, the share of draws on which the name is
    better; seeds, how many trainings.
    """
    found, known = control_gain.frame(results), _index(results)
    rows = []
    for name, models in found.groupby("name", sort=False) if len(found) else ():
        for kind in control_gain.KINDS:
            for against in (*control_gain.CONTROLS, DENSE):
                apart = [
                    _apart(model, against, kind, found, known) for _, model in models.iterrows()
                ]
                rows += _row(name, against, kind, [one for one in apart if one is not None])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(name: str, against: str, kind: str, apart: Sequence[Drawn]) -> Iterator[tuple]:
    if apart:
        mean = combined(apart, [1 / len(apart)] * len(apart))
        yield (name, against, kind, mean.value, *mean.interval().bounds, mean.above, len(apart))


def _apart(
    model: pd.Series,
    against: str,
    kind: str,
    found: pd.DataFrame,
    known: dict[tuple, list[Evaluation]],
) -> Drawn | None:
    own = _mean(known[_key(model, "learned")], kind)
    other = None
    if against != DENSE:
        other = _mean(known.get(_key(model, against), []), kind)
    else:
        alike = (found[control_gain.ALIKE] == model[control_gain.ALIKE]).all(axis=1)
        dense = found[alike & (found["model"] == DENSE) & (found["masks_from"] == "")]
        if len(dense) and model["model"] != DENSE:
            other = _mean(known[_key(dense.iloc[0], "learned")], kind)
    return None if own is None or other is None else own - other


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


_TRAINING = [*control_gain.ALIKE, "row", "model"]
