"""Recorded runs of pictures in shapes that nobody draws for: a pixel high, a pixel wide, a single pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.runs import PROVENANCE, TARGETS, found, token_means, trace_of

from svit.core.config import DataConfig
from svit.core.types import Target, TokenGrid, TokenTrace
from svit.data.images import resize_hw
from svit.runs.run import Run, RunWriter, open_run

SHAPES = {  # height and width in pixels
    "row": (1, 640),
    "column": (640, 1),
    "needle": (3000, 3),
    "bar": (3, 3000),
    "dot": (1, 1),
    "tower": (1600, 100),
}
SIDES = DataConfig(short_side=256, long_side=427)


def grid_of(image_hw: tuple[int, int]) -> TokenGrid:
    """The geometry that the pipeline gives a picture of this size."""
    resized = resize_hw(image_hw, SIDES.short_side, SIDES.long_side)
    return TokenGrid(image_hw, resized, tuple(-(-side // 32) * 2 for side in resized), 16)


def picture_of(image_hw: tuple[int, int]) -> tuple[np.ndarray, Target]:
    """A grey picture with two red objects, uint8 RGB, and its ground truth."""
    picture = np.random.default_rng(0).integers(60, 200, (*image_hw, 1)).repeat(3, 2)
    picture = picture.astype(np.uint8)
    masks, boxes = np.zeros((2, *image_hw), bool), []
    for index, mask in enumerate(masks):
        top, left = (side * (2 * index + 1) // 5 for side in image_hw)
        bottom, right = top + max(image_hw[0] // 5, 1), left + max(image_hw[1] // 5, 1)
        mask[top:bottom, left:right] = True
        picture[mask] = [200, 40, 40]
        boxes.append([left, top, right, bottom])
    return picture, Target(np.array(boxes, np.float32), np.array([0, 1]), masks)


def write_shape(path: Path, image_hw: tuple[int, int], method: str = "svit") -> Run:
    """A run of two pictures of one shape; `dense` keeps every token and misses an object."""
    dense = method == "dense"
    targets = [1.0] * len(TARGETS) if dense else TARGETS
    with RunWriter(path, {**PROVENANCE, "method": method, "targets": targets}) as writer:
        for image_id in (1, 2):
            picture, target = picture_of(image_hw)
            grid = grid_of(image_hw)
            wanted = token_means(target.masks.any(axis=0), grid)
            trace = trace_of(image_id, grid, wanted, image_id)
            detections = found(target)
            if dense:
                trace = TokenTrace(image_id, grid, np.ones_like(trace.keep))
                detections = detections[:1]
            writer.add(trace, detections, target, picture, f"{image_id}.jpg", {"seconds": 0.5})
    return open_run(path)
