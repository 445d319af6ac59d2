"""Why was it missed? Every object that nothing finds: its error, what comes nearest, where its tokens went.

`error` is TIDE's among the detections from the score on (`error_types`: classification, localisation, or
missed); what comes nearest may have any score, so a right one that is only unsure is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.error_causes import unfound
from analysis.numbers.error_types import BOXES, Rule, Scored, errors_of
from svit.core.coverage import Truth
from svit.core.finding import match, overlaps
from svit.core.types import Detections
from svit.runs.rescue import Rescue

UNSURE, NOTHING = "unsure", "nothing"
MATCHES = {  # what comes nearest -> in words
    UNSURE: "right, score too low",
    "classification": "another class on top",
    "duplicate": "finds another object",
    "localisation": "right class, box off",
    "both": "another class, box off",
    NOTHING: "nothing near",
}
ORDERS = {  # what the list is sorted by -> column, whether small values come first
    "second run finds it": ("dense_found", False),
    "its tokens bring it back": ("rescued", False),
    "first block under half": ("dropped", True),
    "score of the nearest": ("match_score", False),
    "IoU of the nearest": ("match_iou", False),
    "largest": ("area", False),
    "smallest": ("area", True),
    "image": ("image_id", True),
}
_NEAREST = ["image_id", "object", "match", "match_label", "match_score", "match_iou"]


def missed_frame(
    objects: pd.DataFrame,
    samples: Iterable[Scored],
    class_names: Sequence[str] = (),
    score: float = 0.5,
) -> pd.DataFrame:
    """The missed objects.

    Args:
        objects: `matching.error_frame` at the score.
        samples: id, ground truth and all detections of (at least) the images of missed objects.
        score: detections from it on find objects.

    Returns:
        The rows of `objects` that are not found, and: `error`; `match`, one of `MATCHES`, of the nearest
        detection: the one that would find the object were its score higher, else the surest with a box IoU
        of at least 0.5, else the one with the highest; its match_class, match_score and match_iou (missing
        below an IoU of 0.1).
    """
    missed = objects[~objects["found"].astype(bool)]
    rows: list[tuple] = []

    def seen() -> Iterator[Scored]:
        for image_id, target, found in samples:
            rows.extend((image_id, *row) for row in nearest(found, target))
            yield image_id, target, found

    errors = errors_of(seen(), class_names, Rule(score=score))
    known = unfound(errors, errors.objects)[["image_id", "object", "error"]]
    near = pd.DataFrame(rows, columns=_NEAREST)
    names = dict(enumerate(class_names))
    labels = near.pop("match_label")
    near["match_class"] = [names.get(one, f"class {one}") if one >= 0 else "" for one in labels]
    for more in (known, near):
        missed = missed.merge(more, on=["image_id", "object"], how="left")
    # of equally good boxes TIDE and COCO let different ones be found
    return missed.assign(error=missed["error"].fillna("missed"))


def with_rescue(missed: pd.DataFrame, rescue: Rescue | None, score: float) -> pd.DataFrame:
    """`missed_frame` at a score, and what keeping an object's tokens did: `after`, the score of the detection
    that finds it then; `rescued`, whether it is found; `chance`, the share of random draws of as many tokens
    in which it is. Missing where this was not asked about an object, or only from another score on."""
    if rescue is None or score > rescue.facts["score"]:
        return missed.assign(
            after=np.nan, rescued=pd.array([pd.NA] * len(missed), "boolean"), chance=np.nan
        )
    names = ["image_id", "object", "after", "rescued", "chance"]
    answers = rescue.found(score)[names].astype({"rescued": "boolean"})
    return missed.merge(answers, on=["image_id", "object"], how="left")


def nearest(found: Detections, target: Truth) -> Iterator[tuple[int, str, int, float, float]]:
    """Of each object (no crowds) its index, and `match`, label, score and IoU of what comes nearest."""
    everything = np.arange(len(found))
    overlap = overlaps(found, everything, target, np.arange(len(target)), BOXES.kind)
    able = match(found, target).detection
    for index in np.flatnonzero(~target.crowd).tolist():
        iou = overlap[:, index]
        on_top = np.flatnonzero(iou >= BOXES.found)
        if able[index] >= 0:
            place, kind = int(able[index]), UNSURE
        elif len(found):
            place = int(on_top[found.scores[on_top].argmax()] if len(on_top) else iou.argmax())
            kind = _kind(bool(found.labels[place] == target.labels[index]), float(iou[place]))
        else:
            kind = NOTHING
        if kind == NOTHING:
            yield index, kind, -1, np.nan, np.nan
        else:
            known = (int(found.labels[place]), float(found.scores[place]), float(iou[place]))
            yield index, kind, *known


def _kind(same: bool, iou: float) -> str:
    """Name of a detection that does not find the object."""
    if iou < BOXES.touched:
        return NOTHING
    if iou >= BOXES.found:
        return "duplicate" if same else "classification"
    return "localisation" if same else "both"


def ordered(missed: pd.DataFrame, order: str) -> pd.DataFrame:
    """Rows of `with_rescue` by a key of `ORDERS`; equal ones by first block under half, then as recorded."""
    column, ascending = ORDERS[order]
    rows = missed.sort_values("dropped", kind="stable")
    return rows.sort_values(column, ascending=ascending, kind="stable", ignore_index=True)
