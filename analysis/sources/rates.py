"""Evaluations for AP against cost: which of them one line may join."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.sources.evaluations import Evaluation, frame, masks_told


def rate_frame(results: Sequence[Evaluation]) -> pd.DataFrame:
    """`evaluations.frame` with two columns more, for AP against cost; empty without a result.

    dense: prunes nothing; series: what a line joins (`series`).
    """
    table = frame(results)
    if not len(table):
        return table
    dense = [one.facts.method == "dense" for one in results]
    return table.assign(dense=dense, series=series(results))


def series(results: Sequence[Evaluation]) -> list[str]:
    """One line a model kind, size, way of deciding and training; presets differ within a line by their ratio.
    Sizes, necks, frameworks and trainings are told only where they differ."""
    facts = [one.facts for one in results]
    bodies = [(one.size, one.neck, one.source[0]) for one in facts]
    told = [len(set(column)) > 1 for column in zip(*bodies, strict=True)]
    kinds, names = [], []
    for one, body in zip(facts, bodies, strict=True):
        shown = " ".join(part for part, differs in zip(body, told, strict=True) if differs)
        kinds.append(", ".join(filter(None, [one.model, shown])))
        names.append(", ".join(filter(None, [kinds[-1], one.source[1], masks_told(one)])))
    origins = {name: [getattr(one.origin, name) for one in results] for name in ("views", "start")}
    trainings = trainings_told(pd.DataFrame({"name": kinds, **origins}))
    return [name + training for name, training in zip(names, trainings, strict=True)]


def trainings_told(found: pd.DataFrame) -> pd.Series:
    """What tells trainings of other length or start under one name apart, so that nothing joins them: a text
    a row, empty where all are alike.

    Args:
        found: name, views (pictures trained on), start (hash of the weights trained from).
    """
    told = pd.Series("", found.index)
    for column, words in (("views", "{} pictures trained on"), ("start", "from {:.6}")):
        differs = found.groupby("name")[column].transform("nunique") > 1
        known = found[column].map(lambda value, words=words: words.format(value or "?"))
        told += (", " + known).where(differs, "")
    return told
