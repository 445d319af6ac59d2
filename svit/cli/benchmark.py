"""`svit benchmark`: models side by side and stage by stage, from options to a folder of tables."""

from __future__ import annotations

import argparse
from dataclasses import fields

import torch

from svit.cli.options import kinds
from svit.cli.options.devices import device
from svit.cli.options.passes import add_dtype
from svit.core.ranges import COUNT
from svit.speed import report
from svit.speed.benchmark import benchmark
from svit.speed.benchmark_cases import PARTS, Settings
from svit.system.files import prepare_folder
from svit.system.text import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit benchmark`."""
    words = kinds.listed()
    add = parser.add_argument
    about = "presets or checkpoints; the first is compared to"
    add("--models", type=words, required=True, help=about)
    add("--keep", type=words, default=("paper",), help="paper, learned, dense or ratios (paper)")
    add("--sdpa", dest="attention", type=words, default=("fused",), help="fused, explicit (fused)")
    add(
        "--sizes",
        type=kinds.listed(_size),
        default=((640, 640),),
        help="as 640x640,800x1333: height x width",
    )
    add("--parts", type=words, default=PARTS, help="backbone, network (default both)")
    about = "images a batch, or several sizes of batches as 1,2,4 (default 1)"
    add("--batch", dest="batches", type=kinds.listed(kinds.count), default=(1,), help=about)
    about = "folder of pictures, the same for all, where masks are learned (default: noise)"
    add("--images", type=kinds.place, help=about)
    add("--limit", type=kinds.count, default=8, help="only its first pictures (default 8)")
    about = "an image that all networks work on (default: the most that all take)"
    add("--proposals", type=kinds.count, help=f"boxes {about}")
    add("--detections", type=kinds.count, help=f"objects {about}")
    add("--rounds", type=kinds.count, default=10, help="calls of each variant (default 10)")
    add("--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    add("--threads", type=kinds.at_once, help="threads (default: torch's choice)")
    add_dtype(parser)
    add("--framework", default="auto", help="auto, torchvision or detectron2")
    add("--recording", action="store_true", help="measure every variant with recording as well")
    add("--seed", type=kinds.seed, default=0, help="of weights, pictures and masks")
    add("--out", type=kinds.place, required=True, help="folder for the tables")


def _size(text: str) -> tuple[int, int]:
    """Height and width, in pixels."""
    try:
        height, width = map(COUNT.parse, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected sizes like 640x640, height x width in pixels, found {text!r}"
        ) from None
    return int(height), int(width)


def run(args: argparse.Namespace) -> int:
    """Measures, writes the tables and prints the report."""
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    prepare_folder(args.out)  # before minutes of measuring
    result, tables = benchmark(settings)
    report.write(args.out, result, tables)
    print(shown(report.markdown(result, tables)))
    print(f"written to {args.out}")
    return 0
