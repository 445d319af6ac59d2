"""Errors of a detector beside what its tokens did: were a missed object's tokens pruned?

Detections meet ground truth as in COCO's evaluation (`svit.core.finding`). An association of pruning and
missing is no cause: small objects lose more tokens and are missed more often; compare within a size, and with
a dense run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.regions import object_rows
from analysis.numbers.usage import valid_part
from svit.core.coverage import Truth, coded_masks, token_cover
from svit.core.finding import match
from svit.core.types import Detections, TokenTrace

HALF = 0.5  # an object counts as dropped at a layer that uses less of its tokens
FATES = ("kept", "rescued", "lost")

Sample = tuple[TokenTrace, Truth, Detections]


def object_shares(trace: TokenTrace, target: Truth) -> np.ndarray:
    """Share of each object's tokens used at every layer, by themselves or carried by another: sum over
    tokens of cover · used / sum of cover, where cover is the share of a valid token that the object's mask
    covers.

    Returns: float64 (objects, layers) in [0, 1]; NaN for an object with an empty mask.
    """
    keep = valid_part(trace).reshape(trace.layers, -1).astype(np.float32)
    cover = token_cover(coded_masks(target), trace.grid).reshape(len(target), keep.shape[1])
    used = cover @ keep.T
    total = cover.sum(axis=1, keepdims=True)
    return np.clip(used / np.where(total > 0, total, np.nan), 0, 1, dtype=float)


def box_shares(trace: TokenTrace, boxes_xyxy: np.ndarray) -> np.ndarray:
    """As `object_shares` of rectangles in source pixels, (boxes, 4) left, top, right, bottom.

    Returns: float64 (boxes, layers) in [0, 1]; NaN for a box that touches no token.
    """
    grid, boxes = trace.grid, boxes_xyxy.astype(float)
    sides = zip(grid.valid_hw, grid.scale_yx, grid.image_hw, ((1, 3), (0, 2)), strict=True)
    down, across = (
        _within(np.minimum(np.arange(count + 1) * grid.patch / scale, size), *boxes[:, ends].T)
        for count, scale, size, ends in sides
    )
    used = np.einsum("nr,lrc,nc->nl", down, valid_part(trace).astype(float), across)
    total = (down.sum(axis=1) * across.sum(axis=1))[:, None]
    return np.clip(used / np.where(total > 0, total, np.nan), 0, 1)


def _within(edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(spans, intervals): share of each interval between two edges that a span covers."""
    both = np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None])
    return np.clip(both, 0, None) / np.diff(edges)


def error_frame(
    samples: Iterable[Sample],
    class_names: Sequence[str] = (),
    dense: Iterable[Detections] | None = None,
    **rule,
) -> pd.DataFrame:
    """One row an annotated object (no crowds): what its tokens did and whether it was found.

    Args:
        samples: trace, ground truth and detections of each image.
        dense: detections of a dense run on the same images, in the same order.
        rule: `iou`, `kind`, `score` of `match`.

    Returns:
        Columns: image_id, object, label, class, area, size; `found`, `score` of the detection that
        found it (NaN if missed); `dense_found` (missing without a dense run);
        used_1 .. used_L = `object_shares` at each block; `fate`: "kept" (never below `HALF`),
        "rescued" (below, and at a later layer `HALF` or more again), "lost" (below, never again);
        `dropped` = first block below `HALF`, `back` = first later block with `HALF` or more (NaN
        without). An object with an empty mask has no shares and no fate.
    """
    rows: list[dict] = []
    others = iter(dense) if dense is not None else None
    for trace, target, found in samples:
        hits = match(found, target, **rule).detection
        again = None if others is None else match(next(others), target, **rule).detection
        shares = object_shares(trace, target)
        for index, row in object_rows(trace.image_id, target, class_names):
            hit = int(hits[index])
            row |= {
                "found": hit >= 0,
                "score": float(found.scores[hit]) if hit >= 0 else np.nan,
                "dense_found": pd.NA if again is None else bool(again[index] >= 0),
                **fate(shares[index]),
            }
            rows.append(row | {f"used_{i}": s for i, s in enumerate(shares[index].tolist(), 1)})
    return pd.DataFrame(rows).astype({"dense_found": "boolean"}) if rows else _no_errors()


def _no_errors() -> pd.DataFrame:
    names = ["image_id", "object", "label", "class", "area", "size", "found", "score"]
    return pd.DataFrame(columns=[*names, "dense_found", "fate", "dropped", "back"])


def fate(shares: np.ndarray) -> dict[str, object]:
    """`fate`, `dropped` and `back` of `error_frame` from one object's shares (layers,)."""
    if np.isnan(shares).any():
        return {"fate": None, "dropped": np.nan, "back": np.nan}
    under = shares < HALF
    if not under.any():
        return {"fate": "kept", "dropped": np.nan, "back": np.nan}
    first = int(under.argmax())
    later = np.flatnonzero(~under[first:])
    back = first + int(later[0]) + 1 if len(later) else np.nan
    return {"fate": "rescued" if len(later) else "lost", "dropped": first + 1, "back": back}


def fate_frame(errors: pd.DataFrame, by: str = "size") -> pd.DataFrame:
    """Missed objects by what became of their tokens, from `error_frame`.

    Columns: the group (`by`) and fate; objects; missed; miss_rate = missed / objects, NaN without
    objects; dense_missed = objects of the cell that the dense run missed (missing without one);
    only_here = missed here and found by the dense run.
    """
    rows = []
    for group in dict.fromkeys(errors[by]):
        for name in FATES:
            cell = errors[(errors[by] == group) & (errors["fate"] == name)]
            missed, known = ~cell["found"].astype(bool), cell["dense_found"].notna().all()
            dense = cell["dense_found"].fillna(False).astype(bool)
            has_dense = known and errors["dense_found"].notna().any()
            rows.append(
                {
                    by: group,
                    "fate": name,
                    "objects": len(cell),
                    "missed": int(missed.sum()),
                    "miss_rate": missed.mean() if len(cell) else np.nan,
                    "dense_missed": int((~dense).sum()) if has_dense else pd.NA,
                    "only_here": int((missed & dense).sum()) if has_dense else pd.NA,
                }
            )
    names = [by, "fate", "objects", "missed", "miss_rate", "dense_missed", "only_here"]
    return pd.DataFrame(rows, columns=names)


def share_frame(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean share of an object's tokens used per block, of found and of missed objects of each size.

    Columns: size, found, block; objects in the group; mean over them of `object_shares`; `error` =
    standard deviation / sqrt(objects), NaN for one object. Objects with an empty mask are left out.
    """
    columns = [name for name in errors.columns if str(name).startswith("used_")]
    rows = []
    for (size, found), group in errors.dropna(subset=columns).groupby(["size", "found"]):
        for block, name in enumerate(columns, 1):
            values = group[name]
            error = values.std(ddof=1) / np.sqrt(len(values))
            row = {"size": size, "found": bool(found), "block": block, "objects": len(values)}
            rows.append(row | {"mean": values.mean(), "error": error})
    return pd.DataFrame(rows, columns=["size", "found", "block", "objects", "mean", "error"])
