"""`svit dataset`: writes the synthetic shapes and shows them; checks and counts what a COCO json holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from svit.cli.options import kinds
from svit.cli.options.data import add_exif
from svit.data.shapes import contact_sheet, read_scenes, write_dataset
from svit.data.statistics import describe
from svit.data.validate import check_coco, checked, mended, read_json
from svit.system.files import write_text, write_whole

COLOURS = 160  # of a sheet as PNG
KINDS = "shapes | sheet | check | statistics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit dataset` and of what it can do."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar=KINDS)
    _add_shapes(kinds.add_parser("shapes", help="write the synthetic shapes in COCO's layout"))
    _add_sheet(kinds.add_parser("sheet", help="draw the first scenes with their outlines"))
    _add_check(kinds.add_parser("check", help="check a COCO json, line by line, before it is used"))
    statistics = kinds.add_parser("statistics", help="count objects, sizes and classes")
    statistics.add_argument("json", type=Path, help="instance annotations")
    statistics.set_defaults(action=_statistics)


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=kinds.place, required=True, help="folder to write")
    parser.add_argument(
        "--train", type=kinds.count_or_none, default=1000, help="training images (default 1000)"
    )
    parser.add_argument(
        "--val", type=kinds.count_or_none, default=100, help="validation images (default 100)"
    )
    parser.add_argument(
        "--seed", type=kinds.seed, default=0, help="of the first training image (default 0)"
    )
    parser.add_argument(
        "--size", type=kinds.count, default=256, help="side in pixels (default 256)"
    )
    parser.add_argument(
        "--no-centre-bias",
        dest="centre_bias",
        action="store_false",
        help="objects anywhere alike; by default they gather in the middle as in photographs",
    )
    parser.add_argument("--workers", type=kinds.at_once, default=2, help="processes (default 2)")
    parser.set_defaults(action=_shapes)


def _add_sheet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="written by `svit dataset shapes`")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png or .jpg")
    parser.add_argument("--split", default="val2017", help="default val2017")
    parser.add_argument(
        "--images", type=kinds.count, default=24, help="scenes to draw (default 24)"
    )
    parser.add_argument("--columns", type=kinds.count, default=6, help="default 6")
    parser.set_defaults(action=_sheet)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("json", type=Path, help="instance annotations, as instances_val2017.json")
    parser.add_argument(
        "--image-root",
        type=Path,
        help="folder of the images: are they there, and of the right size?",
    )
    parser.add_argument("--decode", action="store_true", help="also decode every image (slow)")
    parser.add_argument(
        "--repair",
        type=kinds.place,
        metavar="FILE",
        help="write the repaired json there, with file names as they are on disk",
    )
    add_exif(parser)
    parser.set_defaults(action=_check)


def run(args: argparse.Namespace) -> int:
    """`svit dataset`. Returns: the exit code of what it does."""
    return args.action(args)


def _shapes(args: argparse.Namespace) -> int:
    write_dataset(
        args.out, args.train, args.val, args.seed, args.size, args.centre_bias, args.workers
    )
    print(f"written: {args.out} ({args.train} training and {args.val} validation images)")
    return 0


def _sheet(args: argparse.Namespace) -> int:
    scenes = read_scenes(args.folder, args.split, args.images)
    sheet = contact_sheet(scenes, min(args.columns, len(scenes)))
    if args.out.suffix.lower() == ".png":  # the grain of the pictures makes a fifth of it otherwise
        sheet = sheet.quantize(COLOURS, dither=Image.Dither.NONE)
    kind = Image.registered_extensions().get(args.out.suffix.lower())
    if kind is None:
        raise ValueError(f"{args.out}: expected the name of a picture, as sheet.png or sheet.jpg")
    write_whole(args.out, lambda file: sheet.save(file, kind))
    print(f"written: {args.out} ({len(scenes)} scenes of {args.split})")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Exit code 1 where the file has errors, or mends are offered and not asked for."""
    if args.decode and args.image_root is None:
        raise ValueError("--decode reads the images: name their folder with --image-root")
    report = check_coco(args.json, args.image_root, decode=args.decode, exif=args.exif)
    print("\n".join(report.lines()))
    if args.repair and not report.errors:
        fixed = json.dumps(mended(read_json(args.json), args.image_root, args.exif))
        if args.repair.exists() and args.repair.read_bytes() != fixed.encode():
            raise ValueError(
                f"{args.repair} is there and holds something else: choose another name"
            )
        write_text(args.repair, fixed)
        print(f"written: {args.repair}")
        return 0
    return 1 if report.refused else 0


def _statistics(args: argparse.Namespace) -> int:
    print(describe(checked(args.json)[0]))
    return 0
