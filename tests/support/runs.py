"""Recorded runs of invented scenes for the tests: discs, and tokens kept where the discs are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.numbers import usage
from analysis.numbers.run_counts import COUNTS, Census, census
from svit.core.types import Detections, Target, TokenGrid, TokenTrace
from svit.runs.run import Run, RunWriter, open_run

TARGETS = [1.0] * 3 + [0.7] * 3 + [0.49] * 3 + [0.343] * 3
CLASS_NAMES = ["disc", "ball"]
PROVENANCE = {
    "config": {"name": "svit-adapter-nano", "backbone": {"depth": 12}},
    "framework": "torchvision",
    "method": "svit",
    "inference": "threshold",
    "seed": 0,
    "weights": "c0ffee",
    "class_names": CLASS_NAMES,
    "targets": TARGETS,
}

OTHER_DATA = {**PROVENANCE, "data_sha256": "b" * 64}


def grid_for(image_hw: tuple[int, int], scale: float = 1.0, patch: int = 16) -> TokenGrid:
    """The geometry of an image resized by `scale` and padded to a multiple of 32 pixels."""
    resized = tuple(int(side * scale + 0.5) for side in image_hw)
    padded = tuple(-(-side // 32) * 32 // patch for side in resized)
    return TokenGrid(image_hw, resized, padded, patch)


def token_means(values: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """Mean of a source-pixel map over each valid token; zero in the padding."""
    out = np.zeros(grid.grid_hw)
    for row in range(grid.valid_hw[0]):
        for column in range(grid.valid_hw[1]):
            left, top, right, bottom = (int(side) for side in grid.token_box(row, column))
            out[row, column] = values[
                top : max(bottom, top + 1), left : max(right, left + 1)
            ].mean()
    return out


def merged_trace(image_id: int = 1, layers: int = 4) -> TokenTrace:
    """An image in which from block 2 on the first token carries its row, in block 4 one more does."""
    grid = grid_for((40, 60))
    rows, columns = grid.grid_hw
    group = np.tile(np.arange(grid.tokens).reshape(grid.grid_hw), (layers, 1, 1))
    group[1:, 0] = 0
    group[3, 1] = columns
    keep = group == np.arange(grid.tokens).reshape(grid.grid_hw)
    return TokenTrace(image_id, grid, keep, group=group)


def trace_of(
    image_id: int | str, grid: TokenGrid, wanted: np.ndarray, seed: int = 0, targets=TARGETS
) -> TokenTrace:
    """Masks that prefer tokens with high `wanted` (rows, columns); each layer differs a little."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(size=grid.grid_hw)
    scores = np.full((len(targets), *grid.grid_hw), np.nan, np.float16)
    keep = np.ones(scores.shape, bool)
    for layer, target in enumerate(targets):
        drift = 0.6 * drift + 0.5 * rng.normal(size=grid.grid_hw)
        if target < 1:
            score = 2.5 * wanted + drift
            scores[layer] = score - np.quantile(score, 1 - target)
            keep[layer] = scores[layer] > 0
    return TokenTrace(image_id, grid, keep, scores)


