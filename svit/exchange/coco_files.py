"""A run's detections as COCO results, and its annotations as COCO instances that these belong to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from svit.core.coco_rows import Row, result_rows
from svit.core.coverage import object_areas
from svit.core.slices import FRAME, VIDEO, videos_of
from svit.core.types import CodedTarget, ImageId, to_xywh
from svit.data.coco_names import COCO_CLASSES
from svit.exchange.exports import ExportError, Write
from svit.runs.run import Run
from svit.system.files import write_text

RESULTS, INSTANCES = "results.json", "instances.json"
_NO_COCO_ID = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # of 1 to 90


def category_ids(class_names: Sequence[str]) -> list[int]:
    """COCO's own ids for its 80 classes, so that its servers take the results; else 1, 2, ..."""
    if tuple(class_names) == COCO_CLASSES:
        return [number for number in range(1, 91) if number not in _NO_COCO_ID]
    return list(range(1, len(class_names) + 1))


def coco(run: Run) -> Write:
    """Of a run what writes `results.json` where it has detections, `instances.json` where it has annotations.

    Raises:
        ExportError: it has neither, or labels without a name.
    """
    ids = category_ids(run.class_names)
    try:
        results, images, objects = _collected(run, ids)
    except IndexError as error:
        raise ExportError(
            f"{run.path}: has labels beyond its {len(ids)} class names, so their category is unknown"
        ) from error
    contents: dict[str, Any] = {} if results is None else {RESULTS: results}
    if images:
        named = zip(ids, run.class_names, strict=True)
        contents[INSTANCES] = {
            "info": {"description": f"annotations of the run {run.path.name}"},
            **videos_of(images),
            "images": images,
            "annotations": [{"id": number, **one} for number, one in enumerate(objects, 1)],
            "categories": [{"id": number, "name": name} for number, name in named],
        }
    if not contents:
        raise ExportError(f"{run.path}: has neither detections nor annotations to export")
    return partial(_written, contents)


def _collected(run: Run, ids: list[int]) -> tuple[list[Row] | None, list[dict], list[dict]]:
    results: list[Row] | None = None
    images, objects = [], []
    known, frames = run.images.to_dict("records"), run.frames.set_index("image_id")
    parts = run.samples("detections", "target", masks=True)
    for row, (found, target) in zip(known, parts, strict=True):
        if found is not None:
            results = [*(results or ()), *result_rows(row["image_id"], found, ids)]
        if target is not None:
            images.append(
                {
                    "id": row["image_id"],
                    "file_name": row["file_name"],
                    "height": row["image_h"],
                    "width": row["image_w"],
                    **{field: row[field] for field in run.slices},
                    **_frame(frames, row["image_id"]),
                }
            )
            objects += [{"image_id": row["image_id"], **one} for one in _objects(target, ids)]
    return results, images, objects


def _frame(frames: pd.DataFrame, image_id: ImageId) -> dict[str, Any]:
    """Of an image that is a frame of a video, as MMTracking's CocoVID has it; a run knows videos as texts."""
    if image_id not in frames.index:
        return {}
    return {"video_id": frames[VIDEO][image_id], "frame_id": int(frames[FRAME][image_id])}


def _objects(target: CodedTarget, ids: list[int]) -> list[dict[str, Any]]:
    boxes = to_xywh(target.boxes_xyxy).tolist()
    return [
        {
            "category_id": ids[label],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            "segmentation": mask if has_mask else [],  # else other programs measure masks by boxes
        }
        for label, box, area, crowd, mask, has_mask in zip(
            target.labels.tolist(),
            boxes,
            object_areas(target).tolist(),  # an unknown one would be a small object
            target.crowd.tolist(),
            target.masks.json(),
            target.has_mask.tolist(),
            strict=True,
        )
    ]


def _written(contents: dict[str, Any], out: Path) -> list[Path]:
    for name, content in contents.items():
        write_text(out / name, json.dumps(content))
    return [out / name for name in contents]
