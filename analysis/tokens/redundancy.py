"""How alike pruned tokens are to kept ones, block by block, beside the same masks shuffled."""

from __future__ import annotations

import numpy as np
import pandas as pd

from svit.core.statistics import resampled

MEASURES = ("near", "best", "lost")


def redundancy_frame(table: pd.DataFrame, draws: int = 1000) -> pd.DataFrame:
    """Means over images, and own minus shuffled with its 95 % percentile interval over images.

    Args:
        table: of `svit.evaluation.redundancy.redundancy`.

    Returns:
        A row a block and measure (near, best, lost): block, measure, images (that have it under both masks),
        own, shuffled, difference, low, high.
    """
    rows = []
    for block, part in table.groupby("block"):
        for measure in MEASURES:
            sides = part.pivot(index="image_id", columns="masks", values=measure)
            sides = sides.reindex(columns=["own", "shuffled"]).dropna()
            row = {"block": block, "measure": measure, "images": len(sides)}
            row |= {name: sides[name].mean() for name in sides}
            rows.append(
                row | _difference((sides["own"] - sides["shuffled"]).to_numpy(float), draws)
            )
    names = ["block", "measure", "images", "own", "shuffled", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _difference(values: np.ndarray, draws: int) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys(("difference", "low", "high"), float("nan"))
    interval = resampled(lambda weights: float(weights @ values) / len(values), len(values), draws)
    one = interval.interval()
    return {"difference": one.value, "low": one.low, "high": one.high}
