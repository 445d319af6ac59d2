"""Detections as rows of a COCO result list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from svit.core.types import Detections, ImageId, to_xywh

Row = dict[str, Any]


def result_rows(
    image_id: ImageId, detections: Detections, category_ids: Sequence[int | None]
) -> list[Row]:
    """The detections of an image as COCO result objects: xywh boxes, compressed masks as text.

    Args:
        category_ids: COCO category of each contiguous class index; detections of a class that has none (the
            data do not know it) are left out.
    """
    known = np.array([category_ids[label] is not None for label in detections.labels], bool)
    if not known.all():
        detections = detections[known]
    boxes = to_xywh(detections.boxes_xyxy)
    rows = [
        {
            "image_id": image_id,
            "category_id": int(category_ids[label]),
            "bbox": box.tolist(),
            "score": float(score),
        }
        for box, score, label in zip(boxes, detections.scores, detections.labels, strict=True)
    ]
    if detections.coded is not None:
        for row, mask in zip(rows, detections.coded.json(), strict=True):
            row["segmentation"] = mask
    return rows
