"""Score and IoU while tokens are taken away and given back in an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from svit.core.attribution import MODES, Hit
from svit.probing.attribution.orders import prefix
from svit.probing.attribution.trials import Trials

Order = tuple[str, int, np.ndarray]  # its name, the number of its draw, tokens as raster indices


def measured_curves(trials: Trials, ordered: Sequence[Order], steps: int) -> list[list[dict]]:
    """Points of the curves between their ends, a list a thing; at each step all orders take equal uses."""
    weight_of = weight_of_tokens(trials)
    total = trials.weights.sum()
    asked: list[tuple[dict, np.ndarray]] = []
    for order, draw, tokens in ordered:
        for step in range(1, steps):
            first = prefix(tokens, weight_of, step * total / steps)
            row = {"order": order, "draw": draw, "share": float(weight_of[first].sum() / total)}
            for mode in MODES:
                kept = first if mode == "insertion" else np.setdiff1d(trials.universe, first)
                asked.append((row | {"mode": mode, "tokens": len(first)}, kept))
    hits = trials.keeping([kept for _, kept in asked]) if asked else []
    return [
        [
            row | {"score": hit[thing].score, "iou": hit[thing].iou}
            for (row, _), hit in zip(asked, hits, strict=True)
        ]
        for thing in range(len(trials.things))
    ]


def weight_of_tokens(trials: Trials) -> np.ndarray:
    """In how many blocks of the range each token is used, int64 (tokens,); 0 outside of the universe."""
    weights = np.zeros(trials.grid.tokens, np.int64)
    weights[trials.universe] = trials.weights
    return weights


def end_points(ordered: Sequence[Order], full: Hit, none: Hit, trials: Trials) -> Iterator[dict]:
    """Points with all and with no tokens, which all orders share."""
    for order, draw, _ in ordered:
        for mode in MODES:
            sides = (full, none) if mode == "deletion" else (none, full)
            for share, hit in zip((0.0, 1.0), sides):
                row = {"order": order, "draw": draw, "share": share, "mode": mode}
                tokens = int(share) * len(trials.universe)
                yield row | {"tokens": tokens, "score": hit.score, "iou": hit.iou}
