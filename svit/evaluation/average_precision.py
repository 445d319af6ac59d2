"""Box and mask AP of COCO result lists, and the matches that AP follows from. No torch.

pycocotools is the reference; faster-coco-eval and hotcoco give the same numbers sooner. Numbers
are in percent, and -1 where COCO defines none because there is no ground truth.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from svit.core.coco_rows import Row
from svit.core.matches import IOUS, Matches, Ranking
from svit.data.segments import box_polygon
from svit.evaluation.boundary import BoundaryEval

METRICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
REFERENCE = "pycocotools"
COUNTED = 100  # detections an image and class that AP counts unless told otherwise, as COCO's
KINDS = {"box": "bbox", "mask": "segm"}  # ours -> COCO's
BOUNDARY = "boundary"  # a third kind, of masks, that takes longer
_TYPES = {**KINDS, BOUNDARY: BOUNDARY}
EVALUATORS = {name: name.replace("-", "_") for name in (REFERENCE, "faster-coco-eval", "hotcoco")}


def unmasked(annotations: dict[str, Any]) -> int:
    """Number of objects of a COCO dictionary that only a box was annotated for."""
    return sum(
        not one.get("segmentation") for one in annotations["annotations"] if not one["iscrowd"]
    )


def overfull(annotations: dict[str, Any], counted: int = COUNTED) -> int:
    """Number of images of a COCO dictionary with more objects of a class than AP counts detections."""
    objects = Counter(
        (one["image_id"], one["category_id"])
        for one in annotations["annotations"]
        if not one.get("iscrowd")
    )
    return len({image_id for (image_id, _), count in objects.items() if count > counted})


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
    evaluator: str = REFERENCE,
    counted: int = COUNTED,
) -> dict[str, float]:
    """The 12 COCO numbers by their names in `METRICS`, in percent.

    Args:
        rows: result objects; an empty list is legal and scores 0.
        kind: "box", "mask" or "boundary" (`svit.evaluation.boundary`).
        evaluator: one of `EVALUATORS`.
        counted: detections an image and class, those of the highest scores; of another number than COCO's
            100 the name "AR100" has that number.

    Raises:
        ValueError: see `check_evaluator`.
    """
    return _numbers(_matched(truth, rows, kind, evaluator, counted), counted)


def matches_of(truth: COCO, rows: Sequence[Row], kind: str) -> Matches:
    """The matches of result objects of a kind of `average_precision`, of objects of all sizes and 100
    detections an image."""
    return _matches(_matched(truth, rows, kind))


def measured(
    truth: COCO,
    rows: Sequence[Row],
    kind: str,
    evaluator: str = REFERENCE,
    counted: int = COUNTED,
) -> tuple[dict[str, float], Matches]:
    """`average_precision` and its matches in one; masks are matched once, unless another evaluator than the
    reference is to give the numbers."""
    reference = _matched(truth, rows, kind, counted=counted)
    if evaluator == REFERENCE:
        return _numbers(reference, counted), _matches(reference)
    return average_precision(truth, rows, kind, evaluator, counted), _matches(reference)


def _matched(
    truth: COCO,
    rows: Sequence[Row],
    kind: str,
    evaluator: str = REFERENCE,
    counted: int = COUNTED,
) -> Any:
    """An evaluator that has matched detections to objects, image by image."""
    check_evaluator(evaluator, kind == BOUNDARY, counted)
    with _silence():
        evaluation = _BUILD[evaluator](truth, rows, kind)
        if counted != COUNTED:
            evaluation.params.maxDets = [1, min(10, counted), counted]
        evaluation.evaluate()
    return evaluation


def _numbers(evaluation: Any, counted: int) -> dict[str, float]:
    with _silence():
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats[: len(METRICS)]]
    if counted != COUNTED:  # pycocotools looks for its AP at 100 detections, whatever it counted
        every = evaluation.eval["precision"][:, :, :, 0, -1]
        values[0] = float(every[every > -1].mean()) if (every > -1).any() else -1.0
    names = [name.replace(str(COUNTED), str(counted)) for name in METRICS]
    return {name: 100 * v if v >= 0 else -1.0 for name, v in zip(names, values, strict=True)}


def check_evaluator(name: str, boundary: bool = False, counted: int = COUNTED) -> None:
    """Raises ValueError for an evaluator that is unknown, not installed, or asked for the boundary AP or the
    number of detections that it has not."""
    if name not in EVALUATORS:
        raise ValueError(f"evaluator: expected one of {', '.join(EVALUATORS)}, found {name!r}")
    if find_spec(EVALUATORS[name]) is None:
        raise ValueError(
            f"evaluator: {name} is not installed; pip install {name}, or take pycocotools, which gives the "
            "same numbers"
        )
    if counted != COUNTED and name != REFERENCE:
        raise ValueError(
            f"evaluator: {name} counts {COUNTED} detections an image; take {REFERENCE} to count {counted}"
        )
    if boundary and name == "hotcoco":
        raise ValueError(
            "evaluator: hotcoco has no boundary AP; take pycocotools or faster-coco-eval for --boundary"
        )


def _reference(truth: COCO, rows: Sequence[Row], kind: str) -> COCOeval:
    if kind == BOUNDARY:
        return BoundaryEval(truth, _results(truth, rows, kind))
    return COCOeval(truth, _results(truth, rows, kind), KINDS[kind])


def _faster(truth: COCO, rows: Sequence[Row], kind: str) -> Any:
    import faster_coco_eval  # optional; its global patching of pycocotools stays off

    other = faster_coco_eval.COCO(truth.dataset)
    found = other.loadRes(_rows_of_kind(rows, kind))
    return faster_coco_eval.COCOeval_faster(other, found, _TYPES[kind])


def _rust(truth: COCO, rows: Sequence[Row], kind: str) -> Any:
    import hotcoco  # optional; its global patching of pycocotools stays off

    # it takes natural numbers for images; the order, which settles ties, is COCO's
    ids = np.unique([image["id"] for image in truth.dataset["images"]]).tolist()
    place = {image_id: number for number, image_id in enumerate(ids)}
    images = [{**image, "id": place[image["id"]]} for image in truth.dataset["images"]]
    objects, found = (
        [{**one, "image_id": place[one["image_id"]]} for one in part]
        for part in (truth.dataset["annotations"], _rows_of_kind(rows, kind))
    )
    index = hotcoco.COCO({**truth.dataset, "images": images, "annotations": objects})
    return hotcoco.COCOeval(index, index.load_res(found), _TYPES[kind])


_BUILD = {REFERENCE: _reference, "faster-coco-eval": _faster, "hotcoco": _rust}


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
    """Evaluators print as they go."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _matches(evaluation: COCOeval) -> Matches:
    """Those of objects of all sizes: COCO's first range of areas."""
    ids, found = np.array(evaluation.params.imgIds).tolist(), evaluation.evalImgs
    groups = [found[start : start + len(ids)] for start in range(0, len(found), len(ids))]
    groups = groups[:: len(evaluation.params.areaRng)]  # a range within a class
    pairs = zip(evaluation.params.catIds, groups, strict=True)
    return Matches(tuple(ids), tuple(_ranking(*pair) for pair in pairs if any(pair[1])))


def _ranking(category: int, group: Sequence[dict[str, Any] | None]) -> Ranking:
    """Joins the matches of a class over images; ties keep the order of images, as COCO's merge sort."""
    found = [(image, match) for image, match in enumerate(group) if match is not None]
    scores = np.concatenate([np.asarray(match["dtScores"], float) for _, match in found])
    order = np.argsort(-scores, kind="mergesort")
    image = np.concatenate([np.full(len(match["dtScores"]), i, np.int32) for i, match in found])
    bits = 1 << np.arange(len(IOUS), dtype=np.uint16)
    hits, ignored = (
        bits @ (np.concatenate([match[name] for _, match in found], axis=1)[:, order] > 0)
        for name in ("dtMatches", "dtIgnore")
    )
    objects = np.zeros(len(group), np.int32)
    for i, match in found:
        objects[i] = np.count_nonzero(match["gtIgnore"] == 0)
    return Ranking(int(category), image[order], hits, ignored, objects)
