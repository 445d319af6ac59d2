"""The life of one token: what becomes of it block by block, how close it was, what lies over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.numbers.comparison import STATES, lives
from analysis.numbers.lifetimes import return_counts
from analysis.numbers.usage import usage, valid_keep, valid_part
from svit.core.coverage import token_cover, token_weights
from svit.core.types import Detections, Target, TokenGrid, TokenTrace


@dataclass(frozen=True)
class Story:
    """A token's life in numbers; blocks are the paper's, from 1.

    Attributes:
        used: blocks that use it.
        blocks: all blocks.
        dropped: first block that prunes it, or None.
        returns: blocks that use it right after one that pruned it.
        back: first of these, or None.
        last: last block that uses it, or None.
        carried: blocks in which another token carries it.
        joined: first of these, or None.
    """

    used: int
    blocks: int
    dropped: int | None
    returns: int
    back: int | None
    last: int | None
    carried: int = 0
    joined: int | None = None


def story(trace: TokenTrace, row: int, column: int) -> Story:
    """The life of a valid token in numbers."""
    keep, part = (kind(trace)[:, row, column] for kind in (valid_keep, valid_part))
    back = 2 + np.flatnonzero(~part[:-1] & part[1:])
    used, pruned, carried = (1 + np.flatnonzero(kind) for kind in (keep, ~part, part & ~keep))
    first = [int(blocks[0]) if len(blocks) else None for blocks in (pruned, back, carried)]
    last = int(used[-1]) if len(used) else None
    life = (len(used), trace.layers, first[0], len(back), first[1], last)
    return Story(*life, len(carried), first[2])


def eventful(trace: TokenTrace) -> tuple[int, int]:
    """Row and column of the valid token with most returns; of these, the most used and then the first."""
    worth = return_counts(trace) * (trace.layers + 1) + usage(trace)
    row, column = np.unravel_index(int(worth.argmax()), worth.shape)
    return int(row), int(column)


def token_of_object(trace: TokenTrace, target: Target, index: int) -> tuple[int, int]:
    """Row and column of the token that stands for an object: of those that it covers by half (or by most,
    where it covers none by half) the one that the fewest blocks use; of these, the most covered."""
    cover = token_cover(target.masks[index : index + 1], trace.grid)[0]
    own = cover >= min(0.5, float(cover.max()))
    worth = np.where(own, cover - usage(trace), -np.inf)
    row, column = np.unravel_index(int(worth.argmax()), worth.shape)
    return int(row), int(column)


def decision_limits(trace: TokenTrace) -> np.ndarray:
    """The score that parts used from pruned tokens at each layer: the middle between the lowest score
    of a used token and the highest of a pruned one, padding included.

    Returns: float64 (layers,); NaN without scores, where a layer keeps all or none, and where a
        used token scores lower than a pruned one (sampled masks, methods that prune for good).
    """
    limits = np.full(trace.layers, np.nan)
    if trace.scores is None:
        return limits
    for layer, (keep, scores) in enumerate(zip(trace.keep, trace.scores.astype(float))):
        known = np.isfinite(scores)
        used, pruned = scores[keep & known], scores[~keep & known]
        if len(used) and len(pruned) and used.min() >= pruned.max():
            limits[layer] = (used.min() + pruned.max()) / 2
    return limits


def token_frame(
    trace: TokenTrace, row: int, column: int, limits: np.ndarray | None = None
) -> pd.DataFrame:
    """One row a layer of a valid token.

    Args:
        limits: `decision_limits` of the trace, where they are known already.

    Returns:
        Columns: layer; block; state (`comparison.STATES`); score = what the layer decides by, of a gate
        the log-odds of keeping; margin = score - limit of the layer; rank = share of the layer's valid
        tokens that score lower. NaN where not recorded.
    """
    limits = decision_limits(trace) if limits is None else limits
    codes = lives(trace)[:, row, column]
    score, rank = np.full(trace.layers, np.nan), np.full(trace.layers, np.nan)
    if trace.scores is not None:
        rows, columns = trace.grid.valid_hw
        planes = trace.scores[:, :rows, :columns].astype(float)
        score = planes[:, row, column]
        lower = (planes < score[:, None, None]).mean(axis=(1, 2))
        rank = np.where(np.isfinite(score), lower, np.nan)
    layers = np.arange(trace.layers)
    states = [STATES[code] for code in codes]
    frame = {"layer": layers, "block": layers + 1, "state": states, "score": score}
    return pd.DataFrame({**frame, "margin": score - limits, "rank": rank})


_OVER = ["kind", "index", "class", "score", "cover", "left", "top", "right", "bottom"]


def over_token(
    grid: TokenGrid,
    token: tuple[int, int],
    found: Detections | None,
    target: Target | None,
    class_names: Sequence[str] = (),
    score: float = 0.0,
) -> pd.DataFrame:
    """Annotated objects and detections over a valid token, those that cover most of it first.

    Args:
        token: row and column.
        score: detections below are left out.

    Returns:
        Columns: kind ("annotated", "crowd", "detected"); index in its record; class; score (NaN of
        annotations); cover = share of the token's pixels that the mask covers, or the box where
        a detection has no mask; left, top, right, bottom of its box in source pixels.
    """
    rows = []
    for record in (target, found):
        if record is None:
            continue
        masks, boxes = record.masks, record.boxes_xyxy
        cover = _box_cover(boxes, grid, token) if masks is None else _cover(masks, grid, token)
        for index in np.flatnonzero(cover > 0):
            value, kind = _kind(record, index)
            if np.float32(value) < np.float32(score):  # as scores are recorded
                continue
            label = int(record.labels[index])
            name = class_names[label] if label < len(class_names) else f"class {label}"
            row = [kind, int(index), name, value, float(cover[index]), *boxes[index].tolist()]
            rows.append(row)
    frame = pd.DataFrame(rows, columns=_OVER).astype({"score": float, "cover": float})
    return frame.sort_values(["cover", "score"], ascending=False, kind="stable", ignore_index=True)


def _kind(record: Detections | Target, index: int) -> tuple[float, str]:
    """Score (NaN of an annotation) and kind."""
    if isinstance(record, Detections):
        return float(record.scores[index]), "detected"
    return float("nan"), "crowd" if record.crowd[index] else "annotated"


def _cover(masks: np.ndarray, grid: TokenGrid, token: tuple[int, int]) -> np.ndarray:
    """`coverage.token_cover` of one token. Returns: float (masks,)."""
    weights = [
        side[place] for side, place in zip(token_weights(grid, masks.shape[1:]), token, strict=True)
    ]
    down, across = (np.flatnonzero(side) for side in weights)
    window = masks[:, down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    parts = weights[0][down], weights[1][across]
    return np.clip(np.einsum("h,nhw,w->n", parts[0], window.astype(np.float32), parts[1]), 0, 1)


def _box_cover(boxes_xyxy: np.ndarray, grid: TokenGrid, token: tuple[int, int]) -> np.ndarray:
    """Area of each box inside the token / area of the token."""
    left, top, right, bottom = grid.token_box(*token)
    x0, y0, x1, y1 = boxes_xyxy.astype(float).T
    width = np.clip(np.minimum(x1, right) - np.maximum(x0, left), 0, None)
    height = np.clip(np.minimum(y1, bottom) - np.maximum(y0, top), 0, None)
    return width * height / ((right - left) * (bottom - top))
