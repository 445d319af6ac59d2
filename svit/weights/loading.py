"""The model and data a command is about: shared options, and what they become."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from svit.core.config import load_config
from svit.data.coco import CocoDataset
from svit.data.coco_names import COCO_CLASSES
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.weights import checkpoint


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that name a model; `load_model` reads them."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", help="preset or YAML file; default: the settings in the weights")
    group.add_argument(
        "--weights", type=Path, help="checkpoint, or released weights of any known kind"
    )
    group.add_argument(
        "--random-weights", type=int, metavar="SEED", help="run the preset untrained, for trials"
    )
    group.add_argument("--framework", default="auto", help="auto, torchvision or detectron2")
    group.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the preset"
    )
    group.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    group.add_argument("--threads", type=int, help="threads a process (default: torch's choice)")


def load_model(args: argparse.Namespace, device: torch.device) -> Detector:
    """The detector that the options name, in evaluation mode.

    Raises:
        ValueError: no weights, or options that contradict each other.
        ConfigError, CheckpointError: the preset or the weights do not fit.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    if (args.weights is None) == (args.random_weights is None):
        raise ValueError(
            "give --weights FILE: a checkpoint of `svit train`, or released weights (links in the "
            "README); or --random-weights SEED to run a preset untrained"
        )
    if args.set and args.model is None:
        raise ValueError("KEY=VALUE changes a preset: name one with --model")
    return _built(args).to(device).eval()


def _built(args: argparse.Namespace) -> Detector:
    framework = [f"framework={args.framework}"]
    if args.weights is None:
        if args.model is None:
            raise ValueError("--random-weights needs --model PRESET")
        torch.manual_seed(args.random_weights)
        return build_detector(load_config(args.model, [*args.set, *framework]))
    if args.model is None:
        return load_detector(args.weights, args.framework)
    detector = build_detector(load_config(args.model, [*args.set, *framework]))
    checkpoint.load_weights(detector, args.weights)
    return detector


def load_detector(path: Path, framework: str = "auto") -> Detector:
    """The detector of a checkpoint: the settings inside ours, guessed ones for released weights.

    Raises:
        CheckpointError: the file cannot be read, or holds only a part of a detector.
    """
    found = checkpoint.read_foreign(path)
    detector = build_detector(replace(found.config, framework=framework))
    checkpoint.load_into(detector, found)
    return detector


def weights_name(args: argparse.Namespace) -> str:
    """What to call the weights in provenance; their hash is what identifies them."""
    return f"random {args.random_weights}" if args.weights is None else args.weights.name


def class_names(args: argparse.Namespace, detector: Detector) -> list[str]:
    """Names of the model's classes, for images that come without: what the training left in the
    checkpoint, COCO's for 80 classes (as released weights have), else none."""
    noted = notes(args.weights).get("class_names")
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