def scene(seed: int, image_hw: tuple[int, int] = (120, 150)) -> tuple[np.ndarray, Target]:
    """A picture of two discs, uint8 RGB, and its ground truth."""
    rng = np.random.default_rng(seed)
    height, width = image_hw
    y, x = np.mgrid[:height, :width]
    picture = np.stack(
        [100 + 60 * y / height, 110 + 40 * x / width, np.full(image_hw, 140.0)], axis=-1
    )
    masks, boxes = [], []
    for _ in range(2):
        radius = int(rng.integers(height // 8, height // 4))
        centre_y = int(rng.integers(radius, height - radius))
        centre_x = int(rng.integers(radius, width - radius))
        mask = (y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2
        picture[mask] = rng.integers(0, 255, 3)
        masks.append(mask)
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    target = Target(np.array(boxes, np.float32), np.array([0, 1]), np.array(masks))
    return picture.astype(np.uint8), target


def found(target: Target) -> Detections:
    """Detections that agree with the ground truth, best first."""
    scores = np.linspace(0.95, 0.4, len(target), dtype=np.float32)
    return Detections(target.boxes_xyxy, scores, target.labels, target.masks)


def crowd_of(count: int) -> tuple[Target, Detections]:
    """Squares side by side on 120 x 150 pixels, all of one class, and the detections that find them all."""
    places = np.arange(count)
    left, top = 8.0 * (places % 18), 8.0 * (places // 18)
    boxes = np.stack([left, top, left + 6, top + 6], axis=1)
    masks = np.zeros((count, 120, 150), bool)
    for mask, (x, y, *_) in zip(masks, boxes.astype(int)):
        mask[y : y + 6, x : x + 6] = True
    labels = np.zeros(count, int)
    return Target(boxes, labels, masks), Detections(boxes, np.linspace(0.99, 0.6, count), labels)


def parts(image_id: int | str, seed: int | None = None) -> dict:
    """Everything `RunWriter.add` takes for an invented image."""
    seed = int(image_id) if seed is None else seed
    image, target = scene(seed)
    grid = grid_for(image.shape[:2])
    trace = trace_of(image_id, grid, token_means(target.masks.any(axis=0), grid), seed)
    return {
        "trace": trace,
        "detections": found(target),
        "target": target,
        "image": image,
        "file_name": f"{image_id}.jpg",
        "extra": {"complexity": float(seed), "seconds": 0.5},
    }


def write_run(path: Path, image_ids=(3, 1, 2), provenance=PROVENANCE, **options) -> Run:
    """A finished run of invented images."""
    with RunWriter(path, provenance, **options) as writer:
        for image_id in image_ids:
            writer.add(**parts(image_id))
    return open_run(path)


def write_dense(path: Path, image_ids=(1, 2, 3), **changes) -> Run:
    """As `write_run`, of a model that keeps every token and finds nothing in image 2."""
    with RunWriter(
        path, {**PROVENANCE, "method": "dense", "inference": "", "targets": [1.0] * 12}
    ) as writer:
        for image_id in image_ids:
            made = parts(image_id)
            trace = made["trace"]
            made["trace"] = TokenTrace(image_id, trace.grid, np.ones_like(trace.keep))
            if image_id == 2:
                made["detections"] = made["detections"][:0]
            writer.add(**{**made, **changes})
    return open_run(path)


def write_foreign(path: Path, image_ids=(1, 2, 3)) -> Run:
    """A run of a model that is not ours: it keeps all, finds nothing, and tells neither method nor cost."""
    told = {"framework": "torch", "method": "unknown", "targets": "unknown", "cost": "unknown"}
    with RunWriter(path, {**told, "model": "theirs:build", "class_names": []}) as writer:
        for image_id in image_ids:
            made = parts(image_id)
            trace, draw = made["trace"], np.random.default_rng(image_id)
            kept = np.ones_like(trace.keep)
            measures = {name: draw.random(kept.shape) for name in ("update", "norm", "attention")}
            trace = TokenTrace(image_id, trace.grid, kept, measures=measures)
            writer.add(trace, image=made["image"], file_name=made["file_name"])
    return open_run(path)


def write_one_found(path: Path, provenance=PROVENANCE) -> Run:
    """A dense run of the images 3, 1, 2 that finds one object each."""
    with RunWriter(path, {**provenance, "method": "dense"}) as writer:
        for image_id in (3, 1, 2):
            made = parts(image_id)
            trace = made["trace"]
            made["trace"] = TokenTrace(image_id, trace.grid, np.ones_like(trace.keep))
            made["detections"] = made["detections"][:1]
            writer.add(**made)
    return open_run(path)


def write_permuted(path: Path, image_ids=(1, 2, 3)) -> Run:
    """As `write_dense`, of a model that finds all objects and has the same classes in another order."""
    told = {**PROVENANCE, "method": "dense", "class_names": CLASS_NAMES[::-1]}
    with RunWriter(path, told) as writer:
        for image_id in image_ids:
            made = parts(image_id)
            trace, target, seen = (made[name] for name in ("trace", "target", "detections"))
            made["trace"] = TokenTrace(image_id, trace.grid, np.ones_like(trace.keep))
            made["target"] = replace(target, labels=1 - target.labels)
            made["detections"] = replace(seen, labels=1 - seen.labels)
            writer.add(**made)
    return open_run(path)


def write_others(path: Path, image_ids=(3, 1, 2), provenance=OTHER_DATA, **changes) -> Run:
    """A run of the pictures of another data set under the same ids."""
    with RunWriter(path, provenance) as writer:
        for image_id in image_ids:
            writer.add(**{**parts(image_id, seed=100 + image_id), **changes})
    return open_run(path)


def write_misses(path: Path, method: str = "svit", find: bool = False) -> Run:
    """Runs whose second disc loses its tokens from block 5 on and, unless `find`, is missed."""
    with RunWriter(path, {**PROVENANCE, "method": method}) as writer:
        for image_id in (1, 2, 3):
            made = parts(image_id)
            trace, target = made["trace"], made["target"]
            keep = np.ones_like(trace.keep)
            left, top, right, bottom = (int(side) // 16 for side in target.boxes_xyxy[1])
            keep[4:, top : bottom + 1, left : right + 1] = method == "dense"
            made["trace"] = TokenTrace(image_id, trace.grid, keep)
            if not find:
                made["detections"] = made["detections"][:1]
            writer.add(**made)
    return open_run(path)


def census_of(*traces: TokenTrace) -> Census:
    """What a run of these traces amounts to."""
    with tempfile.TemporaryDirectory() as folder:
        with RunWriter(folder, PROVENANCE) as writer:
            for place, trace in enumerate(traces):
                writer.add(TokenTrace(place, trace.grid, trace.keep, group=trace.group))
        return census(open_run(folder))


def reactivation_of(traces: Iterable[TokenTrace]) -> pd.DataFrame:
    """`Census.reactivation`, counted from the states of unpacked tokens image by image."""
    states = [usage.layer_states(trace) for trace in traces]
    counts = {"tokens": sum(one.used.shape[1] * one.used.shape[2] for one in states)}
    for name in COUNTS[1:]:
        counts[name] = sum(getattr(one, name).sum(axis=(1, 2)) for one in states)
    frame = pd.DataFrame(counts)
    return usage.with_shares(frame if frame["carried"].any() else frame.drop(columns="carried"))


def write_videos(path: Path, videos=("a", "b"), frames: int = 4, method: str = "changegate") -> Run:
    """A run of videos: first frames are computed whole, then a column of tokens a frame, from the left.

    Frame n of video v has the image id 10 v + n; frames are written last first, as several processes may.
    """
    with RunWriter(path, {**PROVENANCE, "method": method}) as writer:
        for place, video in enumerate(videos):
            for number in reversed(range(frames)):
                made = parts(10 * place + number, seed=place)
                keep = np.ones_like(made["trace"].keep)
                if number:
                    keep[3:] = False
                    keep[3:, :, number - 1] = True
                made["trace"] = TokenTrace(10 * place + number, made["trace"].grid, keep)
                made["extra"] = {f"video={video}": 1.0, "frame": float(number)}
                writer.add(**made)
    return open_run(path)
