"""`svit calibrate`: fits the gates' thresholds on training images and writes the checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from svit.cli.options import kinds
from svit.cli.options import model as model_options
from svit.cli.options.data import add_class_map, add_exif
from svit.data.classes import read_class_map
from svit.data.coco import CocoFiles
from svit.data.samples import marks_of
from svit.probing.calibrate import CALIBRATED_FILES, calibrate, fitted_places
from svit.system.files import prepare_folder
from svit.weights import checkpoint
from svit.weights.loading import load_coco, notes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit calibrate`."""
    model_options.add_arguments(parser)
    parser.add_argument("--dataset", type=Path, required=True, help="COCO json of TRAINING images")
    parser.add_argument("--image-root", type=Path, required=True, help="folder of the images")
    add_exif(parser)
    add_class_map(parser)
    parser.add_argument(
        "--images", type=kinds.count, default=200, help="images to fit on (default 200)"
    )
    parser.add_argument(
        "--out", type=kinds.place, required=True, help="checkpoint to write (.safetensors)"
    )


def run(args: argparse.Namespace) -> int:
    """`svit calibrate`. Returns: the exit code.

    Raises:
        ValueError: options that contradict each other, or a model without thresholds to fit.
        CheckpointError, ClassError, CocoError: weights or annotations cannot be used.
        FileError: another checkpoint lies at --out, or it cannot be written.
    """
    detector = model_options.load_model(args, torch.device(args.device))
    files, classes = CocoFiles(args.dataset, args.image_root), read_class_map(args.class_map)
    dataset = load_coco(files, detector, exif=args.exif, class_map=classes)
    size = sum(tensor.nbytes for tensor in detector.state_dict().values())
    prepare_folder(args.out.parent, size)  # a refusal now, not after the fitting
    facts = {
        **notes(args.weights),
        "calibrated_on": args.dataset.name,
        "calibration_images": min(args.images, len(dataset)),
        "uncalibrated_sha256": checkpoint.fingerprint(detector.canonical_state_dict()),
    }
    checkpoint.refuse_to_replace(args.out, detector.config, facts, apart=(CALIBRATED_FILES,))
    facts[CALIBRATED_FILES] = marks_of(dataset, fitted_places(dataset, args.images))
    table = calibrate(detector, dataset, args.images)
    checkpoint.save(args.out, detector, facts)
    table.insert(0, "block", table.pop("layer") + 1)
    print(table.to_string(index=False))
    print(f"written: {args.out}")
    method = detector.backbone.method
    if method.fits.mode not in ("", method.inference):
        print(
            f"its settings decide by {method.inference!r}: --inference {method.fits.mode} decides by what "
            f"was fitted, as --set pruning.options.inference={method.fits.mode} does"
        )
    return 0
