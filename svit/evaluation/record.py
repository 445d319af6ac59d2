"""`svit record`: which tokens every layer uses on a set of images, and what is found, in a run folder.

    record_run(detector, dataset, Path("runs/mine"))

An interrupted recording goes on where it stopped and ends with the same content.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from svit.data.coco import ImageFiles
from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.evaluation.passes import (
    ALONE,
    How,
    Images,
    Seen,
    Unreadable,
    add_dtype,
    batches_of,
    deciding,
    look,
)
from svit.runs.run import RunWriter
from svit.system.processes import Ranks, joined, launch
from svit.system.processes import add_arguments as add_process_arguments
from svit.weights import checkpoint
from svit.weights.loading import (
    add_model_arguments,
    class_names,
    load_coco,
    load_model,
    weights_name,
)


def record_run(
    detector: Detector,
    dataset: Images,
    path: Path,
    *,
    inference: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    how: How | None = None,
    picture_side: int = 640,
    ranks: Ranks = ALONE,
    progress: bool = True,
    **facts: Any,
) -> int:
    """Records images into a run folder, or goes on with it. Returns: images in its error table.

    Args:
        inference: see `svit.pruning.svit`; None leaves the method's own.
        limit: only the first images.
        picture_side: longer side of the stored pictures in pixels; 0 stores none.
        ranks: this process among those that record together.
        facts: more provenance, such as the name of the weights.

    Raises:
        RunError: the folder holds another run or cannot be written.
        ValueError: see `deciding`.
    """
    how = how or How(pictures=picture_side > 0)
    with deciding(detector, inference, seed):
        source = run_provenance(detector, dataset, how, **facts)
        writer = RunWriter(
            path, source, rank=ranks.rank, world=ranks.world, picture_side=picture_side
        )
        with writer:
            batches = batches_of(len(dataset), how.batch, ranks, limit)
            wanted = missing(dataset, writer, limit)
            for item in look(detector, dataset, batches, how, wanted=wanted, progress=progress):
                write(writer, dataset, item)
            return writer.failed


def run_provenance(detector: Detector, dataset: Images, how: How, **facts: Any) -> dict[str, Any]:
    """Provenance of a run of the detector as it is set now."""
    lender = how.masks_from
    choices = {
        "batch": how.batch,
        "scores": how.scores,
        "intervention": how.intervention,
        "layers": None if how.layers is None else list(how.layers),
        "masks_from": ""
        if lender is None
        else checkpoint.fingerprint(lender.canonical_state_dict()),
    }
    if how.dtype != "float32":  # runs without a word about it are of float32
        choices["dtype"] = how.dtype
    return provenance.of_run(detector, dataset, **choices, **facts)


def missing(dataset: Images, writer: RunWriter, limit: int | None) -> Callable[[int], bool]:
    """index -> whether the run does not hold the image yet; false from the limit on."""
    done, end = writer.done, len(dataset) if limit is None else limit
    return lambda index: index < end and dataset.image_ids[index] not in done


def write(writer: RunWriter, dataset: Images, item: Seen | Unreadable) -> None:
    """Enters an image with its ground truth, or its failure, into a run."""
    file_name = dataset.file_name(item.index)
    if isinstance(item, Unreadable):
        writer.add_error(dataset.image_ids[item.index], item.message, file_name)
        return
    writer.add(
        item.trace,
        item.detections,
        dataset.target(item.index),
        item.image,
        file_name,
        {"seconds": item.seconds},
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    images = parser.add_argument_group("images")
    images.add_argument("--images", nargs="+", type=Path, metavar="PATH", help="folders or files")
    images.add_argument("--coco", type=Path, metavar="JSON", help="instance annotations")
    images.add_argument("--image-root", type=Path, help="folder of the images of --coco")
    images.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument(
        "--out", type=Path, required=True, help="run folder to make or to go on with"
    )
    parser.add_argument("--inference", metavar="MODE", help="sample, threshold, calibrated or topk")
    parser.add_argument("--seed", type=int, default=0, help="of sampled masks (default 0)")
    parser.add_argument("--batch", type=int, default=1, help="images a forward (default 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images ahead")
    add_dtype(parser)
    parser.add_argument("--no-scores", action="store_true", help="leave the gates' scores out")
    parser.add_argument(
        "--thumbnail", type=int, default=640, metavar="SIDE", help="stored pictures; 0 for none"
    )
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return launch(_record, args)


def _record(args: argparse.Namespace) -> int:
    with joined(args.device) as ranks:
        detector = load_model(args, ranks.device)
        failed = record_run(
            detector,
            _images(args, detector),
            args.out,
            inference=args.inference,
            seed=args.seed,
            limit=args.limit,
            how=How(
                args.batch, not args.no_scores, args.thumbnail > 0, args.workers, dtype=args.dtype
            ),
            picture_side=args.thumbnail,
            ranks=ranks,
            progress=ranks.is_first,
            weights=weights_name(args),
            class_names=class_names(args, detector),
        )
    if ranks.is_first:
        print(f"recorded: {args.out}")
    if failed:
        print(f"{failed} images could not be read; {args.out} lists them", file=sys.stderr)
    return 1 if failed else 0


def _images(args: argparse.Namespace, detector: Detector) -> Images:
    if (args.images is None) == (args.coco is None):
        raise ValueError(
            "name the images: either --images PATH ... or --coco JSON --image-root DIR"
        )
    if args.images is not None:
        return ImageFiles(args.images, detector.config.data)
    if args.image_root is None:
        raise ValueError("--coco JSON needs --image-root DIR")
    return load_coco(args.coco, args.image_root, detector)
