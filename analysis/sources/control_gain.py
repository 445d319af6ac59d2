"""What masks are worth: a model's AP with its own masks beside its AP with others of the same number.

`svit compare` and `svit evaluate --intervene` write these lines; here the lines of one model come together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.sources import labels
from analysis.sources.evaluations import KINDS, Evaluation
from analysis.sources.rates import recipe_of, trainings_told

# intervention -> in words; on and off keep another number of tokens than the model
CONTROLS = {
    "on": "all tokens",
    "oracle": "objects",
    "centre": "middle",
    "centre-square": "middle square",
    "shuffle": "own, shuffled",
    "random": "random",
    "invert": "lowest scores",
    "off": "no token",
}
# rows that agree in these saw the same images, read alike, at the same size, in the same numbers, and grew
# from the same weights and seed, equally long: their APs may be subtracted (`beside`)
ALIKE = [
    "data_sha256",
    "images",
    "sides",
    "precision",
    "reading",
    "size",
    "neck",
    "framework",
    "seed",
    "start",
    "views",
]
MODEL = [
    *ALIKE,
    "recipe",
    "data",
    "weights",
    "model",
    "inference",
    "base_ratio",
    "masks_from",
    "row",
]


def lines(results: Sequence[Evaluation]) -> pd.DataFrame:
    """One row an evaluation: which model it is of, the masks it had, its APs, keep ratio and GMACs."""
    return pd.DataFrame([line(one) for one in results])


def line(one: Evaluation) -> dict[str, object]:
    """The row of `lines` of one evaluation."""
    facts, provenance = one.facts, one.summary["provenance"]
    framework, inference, intervention = facts.source
    values: dict[str, object] = {
        "data_sha256": facts.data_sha256,
        "images": one.images,
        "sides": one.sides,
        "precision": one.precision,
        "reading": one.reading,
        "size": facts.size,
        "neck": facts.neck,
        "framework": framework,
        "seed": facts.training_seed,
        "start": one.origin.start,
        "views": one.origin.views,
        "recipe": recipe_of(one),
        "data": facts.data,
        "weights": str(provenance.get("weights_sha256") or ""),
        "model": facts.model,
        "inference": inference,
        "base_ratio": facts.base_ratio,
        "masks_from": facts.masks_from,
        "row": str(provenance.get("row") or ""),
        "masks": intervention,
        "keep_ratio": one.mean("keep_ratio"),
        "gmacs_backbone": one.mean("macs_backbone") / 1e9,
    }
    for kind in one.kinds:
        low, high = one.interval(kind)
        values |= {f"{kind}_ap": one.ap(kind), f"{kind}_half": one.half_width(kind)}
        values |= {f"{kind}_low": low, f"{kind}_high": high}
    return values


def kinds_of(table: pd.DataFrame | pd.Series) -> list[str]:
    """The kinds of AP that some row of `lines`, `frame` or `over_seeds` has, or one row of them."""
    return [kind for kind in KINDS if f"{kind}_ap" in table]


def dial_of(one: Evaluation, model: str, results: Sequence[Evaluation]) -> list[Evaluation]:
    """Calibrated evaluations of a model, at several ratios, that another may be compared with (`ALIKE`)."""
    mine = line(one)
    return [
        other
        for other in results
        if other.facts.model == model
        and other.facts.source[1] == "calibrated"
        and other.facts.decides
        and all(
            mine[name] == value for name, value in line(other).items() if name in (*ALIKE, "recipe")
        )
    ]


def frame(results: Sequence[Evaluation]) -> pd.DataFrame:
    """One row a model: weights with one way of deciding. Models without a learned line are left out.

    Columns: what the model is (`name` for people, `seed` of its training, `dial`: whether the gates of a
    model that decides otherwise were calibrated to another keep ratio); keep_ratio over gated layers,
    gmacs_backbone; for every kind of AP that some result has (`kinds_of`) `*_ap` with its own masks, its
    95 % percentile interval `*_low` to `*_high` with half its width as `*_half`, `*_CONTROL` with each of
    `CONTROLS` (NaN where not measured; a mean over their seeds), and `*_gap` = `*_ap` minus that of the dense
    model `beside` it; `lender` names the model whose masks it had.
    """
    table = lines(results)
    if not len(table):
        return table
    means = table.groupby([*MODEL, "masks"], dropna=False).mean().reset_index()
    found = means[means["masks"] == "learned"].drop(columns="masks")
    for control in CONTROLS:
        names = {f"{kind}_ap": f"{kind}_{control}" for kind in kinds_of(table)}
        mine = means[means["masks"] == control].rename(columns=names)
        found = found.merge(mine[[*MODEL, *names.values()]], on=MODEL, how="left")
    # calibration changes the weights' hash: what is equal is the row and the training
    deciders = found.groupby([*ALIKE, "recipe", "row", "model"])["inference"].transform("nunique")
    found["dial"] = (deciders > 1) & (found["inference"] == "calibrated")
    names = dict(zip(table["weights"], table["row"].where(table["row"] != "", table["model"])))
    found["lender"] = [one and names.get(one, one[:8]) for one in found["masks_from"]]
    body = [name for name in ("size", "neck", "framework") if found[name].nunique() > 1]
    found["name"] = [labels.model_name(row, body) for _, row in found.iterrows()]
    found["name"] += trainings_told(found)  # `over_seeds` never joins them
    return _with_gaps(found).sort_values(["box_ap", "name"], ascending=False, ignore_index=True)


def beside(row: pd.Series, found: pd.DataFrame, model: str) -> pd.DataFrame:
    """Rows of `frame` of another model, with its own masks, that one may be compared with: trained alike
    (`ALIKE`) by the same recipe; where none was, by the only other recipe there is.

    Args:
        model: the other, as `Facts.model`.
    """
    theirs = found[(found["model"] == model) & (found["lender"] == "") & ~found["dial"]]
    theirs = theirs[(theirs[ALIKE] == row[ALIKE]).all(axis=1)]
    same = theirs["recipe"] == row["recipe"]
    return theirs[same] if same.any() or theirs["recipe"].nunique() > 1 else theirs


def _with_gaps(found: pd.DataFrame) -> pd.DataFrame:
    dense = [beside(row, found, "dense") for _, row in found.iterrows()]
    for kind in kinds_of(found):
        levels = [rows[f"{kind}_ap"].mean() for rows in dense]
        found[f"{kind}_gap"] = found[f"{kind}_ap"].to_numpy() - np.array(levels)
    return found


def over_seeds(found: pd.DataFrame) -> pd.DataFrame:
    """One row a name, from `frame`: means over training seeds, their number as `seeds`, and for every kind
    `*_by_seed` = the APs by ascending seed, as text; the best first."""
    facts = ["model", "dial", "base_ratio", "lender"]  # not averaged: the mean of three 0.7 is none
    floats = [name for name in found.columns if pd.api.types.is_float_dtype(found[name])]
    numbers = [name for name in floats if name not in facts]
    groups = found.groupby("name", sort=False)
    table = groups[numbers].mean()
    table["seeds"] = groups["seed"].nunique()
    for kind in kinds_of(found):
        single = found.sort_values("seed").groupby("name")[f"{kind}_ap"]
        told = single.agg(lambda aps: ", ".join(f"{ap:.1f}" for ap in aps.dropna()))
        table[f"{kind}_by_seed"] = told
        for one in CONTROLS:  # of trainings that have both
            worth = found[f"{kind}_ap"] - found[f"{kind}_{one}"]
            table[f"{kind}_over_{one}"] = worth.groupby(found["name"]).mean()
    table = table.join(groups[facts].first()).reset_index()
    return table.sort_values(["box_ap", "name"], ascending=False, ignore_index=True)


def with_controls(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of `frame` for which at least one control was measured."""
    columns = [f"box_{control}" for control in CONTROLS]
    return found[np.any(found[columns].notna(), axis=1)]
