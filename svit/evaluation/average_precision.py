"""Box and mask AP of COCO result lists, and bootstrap intervals over images. No torch.

pycocotools is the reference; faster-coco-eval gives the same numbers sooner. Numbers
are in percent, and -1 where COCO defines none because there is no ground truth.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from svit.core.rle import CodedMasks
from svit.core.types import Detections, ImageId, to_xywh
from svit.data.segments import box_polygon

METRICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
KINDS = {"box": "bbox", "mask": "segm"}  # ours -> COCO's
EVALUATORS = ("pycocotools", "faster-coco-eval")

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
    if detections.masks is not None:
        for row, mask in zip(rows, CodedMasks.of(detections.masks).json(), strict=True):
            row["segmentation"] = mask
    return rows


def unmasked(annotations: dict[str, Any]) -> int:
    """Number of objects of a COCO dictionary that only a box was annotated for."""
    return sum(
        not one.get("segmentation") for one in annotations["annotations"] if not one["iscrowd"]
    )


def truth_of(annotations: dict[str, Any], kind: str) -> dict[str, Any]:
    """What is to be found: for masks, objects without one are crowd regions of their box, so that finding
    them counts neither way."""
    if kind == "box" or all(one.get("segmentation") for one in annotations["annotations"]):
        return annotations
    objects = [
        one if one.get("segmentation") else {**one, **_region(one["bbox"])}
        for one in annotations["annotations"]
    ]
    return {**annotations, "annotations": objects}


def _region(box: Sequence[float]) -> dict[str, Any]:
    return {"iscrowd": 1, "segmentation": box_polygon(box)}


def load_truth(annotations: dict[str, Any]) -> COCO:
    """An index over the content of a COCO annotation file, without its chatter."""
    truth = COCO()
    truth.dataset = annotations
    with _silence():
        truth.createIndex()
    return truth


def average_precision(
    truth: COCO,
    rows: Sequence[Row],
    kind: str,
    evaluator: str = "pycocotools",
) -> dict[str, float]:
    """The 12 COCO numbers by their names in `METRICS`, in percent.

    Args:
        rows: result objects; an empty list is legal and scores 0.
        kind: "box" or "mask".
        evaluator: one of `EVALUATORS`.

    Raises:
        ValueError: an unknown evaluator.
        ModuleNotFoundError: faster-coco-eval is asked for and not installed.
    """
    if evaluator not in EVALUATORS:
        raise ValueError(f"evaluator: expected one of {', '.join(EVALUATORS)}, found {evaluator!r}")
    build = _reference if evaluator == "pycocotools" else _faster
    with _silence():
        evaluation = build(truth, rows, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats[: len(METRICS)]]
    return {name: 100 * v if v >= 0 else -1.0 for name, v in zip(METRICS, values, strict=True)}


def _reference(truth: COCO, rows: Sequence[Row], kind: str) -> COCOeval:
    return COCOeval(truth, _results(truth, rows, kind), KINDS[kind])


def _faster(truth: COCO, rows: Sequence[Row], kind: str) -> Any:
    import faster_coco_eval  # optional; its global patching of pycocotools stays off

    other = faster_coco_eval.COCO(truth.dataset)
    found = other.loadRes(_rows_of_kind(rows, kind))
    return faster_coco_eval.COCOeval_faster(other, found, KINDS[kind])


def _results(truth: COCO, rows: Sequence[Row], kind: str) -> COCO:
    """Result objects as pycocotools holds them; its own loader fails on an empty list."""
    chosen = _rows_of_kind(rows, kind)
    if chosen:
        return truth.loadRes(chosen)
    empty = {name: truth.dataset[name] for name in ("images", "categories")}
    return load_truth({**empty, "annotations": []})


def _rows_of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Copies, because loaders write into them; of masks without boxes, so that areas are the masks'."""
    other, own = ("segmentation", "bbox") if kind == "box" else ("bbox", "segmentation")
    return [
        {name: value for name, value in row.items() if name != other} for row in rows if own in row
    ]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Both evaluators print as they go."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class Resampler:
    """Box or mask AP of one result list under any multiplicities of the images, without re-matching.

    COCO matches detections to objects image by image; only the ranking by score joins images. So
    matches are computed once. A draw that holds image i w_i times is the same ranking in which every
    detection and object of image i counts w_i times: true and false positives are cumulative sums of
    w. Copies of a detection would stand next to each other. After the last copy of a true positive
    precision is higher than between them, and COCO's envelope takes the highest value to the right,
    so the weighted curve gives exactly the AP of the images written out w_i times (but for equal
    scores within an image, whose copies would interleave).

    Args:
        rows: COCO result objects.
        kind: "box" or "mask".

    Attributes:
        image_ids: sorted; the order of the weights.
    """

    def __init__(self, truth: COCO, rows: Sequence[Row], kind: str) -> None:
        with _silence():
            evaluation = _reference(truth, rows, kind)
            evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all sizes
            evaluation.params.maxDets = evaluation.params.maxDets[-1:]
            evaluation.evaluate()
        self.image_ids: list[ImageId] = list(evaluation.params.imgIds)
        self._recalls = evaluation.params.recThrs
        found, size = evaluation.evalImgs, len(self.image_ids)
        groups = [found[start : start + size] for start in range(0, len(found), size)]
        self._classes = [_ranked(group) for group in groups if any(group)]

    def ap(self, weights: np.ndarray | None = None) -> float:
        """AP in percent when image i counts `weights[i]` times (int64); -1 if no object is left."""
        if weights is None:
            weights = np.ones(len(self.image_ids), np.int64)
        curves = [ranking.precisions(weights, self._recalls) for ranking in self._classes]
        counted = [curve for curve in curves if curve is not None]
        return 100 * float(np.mean(counted)) if counted else -1.0


