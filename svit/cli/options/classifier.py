"""The options of `svit evaluate` that measure a classifier on a folder of pictures: `--class-folder`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from svit.cli.options import kinds
from svit.core.catalogue import METHODS
from svit.evaluation.average_precision import COUNTED
from svit.evaluation.classify import (
    COLOURS,
    MOVES,
    Accuracy,
    class_folder,
    classify,
    refuse_other_accuracy,
    write_accuracy,
)
from svit.evaluation.evaluation_table import Choice, choices
from svit.models.classifier import ViTClassifier
from svit.system.text import shown, table
from svit.weights.classifiers import load_classifier

# options of detectors: their names in the parser, and what they are where nobody gave them
_OF_DETECTORS = {
    **dict.fromkeys(("model", "random_weights", "dataset", "image_root", "data_root", "class_map")),
    **dict.fromkeys(("blocks", "masks_from", "calibrate_on", "rescue", "rescue_blocks")),
    **dict.fromkeys(("crowding", "boundary"), False),
    **{"set": [], "framework": "auto", "workers": 0, "dtype": "float32", "processes": 1},
    **{"split": "val2017", "exif": "auto", "evaluator": "pycocotools", "draws": 1000},
    "max_detections": COUNTED,
    "rescue_score": 0.5,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --class-folder, --method and --colours."""
    group = parser.add_argument_group("a classifier instead of a detector (docs/classification.md)")
    group.add_argument(
        "--class-folder",
        type=Path,
        metavar="DIR",
        help="top-1 of --weights (the official SViT, DeiT) on a subfolder of pictures a class",
    )
    group.add_argument(
        "--method", choices=METHODS, help="that prunes a dense one, with its defaults"
    )
    group.add_argument(
        "--colours",
        choices=tuple(COLOURS),
        help="how the weights saw colours: less ImageNet's mean (default; DeiT, SViT), or 0 to 1 less .5, "
        "over .5 (timm's augreg); no file says so",
    )


def check(args: argparse.Namespace) -> None:
    """Refuses what goes with detectors alone beside --class-folder, and what needs it without.

    Raises:
        ValueError: it names them.
    """
    if args.class_folder is None:
        if args.method:
            raise ValueError("--method goes with --class-folder; presets name a detector's method")
        if args.colours:
            raise ValueError(
                "--colours goes with --class-folder; presets hold a detector's colours"
            )
        return
    given = [name for name, plain in _OF_DETECTORS.items() if getattr(args, name) != plain]
    if given:
        raise ValueError(
            f"{kinds.flags(given)} cannot go with --class-folder, which takes a classifier"
        )
    if args.weights is None:
        raise ValueError("--class-folder goes with --weights FILE: the official SViT, or DeiT's")
    if unknown := sorted(set(args.intervene) - set(MOVES)):
        raise ValueError(
            f"--intervene: a classifier's masks are {', '.join(MOVES)}, found {unknown[0]!r}"
        )


def run(args: argparse.Namespace) -> int:
    """Measures a classifier. Returns: the exit code.

    Raises:
        CheckpointError, FolderError: the weights or the pictures cannot be used.
        FileError, RunError: a folder cannot be written, or holds another run.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_classifier(args.weights, args.method or "").to(args.device)
    size = model.pretrain_grid * model.config.patch
    pictures = class_folder(args.class_folder, size, args.colours or "imagenet")
    own, rows = model.method.inference, []
    wanted = choices(own, args.inference, args.intervene, args.seed)
    places = [(one, one.name if len(wanted) > 1 else "") for one in wanted]
    named = {"weights": args.weights.name}
    for choice, below in places:  # what cannot be is told now, not after hours of the others
        _set_mode(model, choice.inference or own)
        how = _how(args, choice)
        refuse_other_accuracy(args.out / below, model, pictures, **how, **named)
    for choice, below in places:
        _set_mode(model, mode := choice.inference or own)
        record = None if args.record is None else args.record / below
        found = classify(model, pictures, batch=args.batch, run=record, **_how(args, choice))
        write_accuracy(args.out / below, found, **named)
        rows.append([mode or "–", choice.intervene, str(choice.seed), *_cells(found)])
    head = ["inference", "masks", "seed", "top-1, %", "top-5, %", "tokens used"]
    print(shown(table(head, rows)))
    print(f"{found.images} images; with intervals: python -m analysis.render tables {args.out}")
    return 0


def _how(args: argparse.Namespace, choice: Choice) -> dict[str, Any]:
    """What a line of the table asks of `classify`."""
    return {"masks": choice.intervene, "limit": args.limit, "seed": choice.seed}


def _set_mode(model: ViTClassifier, mode: str) -> None:
    """Raises ValueError for a mode that the method lacks, or one by numbers which were never fitted."""
    fits = model.method.fits
    if fits and mode == fits.mode and not model.method.fitted.any():
        others = ", ".join(one for one in model.method.modes if one != mode)
        raise ValueError(
            f"--inference {mode}: thresholds of a classifier are never calibrated here; take {others}"
        )
    if mode:
        model.method.set_inference(mode)


def _cells(found: Accuracy) -> list[str]:
    kept = sum(found.keep) / len(found.keep)
    return [f"{found.top1:.2f}", f"{found.top5:.2f}", f"{kept:.3f}"]
