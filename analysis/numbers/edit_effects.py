"""What an edit of the masks did to the detections of one picture, and how that is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.numbers import usage
from svit.core import macs
from svit.core.finding import match
from svit.core.types import Detections, Target, TokenTrace

COLUMNS = ["state", "class", "before", "after", "left", "top", "right", "bottom", "object"]


def change_frame(
    before: Detections,
    after: Detections,
    target: Target | None,
    class_names: Sequence[str] = (),
    *,
    score: float = 0.5,
    iou: float = 0.5,
) -> pd.DataFrame:
    """One row an object: state, class, scores before and after, box, and its place.

    Objects are the annotated ones (no crowds), found by a detection of their class with at least the
    score and box IoU (`finding.match`): kept (found both times), lost, gained, missed (neither time). The
    scores are those of the detection that finds the object or would, were its score higher (NaN: none).
    Without ground truth the detections before stand for the objects, and detections after that match
    none are gained; `object` is the place among the ones named first, -1 for others.
    """
    rule = {"iou": iou, "score": score}
    if target is not None:
        sides = [(one, match(one, target, iou=iou).detection) for one in (before, after)]
        rows = [
            _row(
                class_names,
                target,
                place,
                score,
                *(_score(found, hits[place]) for found, hits in sides),
            )
            for place in np.flatnonzero(~target.crowd).tolist()
        ]
        return pd.DataFrame(rows, columns=COLUMNS)
    seen, shown = (one[one.scores >= score] for one in (before, after))
    objects = _as_target(seen)
    found = match(shown, objects, **rule)
    rows = [
        _row(class_names, objects, place, score, float(seen.scores[place]), _score(shown, other))
        for place, other in enumerate(found.detection)
    ]
    fresh = np.flatnonzero(found.target < 0)
    news = _as_target(shown)
    rows += [
        (*_row(class_names, news, place, score, np.nan, float(shown.scores[place]))[:-1], -1)
        for place in fresh
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def record_gap(recorded: Detections, again: Detections, score: float) -> tuple[int, float]:
    """How far a repeated forward is from its record: recorded detections of at least the score that have no
    partner of their class at box IoU 0.5 in it, and the largest difference in score among the others."""
    shown = recorded[recorded.scores >= score]
    partner = match(again, _as_target(shown)).detection
    there = partner >= 0
    gaps = np.abs(shown.scores[there] - again.scores[partner[there]])
    return int((~there).sum()), float(gaps.max(initial=0))


def _as_target(found: Detections) -> Target:
    """Detections as if they were annotated; boxes are all that is compared."""
    return Target(found.boxes_xyxy, found.labels, np.zeros((len(found), 1, 1), bool))


def _score(found: Detections, place: int) -> float:
    return float(found.scores[place]) if place >= 0 else np.nan


def _row(
    names: Sequence[str], target: Target, place: int, least: float, before: float, after: float
) -> tuple[object, ...]:
    states = {(True, True): "kept", (True, False): "lost", (False, True): "gained"}
    hits = np.array([before, after], np.float32) >= np.float32(least)  # as scores are recorded
    state = states.get(tuple(hits.tolist()), "missed")
    label = int(target.labels[place])
    name = names[label] if label < len(names) else f"class {label}"
    return (state, name, before, after, *target.boxes_xyxy[place].tolist(), place)


def ratio_frame(before: TokenTrace, after: TokenTrace, targets: Sequence[float]) -> pd.DataFrame:
    """`metrics.image_keep_frame` of both: layer, block, ratio, target, masks ("before" or "after")."""
    sides = {"before": before, "after": after}
    frames = [
        usage.image_keep_frame(trace, targets).assign(masks=name) for name, trace in sides.items()
    ]
    return pd.concat(frames, ignore_index=True)


def kept_share(trace: TokenTrace, targets: Sequence[float]) -> float:
    """Mean over the gated blocks of kept valid tokens / valid tokens (as `svit evaluate` reports)."""
    gated = usage.gated_layers(trace.layers, targets)
    return float(usage.keep_ratios(trace)[gated].mean())


def kept_change(
    before: TokenTrace, after: TokenTrace, targets: Sequence[float]
) -> tuple[float, float]:
    """`kept_share` after, and its difference to before in percentage points."""
    share = kept_share(after, targets)
    return share, 100 * (share - kept_share(before, targets))


def macs_change(before: pd.Series, after: pd.Series) -> dict[str, tuple[float, float]]:
    """Multiply-accumulates after, and after / before - 1, of the backbone and of the whole network.

    Both sides get a mask for each detection before: more detections after would else hide what fewer tokens
    save.
    """
    same = [name for name in ("mask_head",) if name in before]
    sides = before, after.where(~after.index.isin(same), before)
    heads = list(macs.HEAD_PARTS)
    parts = {
        "backbone": [one.drop(heads, errors="ignore") for one in sides],
        "network": list(sides),
    }
    sums = {name: [float(one.sum()) for one in pair] for name, pair in parts.items()}
    return {name: (after, after / before - 1) for name, (before, after) in sums.items()}


def token_frame(before: TokenTrace, after: TokenTrace, layer: int) -> pd.DataFrame:
    """One row a valid token at a layer: row, column, box x0, y0, x1, y1 in source pixels, and state:
    used, carried (by another token), pruned, turned on (by the edits), turned off (neither used nor carried
    any more)."""
    grid = after.grid
    was, now = (usage.valid_keep(trace)[layer].ravel() for trace in (before, after))
    there, part = (usage.valid_part(trace)[layer].ravel() for trace in (before, after))
    kinds = [now & was, now, part, there]
    state = np.select(kinds, ["used", "turned on", "carried", "turned off"], "pruned")
    rows, columns = np.indices(grid.valid_hw).reshape(2, -1)
    boxes = np.array([grid.token_box(*token) for token in zip(rows, columns, strict=True)])
    sides = dict(zip(("x0", "y0", "x1", "y1"), boxes.T, strict=True))
    return pd.DataFrame({"row": rows, "column": columns, **sides, "state": state})


def outline(
    boxes: pd.DataFrame, ax: Axes, colour: str, style: str = "-", width: float = 1.9
) -> Axes:
    """Frames boxes (left, top, right, bottom in source pixels) just outside of their sides."""
    reach = 0.008 * np.ptp(ax.get_xlim())
    for left, top, right, bottom in boxes[["left", "top", "right", "bottom"]].to_numpy(float):
        corner, size = (left - reach, top - reach), (right - left, bottom - top)
        box = Rectangle(corner, *(side + 2 * reach for side in size), fill=False)
        box.set(edgecolor=colour, linewidth=width, linestyle=style, zorder=5)
        ax.add_patch(box)
    return ax
