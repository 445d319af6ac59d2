"""Object masks of COCO annotations: polygons, run lengths as a list, run lengths as text; no torch.

pycocotools decodes them, but trusts its input: run lengths that stop short leave the rest of a mask
uninitialised. Hence the checks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from svit.core import rle
from svit.core.types import Target, clip_boxes, to_xyxy


def are_run_lengths(segmentation: Mapping[str, Any], image_hw: tuple[int, int]) -> bool:
    """Whether they are well formed, made for this size, and no longer than the picture."""
    size = segmentation.get("size")
    if not isinstance(size, Sequence) or tuple(size) != image_hw:
        return False
    try:
        counts = run_counts(segmentation.get("counts"))
    except (TypeError, ValueError, OverflowError):
        return False
    return min(counts, default=0) >= 0 and sum(counts) <= image_hw[0] * image_hw[1]


def filled_up(segmentation: Mapping[str, Any], image_hw: tuple[int, int]) -> Mapping[str, Any]:
    """Run lengths that cover the whole picture; what stops short goes on as background."""
    counts = run_counts(segmentation["counts"])
    rest = image_hw[0] * image_hw[1] - sum(counts)
    if rest == 0:
        return segmentation
    # an odd number of runs ends with background
    full = [*counts[:-1], counts[-1] + rest] if len(counts) % 2 else [*counts, rest]
    encoded = coco_mask.frPyObjects({"size": list(image_hw), "counts": full}, *image_hw)
    return {"size": list(image_hw), "counts": encoded["counts"].decode("ascii")}


def is_empty(segmentation: Any, image_hw: tuple[int, int]) -> bool:
    """Whether not one pixel is in polygons or well formed run lengths."""
    if isinstance(segmentation, Mapping):
        return not any(run_counts(segmentation["counts"])[1::2])
    return not coco_mask.area(run_lengths(segmentation, image_hw))


def run_counts(counts: Any) -> list[int]:
    """Run lengths in pixels, background first, of COCO's list form or of its text form.

    Raises:
        ValueError: not whole numbers, or a text that is none of COCO's.
        TypeError: neither a list nor a text.
    """
    if not isinstance(counts, list | tuple):
        return list(_text_counts(counts.encode("ascii") if isinstance(counts, str) else counts))
    if any(count != int(count) for count in counts):
        raise ValueError("run lengths are whole numbers")
    return [int(count) for count in counts]


@lru_cache(maxsize=1)  # a mask is checked and then filled up
def _text_counts(code: bytes) -> tuple[int, ...]:
    return tuple(rle.run_lengths(code).tolist())


def run_lengths(segmentation: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Polygons or run lengths of one object as pycocotools' compressed run lengths."""
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation["counts"], list):
            return coco_mask.frPyObjects(dict(segmentation), *image_hw)
        return dict(segmentation)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_hw))


def box_polygon(box: Sequence[float]) -> list[list[float]]:
    """The rectangle of x, y, width, height as polygons of COCO."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


def decode_masks(segmentations: Iterable[Any], image_hw: tuple[int, int]) -> np.ndarray:
    """Bitmaps of the objects of one picture: bool (objects, height, width)."""
    coded = (run_lengths(segmentation, image_hw)["counts"] for segmentation in segmentations)
    return rle.CodedMasks(tuple(coded), image_hw).decoded()


def target_of(
    objects: Sequence[Mapping[str, Any]], labels: Mapping[Any, int], image_hw: tuple[int, int]
) -> Target:
    """Checked annotations (`svit.data.validate.checked`) of one picture as ground truth in source pixels.

    An object without a mask gets that of its box, and says so in `has_mask`.

    Args:
        labels: category id -> label.
    """
    boxes = np.array([one["bbox"] for one in objects], np.float32).reshape(-1, 4)
    shapes = [one["segmentation"] or box_polygon(one["bbox"]) for one in objects]
    return Target(
        boxes_xyxy=clip_boxes(to_xyxy(boxes), image_hw),
        labels=np.array([labels[one["category_id"]] for one in objects], np.int64),
        masks=decode_masks(shapes, image_hw),
        crowd=np.array([one["iscrowd"] for one in objects], bool),
        areas=np.array([one["area"] for one in objects], np.float32),
        has_mask=np.array([bool(one["segmentation"]) for one in objects], bool),
    )
