"""`svit record`: which tokens every layer uses on a set of images, and what is found, in a run folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from svit.cli.options import kinds
from svit.cli.options import model as model_options
from svit.cli.options import module as module_options
from svit.cli.options import passes as pass_options
from svit.cli.options import processes as process_options
from svit.cli.options.data import add_class_map, add_exif, add_thumbnail
from svit.cli.options.model import load_model, weights_name
from svit.core.config import DataConfig
from svit.data.classes import read_class_map
from svit.data.coco import CocoDataset, CocoFiles, ImageFiles
from svit.data.samples import Images
from svit.detectors.base import Detector
from svit.evaluation.record import record_run
from svit.evaluation.record_module import record_module
from svit.system.processes import Ranks, joined, launch
from svit.system.text import counted
from svit.weights.loading import class_names, load_coco


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit record`."""
    model_options.add_arguments(parser)
    module_options.add_arguments(parser)
    images = parser.add_argument_group("images")
    several = {"nargs": "+", "action": "extend", "type": Path}
    images.add_argument("--images", metavar="PATH", help="folders or files", **several)
    images.add_argument("--coco", type=Path, metavar="JSON", help="instance annotations")
    images.add_argument("--image-root", type=Path, help="folder of the images of --coco")
    images.add_argument("--limit", type=kinds.count, help="only the first images")
    add_exif(images)
    add_class_map(images)
    parser.add_argument(
        "--out", type=kinds.place, required=True, help="run folder to make or to go on with"
    )
    parser.add_argument("--inference", metavar="MODE", help="sample, threshold, calibrated or topk")
    parser.add_argument("--seed", type=kinds.seed, default=0, help="of sampled masks (default 0)")
    pass_options.add_arguments(parser)
    parser.add_argument("--no-scores", action="store_true", help="leave the gates' scores out")
    add_thumbnail(parser)
    process_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`svit record`. Returns: the exit code, 1 where images could not be read."""
    return launch(_record, args, process_options.layout(args))


def _record(args: argparse.Namespace) -> int:
    module_options.check(args)
    _check_images(args)
    with joined(args.device) as ranks, logging_redirect_tqdm():
        record = _record_module if args.module else _record_detector
        images, failed = record(args, ranks)
        failed = ranks.total(failed)
    if ranks.is_first:
        print(f"recorded: {args.out}")
    if failed and ranks.is_first:
        told = f"{failed} of {counted(len(range(len(images))[: args.limit]), 'images')} could not be read"
        print(f"{told}; {args.out} lists them", file=sys.stderr)
    return 1 if failed else 0


def _record_detector(args: argparse.Namespace, ranks: Ranks) -> tuple[Images, int]:
    """A model of ours. Returns: the images, and how many this process could not read."""
    detector = load_model(args, ranks.device)
    images = _images(args, detector, ranks)
    options = pass_options.chosen(
        args,
        inference=args.inference,
        seed=args.seed,
        scores=not args.no_scores,
        progress=ranks.is_first,
    )
    told = {"weights": weights_name(args), "class_names": class_names(detector)}
    side = args.thumbnail
    failed = record_run(detector, images, args.out, options, picture_side=side, ranks=ranks, **told)
    return images, failed


def _record_module(args: argparse.Namespace, ranks: Ranks) -> tuple[Images, int]:
    """Any other model. Returns: as `_record_detector`."""
    model = module_options.load(args, ranks.device)
    images = _plain_images(args, module_options.pictures(args, model), ranks)
    if ranks.is_first and (told := module_options.guessed(args, model)):
        print(told, file=sys.stderr)
    failed = record_module(
        model,
        images,
        args.out,
        module_options.watching(args),
        pass_options.chosen(args, progress=ranks.is_first),
        picture_side=args.thumbnail,
        ranks=ranks,
        model=args.module,
    )
    return images, failed


def _check_images(args: argparse.Namespace) -> None:
    """Raises ValueError when neither or both ways of naming the images are used."""
    of_json = (args.coco is not None, args.image_root is not None)
    if of_json not in ((True, True), (False, False)) or all(of_json) == (args.images is not None):
        raise ValueError(
            "name the images: either --images PATH ... or --coco JSON --image-root DIR"
        )
    if args.images is not None and args.class_map:
        raise ValueError("--class-map goes with --coco: pictures alone have no classes")


def _images(args: argparse.Namespace, detector: Detector, ranks: Ranks) -> Images:
    """With the labels of a model of ours."""
    if args.images is not None:
        return ImageFiles(args.images, detector.config.data, exif=args.exif)
    files, classes = CocoFiles(args.coco, args.image_root), read_class_map(args.class_map)
    return load_coco(files, detector, exif=args.exif, class_map=classes, tell=ranks.is_first)


def _plain_images(args: argparse.Namespace, config: DataConfig, ranks: Ranks) -> Images:
    """With the labels of the json, for a model that has none."""
    if args.images is not None:
        return ImageFiles(args.images, config, exif=args.exif)
    images = CocoDataset(args.coco, args.image_root, config, exif=args.exif, check_files=True)
    if images.report.says and ranks.is_first:
        print("\n".join(images.report.lines()), file=sys.stderr)
    return images