@dataclass(frozen=True)
class _Ranked:
    """All detections of a class, by falling score.

    Attributes:
        image: int64 (n,) position of the image of each detection.
        hits: for each IoU threshold the ranks of the true positives, ascending.
        ignored: likewise of the detections that count neither way; all others are false positives.
        objects: int64 (images,) objects to find.
    """

    image: np.ndarray
    hits: list[np.ndarray]
    ignored: list[np.ndarray]
    objects: np.ndarray

    def precisions(self, weights: np.ndarray, recalls: np.ndarray) -> np.ndarray | None:
        """Interpolated precision (IoU thresholds, recalls) as COCO's `accumulate`; None without objects."""
        objects = int(self.objects @ weights)
        if objects == 0:
            return None
        share = weights[self.image]
        total = np.cumsum(share)
        curves = np.zeros((len(self.hits), len(recalls)))
        for curve, hits, ignored in zip(curves, self.hits, self.ignored, strict=True):
            found = np.cumsum(share[hits])
            skipped = np.append(0, np.cumsum(share[ignored]))[np.searchsorted(ignored, hits)]
            precision = found / (total[hits] - skipped + np.spacing(1))
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            place = np.searchsorted(found / objects, recalls, side="left")
            curve[:] = np.append(envelope, 0.0)[place]  # recalls never reached score 0
        return curves


def _ranked(group: Sequence[dict[str, Any] | None]) -> _Ranked:
    """Joins the matches of a class over images; ties keep the order of images, as COCO's merge sort."""
    found = [(image, match) for image, match in enumerate(group) if match is not None]
    scores = np.concatenate([np.asarray(match["dtScores"], float) for _, match in found])
    order = np.argsort(-scores, kind="mergesort")
    image = np.concatenate([np.full(len(match["dtScores"]), i) for i, match in found])
    matched = np.concatenate([match["dtMatches"] for _, match in found], axis=1)[:, order] > 0
    ignored = np.concatenate([match["dtIgnore"] for _, match in found], axis=1)[:, order] > 0
    objects = np.zeros(len(group), np.int64)
    for i, match in found:
        objects[i] = np.count_nonzero(match["gtIgnore"] == 0)
    hits = [np.flatnonzero(row) for row in matched & ~ignored]
    return _Ranked(image[order], hits, [np.flatnonzero(row) for row in ignored], objects)
