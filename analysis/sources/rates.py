"""Evaluations for AP against cost: which of them one line may join."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.sources.evaluations import Evaluation, frame, masks_told

_LENGTH = ("iterations", "epochs", "batch")  # `Origin.views` tells it
_TOLD = {  # columns of `trainings_told` -> in words
    "views": "{} pictures trained on",
    "start": "from {:.6}",
    "precision": "{}",
    "sides": "{}",
    "reading": "{}",
    "base_ratio": "keep ratio {:g}",
    "inference": "{}",
}
_UNKNOWN = {
    "views": "length unknown",
    "start": "start unknown",
    "sides": "pictures of unknown size",
    "inference": "decided otherwise",
}


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
    rows = [
        {
            "recipe": recipe_of(one),
            "views": one.origin.views,
            "start": one.origin.start,
            "precision": one.precision,
            "sides": one.sides,
            "reading": one.reading,
        }
        for one in results
    ]
    trainings = trainings_told(pd.DataFrame(rows).assign(name=kinds))
    return [name + training for name, training in zip(names, trainings, strict=True)]


def trainings_told(found: pd.DataFrame) -> pd.Series:
    """What tells models under one name apart whose trainings differ in length, start or recipe, or that
    computed in other numbers, saw pictures of another size or decided otherwise, so that nothing joins them:
    a text a row, empty where all are alike.

    Args:
        found: name, recipe (`recipe_of`), views (pictures trained on), start (hash of the weights trained
            from), precision, sides, reading (`Evaluation`), and, where these set models apart, base_ratio and
            inference.
    """
    told = pd.Series("", found.index)
    for column in _TOLD:
        if column not in found:
            continue
        differs = found.groupby("name")[column].transform("nunique") > 1
        known = found[column].map(partial(_in_words, column))
        told += (", " + known).where(differs, "")
    told = told.str.replace(", length unknown, start unknown", ", training unknown")
    for _, same in found.groupby("name"):
        told[same.index] += _recipes_told(same["recipe"])
    return told


def _in_words(column: str, value: str | float) -> str:
    return _TOLD[column].format(value) if value else _UNKNOWN[column]


def recipe_of(one: Evaluation) -> str:
    """Settings of a training as a JSON text, without its length; empty where `svit compare` did not write
    where it began: presets of dense and pruned models differ in more than was chosen."""
    if not one.origin.start:
        return ""
    settings = {name: value for name, value in one.recipe.items() if name not in _LENGTH}
    return json.dumps(settings, sort_keys=True)


def _recipes_told(recipes: pd.Series) -> pd.Series:
    """The settings in which known recipes differ, as ", distil 1.0"."""
    known = [json.loads(recipe) for recipe in recipes.unique() if recipe]
    names = sorted({name for one in known for name in one})
    apart = [name for name in names if any(one.get(name) != known[0].get(name) for one in known)]

    def of(recipe: str) -> str:
        settings = json.loads(recipe) if recipe else {}
        return "".join(f", {name} {settings[name]}" for name in apart if name in settings)

    return recipes.map(of)
