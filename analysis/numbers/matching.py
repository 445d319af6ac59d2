"""Errors of a detector beside what its tokens did: were a missed object's tokens pruned?

Detections meet ground truth as in COCO's evaluation (`svit.core.finding`). An association of pruning and
missing is no cause: small objects lose more tokens and are missed more often; compare within a size, and with
a dense run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.regions import object_rows
from analysis.numbers.usage import valid_part
from svit.core.coverage import Truth, coded_masks, token_cover
from svit.core.finding import match
from svit.core.types import Detections, ImageId, TokenTrace

HALF = 0.5  # an object counts as dropped at a layer that uses less of its tokens
FATES = ("kept", "rescued", "lost")
FATE = ["fate", "dropped", "back"]  # columns of `fates`
_KEY = ["image_id", "object"]
OBJECT = [*_KEY, "label", "class", "area", "size"]

Sample = tuple[TokenTrace, Truth, Detections]
OfImage = tuple[ImageId, dict[str, np.ndarray]]  # columns, a row an object


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
    score: float = 0.0,
) -> pd.DataFrame:
    """`tokens_frame` with what finds each object at box IoU 0.5 (`with_found`), in one pass.

    Args:
        samples: trace, ground truth and detections of each image.
        dense: detections of a dense run on the same images, in the same order.
        score: detections from it on find objects.
    """
    others = iter(dense) if dense is not None else None
    here: list[OfImage] = []
    there: list[OfImage] = []

    def seen() -> Iterator[tuple[TokenTrace, Truth]]:
        for trace, target, found in samples:
            here.append((trace.image_id, finders(target, found)))
            if others is not None:
                there.append((trace.image_id, finders(target, next(others))))
            yield trace, target

    objects = tokens_frame(seen(), class_names)
    return with_found(objects, stacked(here), None if others is None else stacked(there), score)


def tokens_frame(
    samples: Iterable[tuple[TokenTrace, Truth]], class_names: Sequence[str] = ()
) -> pd.DataFrame:
    """One row an annotated object (no crowds): what its tokens did.

    Columns: image_id, object, label, class, area, size; those of `fates`; used_1 .. used_L =
    `object_shares` at each block. An object with an empty mask has no shares and no fate.
    """
    rows: list[dict] = []
    shares: list[np.ndarray] = []
    for trace, target in samples:
        rows += (row for _, row in object_rows(trace.image_id, target, class_names))
        shares.append(object_shares(trace, target)[~target.crowd])
    used = np.concatenate(shares) if shares else np.zeros((0, 0))
    named = pd.DataFrame(used, columns=[f"used_{block}" for block in range(1, used.shape[1] + 1)])
    return pd.concat([pd.DataFrame(rows, columns=OBJECT), fates(used), named], axis=1)


def found_frame(samples: Iterable[tuple[ImageId, Truth, Detections]]) -> pd.DataFrame:
    """One row an annotated object (no crowds) of images with id, ground truth and detections: image_id and
    the columns of `finders`."""
    return stacked([(image_id, finders(target, found)) for image_id, target, found in samples])


def finders(target: Truth, found: Detections) -> dict[str, np.ndarray]:
    """Of each object of an image (no crowds) `object`, its index, and `score` (float32) of the detection that
    finds it at box IoU 0.5, NaN if none does.

    Detections choose by falling score: those below a limit change nothing above it. So from a score on an
    object is found where this score reaches it.
    """
    real = np.flatnonzero(~target.crowd)
    hits = match(found, target).detection[real]
    scores = np.append(found.scores, np.nan)[hits]  # the last one for those without, -1
    return {"object": real, "score": scores.astype(np.float32)}


def stacked(images: Sequence[OfImage]) -> pd.DataFrame:
    """Columns of several images, below each other, with their image_id."""
    if not images:
        return pd.DataFrame(columns=[*_KEY, "score"])
    ids, parts = zip(*images, strict=True)
    counts = [len(part["object"]) for part in parts]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame({"image_id": np.repeat(np.array(ids), counts), **columns})


def with_found(
    objects: pd.DataFrame,
    found: pd.DataFrame,
    dense: pd.DataFrame | None = None,
    score: float = 0.0,
) -> pd.DataFrame:
    """`tokens_frame` with the detections from a score on.

    Args:
        found: `found_frame` of the same objects.
        dense: that of a dense run.

    Returns:
        Also `found`; `score` of the detection that found the object (NaN if missed); `dense_found` (missing
        without a dense run). Objects that one of the frames lacks are left out.
    """
    frame = objects[OBJECT].merge(found[[*_KEY, "score"]], on=_KEY)
    frame.insert(len(OBJECT), "found", _reaches(frame["score"], score))
    frame["score"] = frame["score"].astype(float).where(frame["found"])
    if dense is None or frame.empty:
        frame["dense_found"] = pd.array([pd.NA] * len(frame), "boolean")
    else:
        there = dense[_KEY].assign(dense_found=_reaches(dense["score"], score))
        frame = frame.merge(there, on=_KEY).astype({"dense_found": "boolean"})
    return frame.merge(objects.drop(columns=OBJECT[2:]), on=_KEY)


def _reaches(scores: pd.Series, least: float) -> np.ndarray:
    return scores.to_numpy(np.float32) >= np.float32(least)  # as recorded: .35 is below float64's


def fates(shares: np.ndarray) -> pd.DataFrame:
    """What the tokens of objects did, from their `object_shares` (objects, layers).

    Columns: `fate`: "kept" (never below `HALF`), "rescued" (below, and at a later layer `HALF` or more
    again), "lost" (below, never again); `dropped` = first block below `HALF`, `back` = first later block
    with `HALF` or more (NaN without). All are missing where a share is.
    """
    layers = shares.shape[1]
    if not layers:
        return pd.DataFrame(index=range(len(shares)), columns=FATE)
    known, under = ~np.isnan(shares).any(axis=1), shares < HALF
    first = np.where(known & under.any(axis=1), under.argmax(axis=1), layers)
    again = ~under & (np.arange(layers) > first[:, None])
    dropped, back = first < layers, again.any(axis=1)
    return pd.DataFrame(
        {
            "fate": np.select([~known, back, dropped], [None, *FATES[1:]], FATES[0]),
            "dropped": np.where(dropped, first + 1.0, np.nan),
            "back": np.where(back, again.argmax(axis=1) + 1.0, np.nan),
        }
    )


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
