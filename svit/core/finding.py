"""Which detection finds which object of an image, as in COCO's evaluation at one IoU.

Class by class, best score first, each detection takes the best object still free, crowds take any number
(pycocotools, `COCOeval.evaluateImg`). All detections count: COCO's 100 of a class are a limit of its AP
(`svit.evaluation.average_precision`); here they would make found objects of a crowded image missed ones.
No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from svit.core.coverage import Truth, coded_masks
from svit.core.types import Detections, to_xywh


@dataclass(frozen=True)
class Matches:
    """Which detection found which object of an image.

    Attributes:
        detection: int64 (objects,), index of the detection that found the object, or -1. Of a
            crowd, the last one.
        target: int64 (detections,), index of the object that the detection found, or -1.
        ignored: bool (detections,), matched to a crowd: neither right nor wrong.
    """

    detection: np.ndarray
    target: np.ndarray
    ignored: np.ndarray


def match(
    found: Detections, target: Truth, *, iou: float = 0.5, kind: str = "box", score: float = 0.0
) -> Matches:
    """Matches the detections of one image as COCO does.

    Args:
        iou: least overlap; with crowds, the share of the detection inside the crowd.
        kind: "box" or "mask".
        score: detections below are left out (COCO leaves out none).

    Raises:
        ValueError: another kind, or masks asked for and not given.
    """
    detection, matched = np.full(len(target), -1), np.full(len(found), -1)
    seen = _candidates(found, score)
    real = np.argsort(target.crowd, kind="stable")  # crowds last
    overlap = overlaps(found, seen, target, real, kind)
    overlap[found.labels[seen][:, None] != target.labels[real]] = -1
    chosen = greedy(overlap, target.crowd[real], min(iou, 1 - 1e-10))
    hits = chosen >= 0
    matched[seen[hits]] = real[chosen[hits]]
    detection[real[chosen[hits]]] = seen[hits]
    ignored = np.zeros(len(found), bool)
    ignored[matched >= 0] = target.crowd[matched[matched >= 0]]
    return Matches(detection, matched, ignored)


def _candidates(found: Detections, score: float) -> np.ndarray:
    """Indices of the detections that count, best first."""
    order = np.argsort(-found.scores, kind="stable")
    return order[found.scores[order] >= score]


def overlaps(
    found: Detections, seen: np.ndarray, target: Truth, real: np.ndarray, kind: str
) -> np.ndarray:
    """IoU (detections, objects) by pycocotools, which treats crowds its own way.

    Args:
        seen, real: indices of the detections and objects that are meant.

    Raises: as `match`.
    """
    if kind not in ("box", "mask"):
        raise ValueError(f"kind: expected 'box' or 'mask', found {kind!r}")
    if kind == "mask" and found.coded is None:
        raise ValueError("expected detections with masks, found boxes only; match kind='box'")
    if not len(seen) or not len(real):
        return np.zeros((len(seen), len(real)))
    if kind == "box":
        sides = (to_xywh(found.boxes_xyxy[seen]), to_xywh(target.boxes_xyxy[real]))
    else:
        sides = (found.coded[seen].coco(), coded_masks(target)[real].coco())
    return np.asarray(coco_mask.iou(*sides, target.crowd[real].astype(np.uint8).tolist()))


def greedy(overlaps: np.ndarray, crowd: np.ndarray, least: float) -> np.ndarray:
    """Column that each row takes, or -1: rows in order, crowds (last columns) only if no object is
    left that fits; of equal overlaps the last column, as pycocotools."""
    free = np.ones(overlaps.shape[1], bool)
    chosen = np.full(len(overlaps), -1)
    for row in np.flatnonzero((overlaps >= least).any(axis=1)):
        values = overlaps[row]
        for candidates in (free & ~crowd, crowd):
            fits = np.flatnonzero(candidates & (values >= least))
            if len(fits):
                best = fits[values[fits] == values[fits].max()][-1]
                chosen[row], free[best] = best, crowd[best]
                break
    return chosen
