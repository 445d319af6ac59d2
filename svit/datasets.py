"""`svit dataset shapes | check`: writes the synthetic shapes; reports what is wrong with a COCO json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from svit.data.shapes import write_dataset
from svit.data.validate import check_coco, repaired


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="shapes | check")
    shapes = kinds.add_parser("shapes", help="write the synthetic shapes in COCO's layout")
    shapes.add_argument("--out", type=Path, required=True, help="folder to write")
    shapes.add_argument("--train", type=int, default=1000, help="training images (default 1000)")
    shapes.add_argument("--val", type=int, default=100, help="validation images (default 100)")
    shapes.add_argument(
        "--seed", type=int, default=0, help="of the first training image (default 0)"
    )
    shapes.set_defaults(action=_shapes)
    check = kinds.add_parser("check", help="check a COCO json, line by line, before it is used")
    check.add_argument("json", type=Path, help="instance annotations, as instances_val2017.json")
    check.add_argument("--image-root", type=Path, help="folder of the images: are they all there?")
    check.add_argument("--decode", action="store_true", help="also decode every image (slow)")
    check.add_argument("--repair", type=Path, metavar="FILE", help="write the repaired json there")
    check.set_defaults(action=_check)


def run(args: argparse.Namespace) -> int:
    return args.action(args)


def _shapes(args: argparse.Namespace) -> int:
    write_dataset(args.out, args.train, args.val, args.seed)
    print(f"written: {args.out} ({args.train} training and {args.val} validation images)")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Exit code 1 where the file has errors that no repair mends."""
    if args.decode and args.image_root is None:
        raise ValueError("--decode reads the images: name their folder with --image-root")
    report = check_coco(args.json, args.image_root, decode=args.decode)
    print("\n".join(report.lines()))
    if args.repair and not report.errors:
        with args.json.open(encoding="utf-8") as file:
            fixed = repaired(json.load(file))
        args.repair.write_text(json.dumps(fixed), encoding="utf-8")
        print(f"written: {args.repair}")
    return 1 if report.errors else 0
