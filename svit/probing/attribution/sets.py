"""The smallest sets of tokens that suffice for one object, and other sets beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from svit.core.attribution import Hit, TokenSet
from svit.probing.attribution.curves import Order, weight_of_tokens
from svit.probing.attribution.options import Options
from svit.probing.attribution.orders import prefix
from svit.probing.attribution.search import Budget, shortest, thinned
from svit.probing.attribution.trials import Trials


def _enough(hit: Hit, full: Hit, keep: float) -> bool:
    return hit.score >= keep * full.score and hit.iou >= keep * full.iou


def smallest_sets(
    trials: Trials,
    options: Options,
    ends: tuple[Hit, Hit],
    ordered: Sequence[Order],
    curves: pd.DataFrame,
) -> list[TokenSet]:
    """What the searches find, the smallest first. All begin with the shortest measured beginning of an order
    that suffices."""
    weight_of, (full, none) = weight_of_tokens(trials), ends
    seen = {(): none}

    def ask(sets: list[np.ndarray]) -> list[tuple[bool, float]]:
        hits = [hit for (hit,) in trials.keeping(sets)]
        seen.update((tuple(sorted(one.tolist())), hit) for one, hit in zip(sets, hits, strict=True))
        return [(_enough(hit, full, options.keep), hit.score) for hit in hits]

    tokens, low, high, hit = _start(curves, ordered, full, options.keep)
    seen[tuple(sorted(tokens[:high].tolist()))] = hit
    first = Budget(ask, options.budget)
    start = tokens[: shortest(tokens, low, high, first, options.batch)]
    found = []
    for search in range(options.searches):
        budget = Budget(ask, options.budget - first.spent)
        kept, minimal = thinned(start, budget, options.seed + search)
        names = tuple(sorted(kept.tolist()))
        hit = seen[names]
        uses, spent = int(weight_of[kept].sum()), budget.spent + first.spent
        found.append(TokenSet(names, uses, hit.score, hit.iou, len(start), minimal, spent))
    return sorted(found, key=lambda one: (one.uses, one.tokens))


def _start(
    curves: pd.DataFrame, ordered: Sequence[Order], full: Hit, keep: float
) -> tuple[np.ndarray, int, int, Hit]:
    """The order with the shortest measured beginning that suffices, lengths that do not and do, and what was
    measured with the latter."""
    given = curves[curves["mode"] == "insertion"]
    enough = [_enough(Hit(*pair), full, keep) for pair in zip(given["score"], given["iou"])]
    good = given[enough].sort_values(["share", "tokens"], kind="stable").iloc[0]
    same = given[(given["order"] == good["order"]) & (given["draw"] == good["draw"])]
    shorter = same[same["tokens"] < good["tokens"]]["tokens"]
    tokens = next(one[2] for one in ordered if one[:2] == (good["order"], good["draw"]))
    low = int(shorter.max()) if len(shorter) else 0
    return tokens, low, int(good["tokens"]), Hit(float(good["score"]), float(good["iou"]))


def sets_beside(
    trials: Trials,
    options: Options,
    full: Hit,
    ordered: Sequence[Order],
    smallest: TokenSet,
) -> list[dict]:
    """Beginnings of every order with at least as many uses as the smallest set."""
    weight_of = weight_of_tokens(trials)
    parts = [prefix(tokens, weight_of, smallest.uses) for _, _, tokens in ordered]
    rows = []
    for (order, draw, _), part, (hit,) in zip(ordered, parts, trials.keeping(parts), strict=True):
        uses, good = int(weight_of[part].sum()), _enough(hit, full, options.keep)
        row = {"kind": order, "draw": draw, "tokens": len(part), "uses": uses}
        row["members"] = sorted(part.tolist())
        rows.append(row | {"score": hit.score, "iou": hit.iou, "enough": good})
    return rows
