"""Explanations of invented objects, for runs of `support.runs`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from svit.core.attribution import Explanation, Hit, TokenSet
from svit.core.types import TokenGrid

GRID = TokenGrid((120, 150), (120, 150), (8, 10), 16)
ORDERS = {"gates": 2.0, "picture-centre": 1.0, "random": 0.7}  # how steep their curves are


def explanation(image_id: int | str = 3, number: int = 1, sets: bool = True) -> Explanation:
    """Curves through five points, two draws of random orders; one set with one random set beside it."""
    shares = np.linspace(0, 1, 5)
    rows = [
        {
            **{
                "order": order,
                "draw": draw,
                "mode": mode,
                "share": share,
                "tokens": int(80 * share),
            },
            **{"score": 0.9 * (left ** (1 / steep)) + 0.01 * draw, "iou": 0.8},
        }
        for order, steep in ORDERS.items()
        for draw in range(1 + (order == "random"))
        for mode in ("deletion", "insertion")
        for share, left in zip(shares, shares if mode == "insertion" else (1 - shares) ** steep**2)
    ]
    beside = {"kind": "random", "draw": 0, "tokens": 3, "uses": 7, "members": [2, 4, 11]}
    forced = [
        {
            "block": block,
            "kind": kind,
            "draw": draw,
            "tokens": 3,
            "score": 0.5 + 0.1 * draw,
            "iou": 0.7,
        }
        for block in (0, 4, 5)
        for kind, draw in (("object", 0), ("elsewhere", 0), ("elsewhere", 1), ("all", 0))
    ]
    return Explanation(
        *(image_id, "annotation", number, 1, (30.5, 20.0, 90.0, 80.25), GRID, "own", (3, 4)),
        *(Hit(0.9, 0.8), Hit(0.9, 0.8), Hit(), 120, pd.DataFrame(rows)),
        (TokenSet((1, 5, 9), 7, 0.85, 0.75, 12, True, 40),) * sets,
        pd.DataFrame([{**beside, "score": 0.3, "iou": 0.2, "enough": False}] * sets),
        *(pd.DataFrame(forced), 99),
    )
