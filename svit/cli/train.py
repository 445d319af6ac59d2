"""`svit train`: a detector from a preset and a COCO data set, dense or pruned, on one process or many."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from svit.cli.options import kinds
from svit.cli.options import processes as process_options
from svit.cli.options.data import add_class_map, add_exif
from svit.core.config import Config
from svit.core.presets import load_config
from svit.data.classes import read_class_map
from svit.data.coco import CocoDataset, find_coco
from svit.system.processes import launch
from svit.system.signals import INTERRUPTED
from svit.training.train import train

log = logging.getLogger("svit.training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit train`; names that detectron2 has mean what they mean there."""
    parser.add_argument(
        "--config", "--config-file", required=True, metavar="PRESET|YAML", help="`svit presets`"
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="JSON|DIR|SPLIT",
        help="COCO instances, a folder in COCO's layout, or a split found by DETECTRON2_DATASETS",
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="DIR", help="images (default: by COCO's layout)"
    )
    parser.add_argument(
        "--keep-empty", action="store_true", help="also train on pictures without an object"
    )
    add_exif(parser)
    add_class_map(parser)
    parser.add_argument("--out", type=kinds.place, required=True, metavar="DIR")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="weights of any known origin; of a model with the other neck, its ViT and heads; layers of "
        "classes by name, new ones anew",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in --out"
    )
    parser.add_argument(
        "--max-steps",
        type=kinds.count,
        metavar="N",
        help="pause after N steps of this run; resume later",
    )
    process_options.add_training_arguments(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as train.rate=1e-4; put them last"
    )


def run(args: argparse.Namespace) -> int:
    """`svit train`. Returns: the exit code, 130 after a signal (everything is saved then)."""
    return launch(_run, args, process_options.layout(args))


def _run(args: argparse.Namespace) -> int:
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO if first else logging.ERROR)
    config = load_config(args.config, args.overrides)
    train_set = open_training_set(
        args.dataset,
        args.image_root,
        config,
        exif=args.exif,
        keep_empty=args.keep_empty,
        class_map=read_class_map(args.class_map),
    )
    for line in train_set.report.lines():
        log.info(line)
    with logging_redirect_tqdm():
        ending = train(
            config,
            train_set,
            args.out,
            init=args.init,
            resume=args.resume,
            workers=args.workers,
            device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            max_steps_this_run=args.max_steps,
        )
    return INTERRUPTED if ending == "interrupted" else 0


def open_training_set(
    dataset: str, image_root: Path | None, config: Config, **choices: Any
) -> CocoDataset:
    """The training images a `--dataset` means: a json, a folder in COCO's layout, or a split.

    Args:
        choices: `exif`, `keep_empty` and `class_map` of `CocoDataset`.

    Raises:
        CocoError: nothing found, or the json is wrong.
    """
    path = Path(dataset)
    if path.suffix == ".json":
        split = path.stem.removeprefix("instances_")
        root = image_root or path.parent.parent / split  # ROOT/annotations/instances_SPLIT.json
    else:
        files = find_coco("train", path) if path.is_dir() else find_coco(dataset)
        path, root = files.json, image_root or files.image_root
    return CocoDataset(path, root, config.data, train=True, check_files=True, **choices)
