"""Detectors and data sets from files, ready for use together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from svit.core.config import Config, to_dict
from svit.data.classes import ClassError, side_by_side
from svit.data.coco import CocoDataset, CocoFiles
from svit.data.coco_names import likely_names
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.system.claims import differences
from svit.system.text import counted
from svit.weights import checkpoint
from svit.weights.conversion import Report

SECTIONS = ("backbone.", "pruning.", "detector.", "data.")
TRAINING = {  # of these sections, settings that say nothing of what a trained model does
    "backbone.drop_path",
    "backbone.prior_dropout",
    "detector.rpn_samples",
    "detector.rpn_pre_nms_train",
    "detector.rpn_post_nms_train",
    "detector.roi_samples",
    "detector.roi_positive_fraction",
    "data.augment",
}


def other_settings(there: Config, now: Config) -> dict[str, str]:
    """Settings by which the same weights find something else: dotted name -> both values, in words."""
    other_method = there.pruning.method != now.pruning.method
    found = {}
    for line in differences(to_dict(there), to_dict(now)):
        name = line.partition(":")[0]
        aside = other_method and name.startswith("pruning.options")
        if name.startswith(SECTIONS) and name not in TRAINING and not aside:
            found[name] = line
    return found


def load_detector(path: Path, framework: str = "auto", config: Config | None = None) -> Detector:
    """The detector of a checkpoint: the settings inside ours, guessed ones for released weights, which
    standard error is told.

    Args:
        config: other settings for the same weights.

    Raises:
        CheckpointError: the file cannot be read, or holds only a part of a detector, or does not fit.
    """
    found = checkpoint.read_foreign(path)
    detector = build_detector(replace(config or found.config, framework=framework))
    checkpoint.load_into(detector, found)
    if config is None:
        tell_guesses(detector, found.report)
    return detector


def tell_guesses(detector: Detector, report: Report) -> None:
    """Says on standard error, and in the detector, what settings of its own are a guess."""
    detector.guesses = (report.guessed, *report.notes) if report.guessed else ()
    for note in detector.guesses:
        print(f"{Path(report.source).name}: {note}", file=sys.stderr)


def class_names(detector: Detector) -> list[str]:
    """Names of the model's labels, as its weights have them; COCO's for 80 classes without a name."""
    return list(detector.class_names or likely_names(detector.config.detector.classes))


def notes(weights: Path | None) -> dict[str, Any]:
    """What one of our own checkpoints says about itself; other files say nothing."""
    if weights is None or checkpoint.read_foreign(weights).report.kind != "ours":
        return {}
    return checkpoint.read(weights).extra


def load_coco(
    files: CocoFiles,
    detector: Detector,
    *,
    exif: str = "auto",
    class_map: Mapping[str, str] | None = None,
    tell: bool = True,
) -> CocoDataset:
    """A data set as the detector reads it, with the detector's labels; json and pictures are checked first.

    Args:
        class_map: name of a class in the json -> its name in the model. For weights that name none, the
            model's are "0", "1", ...
        tell: what was found and needs to be known goes to standard error.

    Raises:
        CocoError: the json or its files cannot be used.
        ClassError: the classes are not the model's.
    """
    names, count = class_names(detector), detector.config.detector.classes
    if not names and class_map:
        names = [str(label) for label in range(count)]
    dataset = CocoDataset(
        files.json,
        files.image_root,
        detector.config.data,
        exif=exif,
        check_files=True,
        class_names=names,
        class_map=class_map,
    )
    if len(dataset.class_names) != count:
        raise ClassError(
            f"the data set has {counted(len(dataset.class_names), 'classes')}, the model {count} without "
            "names\n" + side_by_side(dataset.class_names, [str(label) for label in range(count)])
        )
    if tell:
        notes = dataset.class_notes if names else ["the weights name no classes: taken by position"]
        for line in [*(dataset.report.lines() if dataset.report.says else []), *notes]:
            print(line, file=sys.stderr)
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
