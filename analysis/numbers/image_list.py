"""The images of a run as a list to search and sort."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.numbers.per_image import HIGH, LOW
from analysis.numbers.usage import gated_layers
from svit.core.finding import match
from svit.runs.run import Run

SURE = 0.5  # detections from this score on count
ORDERS = {  # what images are sorted by -> column, whether small values come first
    "Recorded order": ("place", True),
    "Fewest tokens kept": ("keep_ratio", True),
    "Most tokens kept": ("keep_ratio", False),
    "Most missed objects": ("missed", False),
    "Most wrong detections": ("wrong", False),
    "Least confident": ("confidence", True),
    "Most objects": ("objects", False),
    "Fewest objects": ("objects", True),
}
OUTCOMES = ("confidence", "missed", "wrong")  # columns that `outcome_frame` adds


def image_frame(run: Run) -> pd.DataFrame:
    """One row an image in recorded order.

    Columns: image_id, file_name; place in the recording; keep_ratio = mean over gated layers of kept
    valid / valid tokens; objects annotated, without crowds (missing without annotations); classes, a
    tuple of the names of what is annotated or, without annotations, detected from `SURE` on; slices, a
    tuple of the texts that group the image (`svit.core.slices`).
    """
    images = run.images
    frame = images[["image_id", "file_name", "objects"]].copy()
    texts = images[list(run.slices)].to_numpy(object)
    frame["slices"] = [tuple(one for one in row if isinstance(one, str)) for row in texts]
    frame["place"] = np.arange(len(frame))
    counts = run.keep_counts()
    counts = counts[counts["layer"].isin(gated_layers(run.layers, run.targets))]
    ratios = (counts["kept_valid"] / counts["valid"]).groupby(counts["image_id"]).mean()
    frame["keep_ratio"] = frame["image_id"].map(ratios)
    frame["classes"] = list(_classes(run))
    return frame


def slice_frame(run: Run) -> pd.DataFrame:
    """The images of a run by slices: one row a field and text, none without slices.

    Columns: slice (its field), of (its text); images; objects, the mean of annotated ones (NaN without
    annotations); keep_ratio as in `image_frame`, its mean over images, and low and high, the 5 % and
    95 % quantile over them.
    """
    frame = image_frame(run)
    rows = []
    for field in run.slices:
        for text, part in frame.groupby(run.images[field]):
            kept = part["keep_ratio"]
            rows.append(
                {
                    "slice": field,
                    "of": text,
                    "images": len(part),
                    "objects": part["objects"].astype(float).mean(),
                    "keep_ratio": kept.mean(),
                    "low": kept.quantile(LOW),
                    "high": kept.quantile(HIGH),
                }
            )
    columns = ["slice", "of", "images", "objects", "keep_ratio", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _classes(run: Run) -> Iterator[tuple[str, ...]]:
    names = run.class_names
    for annotated, found, scores in run.iter_labels():
        if annotated is not None:
            labels = annotated
        elif found is not None:
            labels = found[scores >= SURE]
        else:
            labels = np.zeros(0, int)
        known = np.unique(labels).tolist()
        yield tuple(names[label] if label < len(names) else f"class {label}" for label in known)


def outcome_frame(run: Run, score: float = SURE) -> pd.DataFrame:
    """One row an image in recorded order, by its detections from a score on.

    Columns: image_id; confidence = mean of their scores (NaN without one); missed = annotated objects (no
    crowds) that none of them finds at box IoU 0.5; wrong = those of them that find none (nor a crowd); both
    NaN without annotations or without recorded detections.
    """
    rows = []
    records = zip(run.image_ids, run.samples("target", "detections"), strict=True)
    for image_id, (target, found) in records:
        row = {"image_id": image_id, "confidence": np.nan, "missed": np.nan, "wrong": np.nan}
        if found is not None:
            sure = found.scores >= score
            row["confidence"] = float(found.scores[sure].mean()) if sure.any() else np.nan
            if target is not None:
                hits = match(found, target, iou=0.5, score=score)
                row["missed"] = int(((hits.detection < 0) & ~target.crowd).sum())
                row["wrong"] = int((sure & (hits.target < 0)).sum())
        rows.append(row)
    return pd.DataFrame(rows, columns=["image_id", *OUTCOMES])


def matching(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows whose id, file name, classes and slices together hold every word of a text, in any case."""
    words = text.casefold().split()
    if not words:
        return frame
    columns = (frame[name] for name in ("image_id", "file_name", "classes", "slices"))
    texts = [
        f"{place} {name} {' '.join((*classes, *slices))}".casefold()
        for place, name, classes, slices in zip(*columns, strict=True)
    ]
    return frame[[all(word in text for word in words) for text in texts]]


def ordered(frame: pd.DataFrame, order: str) -> pd.DataFrame:
    """The rows by a key of `ORDERS`; equal ones as recorded, those without a value last."""
    column, ascending = ORDERS[order]
    return frame.sort_values(column, ascending=ascending, kind="stable", na_position="last")
