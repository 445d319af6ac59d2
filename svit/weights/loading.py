"""Detectors and data sets from files, ready for use together."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from svit.data.coco import CocoDataset
from svit.data.coco_names import COCO_CLASSES
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.weights import checkpoint


def load_detector(path: Path, framework: str = "auto") -> Detector:
    """The detector of a checkpoint: the settings inside ours, guessed ones for released weights.

    Raises:
        CheckpointError: the file cannot be read, or holds only a part of a detector.
    """
    found = checkpoint.read_foreign(path)
    detector = build_detector(replace(found.config, framework=framework))
    checkpoint.load_into(detector, found)
    return detector


def class_names(weights: Path | None, detector: Detector) -> list[str]:
    """Names of the model's classes, for images that come without: what the training left in the
    checkpoint, COCO's for 80 classes (as released weights have), else none."""
    noted = notes(weights).get("class_names")
    if noted:
        return list(noted)
    return list(COCO_CLASSES) if detector.config.detector.classes == len(COCO_CLASSES) else []


def notes(weights: Path | None) -> dict[str, Any]:
    """What one of our own checkpoints says about itself; other files say nothing."""
    if weights is None or checkpoint.read_foreign(weights).report.kind != "ours":
        return {}
    return checkpoint.read(weights).extra


def load_coco(json: Path, image_root: Path, detector: Detector) -> CocoDataset:
    """A data set as the detector reads it; repairs of the json are told on standard error.

    Raises:
        CocoError: the json is unreadable or wrong.
    """
    dataset = CocoDataset(json, image_root, detector.config.data)
    if dataset.report.repairs:
        print("\n".join(dataset.report.lines()), file=sys.stderr)
    return dataset


def check_objects(dataset: CocoDataset, limit: int | None) -> None:
    """Refuses images without anything to find: COCO's AP is then a meaningless -1.

    Raises:
        ValueError: no image (of the first `limit`) has an object that is no crowd.
    """
    truth = dataset.coco(range(len(dataset))[:limit])
    if all(annotation["iscrowd"] for annotation in truth["annotations"]):
        raise ValueError(
            f"none of the {len(truth['images'])} images has an object to find, so AP is not defined; "
            "`svit record` tells what a model keeps without ground truth"
        )
