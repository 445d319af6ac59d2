"""Why was it missed? Every object that nothing finds: its error, what comes nearest, where its tokens went.

`error` is TIDE's among the detections from the score on (`error_types`: classification, localisation, or
missed); what comes nearest may have any score, so a right one that is only unsure is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.numbers.error_causes import unfound
from analysis.numbers.error_types import BOXES, Rule, Scored, errors_of
from analysis.numbers.matching import stacked
from svit.core.coverage import Truth
from svit.core.finding import match, overlaps
from svit.core.types import Detections
from svit.runs.rescue import Rescue
from svit.system.text import in_order

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
_COLUMNS = ["image_id", "object", "score", "match", "match_label", "match_score", "match_iou"]


def nearest_frame(samples: Iterable[Scored], class_names: Sequence[str] = ()) -> pd.DataFrame:
    """One row an annotated object (no crowds): what finds it, and what comes nearest, whatever the score.

    Args:
        samples: id, ground truth and all detections of each image.

    Returns:
        The columns of `matching.found_frame`, and of the nearest detection `match`, one of `MATCHES`,
        match_class, match_score and match_iou (missing below an IoU of 0.1). It is the one that finds the
        object at some score, else the surest with a box IoU of at least 0.5, else the one with the highest.
    """
    images = [(image_id, nearest(found, target)) for image_id, target, found in samples]
    frame = stacked(images) if images else pd.DataFrame(columns=_COLUMNS)
    labels = frame.pop("match_label")
    names = {label: f"class {label}" for label in labels.unique()} | dict(enumerate(class_names))
    return frame.assign(match_class=labels.map(names | {-1: ""}))


def type_frame(
    samples: Iterable[Scored], class_names: Sequence[str] = (), score: float = 0.5
) -> pd.DataFrame:
    """TIDE's `error` of every object that no detection from a score on finds, with its image_id and object;
    samples as of `nearest_frame`."""
    errors = errors_of(samples, class_names, Rule(score=score))
    return unfound(errors, errors.objects)[["image_id", "object", "error"]]


def missed_frame(objects: pd.DataFrame, near: pd.DataFrame, types: pd.DataFrame) -> pd.DataFrame:
    """The rows of `objects` that are not found, with what comes nearest and their error.

    Args:
        objects: `matching.error_frame`.
        near: `nearest_frame`.
        types: `type_frame` at the same score.
    """
    missed = objects[~objects["found"].astype(bool)]
    for more in (types, near.drop(columns="score")):
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


def nearest(found: Detections, target: Truth) -> dict[str, np.ndarray]:
    """Of each object of an image (no crowds) the columns of `matching.finders`, and `match`, match_label (-1:
    nothing near), match_score and match_iou of what comes nearest."""
    real = np.flatnonzero(~target.crowd)
    finder = match(found, target).detection[real]
    scores = np.append(found.scores, np.nan)
    known = {"object": real, "score": scores[finder].astype(np.float32)}
    if not len(found):
        unknown = {name: np.full(len(real), np.nan) for name in ("match_score", "match_iou")}
        nothing = {"match": np.full(len(real), NOTHING), "match_label": np.full(len(real), -1)}
        return known | nothing | unknown
    iou = overlaps(found, np.arange(len(found)), target, real, BOXES.kind)
    on_top = iou >= BOXES.found
    surest = np.where(on_top, found.scores[:, None], -1).argmax(axis=0)
    place = np.where(on_top.any(axis=0), surest, iou.argmax(axis=0))
    place = np.where(finder >= 0, finder, place)
    iou = iou[place, np.arange(len(real))]
    same, over = found.labels[place] == target.labels[real], iou >= BOXES.found
    tests = [finder >= 0, iou < BOXES.touched, over & same, over, same]
    kinds = [UNSURE, NOTHING, "duplicate", "classification", "localisation"]
    kind = np.select(tests, kinds, "both")
    near = kind != NOTHING
    return known | {
        "match": kind,
        "match_label": np.where(near, found.labels[place], -1),
        "match_score": np.where(near, scores[place], np.nan).astype(float),
        "match_iou": np.where(near, iou, np.nan),
    }


def ordered(missed: pd.DataFrame, order: str) -> pd.DataFrame:
    """Rows of `with_rescue` by a key of `ORDERS`; equal ones by first block under half, then as recorded."""
    column, ascending = ORDERS[order]
    rows = missed.sort_values("dropped", kind="stable")
    how = {"key": lambda ids: ids.map(in_order)} if column == "image_id" else {}
    return rows.sort_values(column, ascending=ascending, kind="stable", ignore_index=True, **how)
