"""Runs as large as COCO val's, made up: for measuring how the analysis scales.

Twelve layers, up to 50 x 84 tokens, wide and tall images, shards of the usual size. Masks are random
with structure: a smooth field an image and one a layer, thresholded at the layer's target, so that they
compress and vary as real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from svit.core.config import to_dict
from svit.core.presets import PRESETS
from svit.core.types import Detections, Target, TokenGrid, TokenTrace
from svit.runs.run import RunWriter

TARGETS = (*[1.0] * 3, *[0.7] * 3, *[0.49] * 3, *[0.343] * 3)
SIZES = ((800, 1066), (800, 1200), (800, 1333), (1066, 800), (800, 800), (750, 1333))  # resized
SCALE = 0.6  # of the source picture
FIELDS, SCENES = 32, 60  # different ones that images draw from: making them is not what is measured
CLASSES = 80


def write_masks(folder: Path, images: int) -> Path:
    """A run without pictures, annotations or detections."""
    rng = np.random.default_rng(0)
    fields = smooth_fields(rng)
    with RunWriter(folder, _provenance()) as writer:
        for number in range(images):
            writer.add(trace_of(number, fields, rng))
    return folder


def write_everything(folder: Path, images: int, seed: int = 0, scored: bool = False) -> Path:
    """A run with pictures of 640 pixels, COCO-like annotations and detections. Scenes repeat every
    `SCENES` images, masks do not; other seeds have the same scenes with other masks. `scored`: with the
    scores that the masks follow from."""
    rng = np.random.default_rng(0)
    fields, scenes = smooth_fields(rng), list(_scenes(rng))
    rng = np.random.default_rng(seed)
    with RunWriter(folder, _provenance(), picture_side=640) as writer:
        for number in range(images):
            found, target, picture = scenes[number % SCENES]
            trace = trace_of(number, fields, rng, scored)
            writer.add(trace, found, target, picture, f"{number}.jpg")
    return folder


def _provenance() -> dict:
    return {
        "targets": list(TARGETS),
        "method": "svit",
        "intervention": "generated",
        "config": to_dict(PRESETS["svit-adapter-t"]),
        "class_names": [f"class {number}" for number in range(CLASSES)],
    }


def smooth_fields(rng: np.random.Generator, side: int = 96) -> np.ndarray:
    """float32 (FIELDS, side, side): noise averaged over 7 x 7 tokens, in units of its deviation."""
    noise = rng.normal(size=(FIELDS, side + 6, side + 6))
    windows = np.lib.stride_tricks.sliding_window_view(noise, (7, 7), axis=(1, 2))
    return (windows.mean(axis=(-1, -2)) * 7).astype(np.float32)


def trace_of(
    number: int, fields: np.ndarray, rng: np.random.Generator, scored: bool = False
) -> TokenTrace:
    """An image whose layers agree in part: a field of its own and one a layer, mixed."""
    resized = SIZES[number % len(SIZES)]
    grid = TokenGrid(_source(resized), resized, tuple(-(-side // 32) * 2 for side in resized))
    rows, columns = grid.grid_hw
    own, *drift = fields[rng.integers(len(fields), size=len(TARGETS) + 1), :rows, :columns]
    keep = np.ones((len(TARGETS), rows, columns), bool)
    scores = np.full(keep.shape, np.nan, np.float16) if scored else None
    for layer, target in enumerate(TARGETS):
        if target < 1:
            score = own + 0.6 * drift[layer]
            score = score - np.quantile(score[::4, ::4], 1 - target)
            keep[layer] = score > 0
            if scored:
                scores[layer] = score
    return TokenTrace(number, grid, keep, scores)


def _source(resized: tuple[int, int]) -> tuple[int, int]:
    return tuple(int(side * SCALE) for side in resized)


def _scenes(rng: np.random.Generator) -> Iterator[tuple[Detections, Target, np.ndarray]]:
    """Detections, annotations and a noisy picture of `SCENES` images in the order of `SIZES`."""
    for number in range(SCENES):
        height, width = _source(SIZES[number % len(SIZES)])
        target = _ellipses(height, width, rng)
        blocks = 128 + 40 * rng.normal(size=(-(-height // 8), -(-width // 8), 3))
        smooth = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        picture = (smooth + 10 * rng.normal(size=smooth.shape)).clip(0, 255).astype(np.uint8)
        yield _found(target, rng), target, picture


def _ellipses(height: int, width: int, rng: np.random.Generator) -> Target:
    """0 to 14 objects, seven on average as in COCO val, their radii spread evenly over scales."""
    count = int(rng.integers(0, 15))
    y, x = np.mgrid[:height, :width]
    masks, boxes = np.zeros((count, height, width), bool), np.zeros((count, 4))
    for index in range(count):
        (tall, wide), row, column = (
            np.exp(rng.uniform(2, 5, 2)),
            rng.integers(height),
            rng.integers(width),
        )
        masks[index] = ((y - row) / tall) ** 2 + ((x - column) / wide) ** 2 <= 1
        boxes[index] = column - wide, row - tall, column + wide, row + tall
    boxes = boxes.clip(0, [width, height, width, height])
    labels, crowd = rng.integers(0, CLASSES, count), rng.random(count) < 0.02
    return Target(boxes, labels, masks, crowd, masks.sum(axis=(1, 2)))


def _found(target: Target, rng: np.random.Generator, wrong: int = 30) -> Detections:
    """Every object, its box off by a few pixels, among `wrong` other detections."""
    near = target.boxes_xyxy + rng.normal(size=target.boxes_xyxy.shape) * 3
    corners = rng.uniform(0, 300, (wrong, 2))
    others = np.concatenate([corners, corners + rng.uniform(5, 90, (wrong, 2))], axis=1)
    order = rng.permutation(len(target) + wrong)
    boxes = np.concatenate([near, others])[order]
    labels = np.concatenate([target.labels, rng.integers(0, CLASSES, wrong)])[order]
    return Detections(boxes, np.sort(rng.random(len(order)))[::-1], labels)
