"""Differences of AP in words, and the paper's tables at equal numbers of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.paper.claims import load_claims
from analysis.sources import control_gain, paired
from analysis.sources.evaluations import PAPER_TARGETS, Evaluation
from svit.core.statistics import probability, with_ends

SVIT = "svit"  # whose dial stands beside others at equal tokens
# base keep ratios of Tables 2-5: pruned as in the paper, or not at all
PRINTED_RATIOS = set(PAPER_TARGETS[:6])
Gains = dict[
    tuple[str, str, str], str
]  # name of a model, what it is compared with, kind -> in words


def told(group: Sequence[Evaluation], means: pd.DataFrame) -> Gains:
    """Differences to the dense model and to each control, as text: with the paired interval, and how often
    they are above zero, where matches were kept (`paired.differences`).

    Args:
        means: `control_gain.over_seeds` of the group.
    """
    columns = {paired.DENSE: "gap"} | {one: f"over_{one}" for one in control_gain.CONTROLS}
    found = {
        (row["name"], against, kind): f"{row[f'{kind}_{column}']:+.1f}"
        for row in means.to_dict("records")
        for against, column in columns.items()
        for kind in control_gain.kinds_of(means)
        if pd.notna(row[f"{kind}_{column}"])
    }
    rows = paired.differences(group).to_dict("records")
    return found | {(row["name"], row["against"], row["kind"]): _told(row) for row in rows}


def _told(row: Mapping[str, Any]) -> str:
    if pd.isna(row["low"]):
        return f"{row['value']:+.1f}"
    odds = probability(row["above"], int(row["draws"]))
    return f"{with_ends(row['value'], row['low'], row['high'], '+.1f')}, P {odds}"


def equal_tokens(group: Sequence[Evaluation], means: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables 3 and 4 and Fig. 7 beside SViT's dial where that keeps as many tokens: the tables' other models
    at the paper's ratio, and SViT trained for other ratios.

    Args:
        means: `control_gain.over_seeds` of the group.
    """
    rows = paired.beside_dial(group, SVIT)
    about = means.drop_duplicates("name").set_index("name")
    models, ratios = (rows["name"].map(about[column]) for column in ("model", "base_ratio"))
    printed = ratios.isin(PRINTED_RATIOS) & (models != SVIT)
    parts = {"Fig. 7, at equal tokens": (models == SVIT) & ~ratios.isin(PRINTED_RATIOS)}
    for name in ("Table 3", "Table 4"):
        claimed = {claim.model for claim in load_claims() if claim.where == name}
        parts[f"{name}, at equal tokens"] = printed & models.isin(claimed)
    told = pd.DataFrame([_at_equal_tokens(row) for row in rows.to_dict("records")])
    return {name: told[part.to_numpy()] for name, part in sorted(parts.items()) if part.any()}


def _at_equal_tokens(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of `paired.beside_dial` as text."""
    return {
        "model": row["name"],
        "AP of": row["kind"],
        "kept": f"{row['kept']:.3f}",
        "AP": f"{row['ap']:.1f}",
        "AP of SViT's dial there": f"{row['dial_ap']:.1f}",
        "− dial": _told(row),
        "seeds": str(row["seeds"]),
    }
