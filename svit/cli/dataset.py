"""`svit dataset`: writes the shapes, converts nuclei; checks, counts and shows what a COCO json holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from PIL import Image

from svit.cli.options import kinds
from svit.cli.options.data import add_exif
from svit.data.findings import CocoError
from svit.data.shapes import contact_sheet, read_scenes, write_dataset
from svit.data.statistics import describe
from svit.data.validate import check_coco, checked, mended, read_json
from svit.data.writing.coco_folder import annotations
from svit.data.writing.folds import write_folds
from svit.data.writing.mosaic import write_mosaic
from svit.data.writing.nuclei import SPLITS, convert_nuclei
from svit.system.files import write_text, write_whole
from svit.system.text import counted, shown

COLOURS = 160  # of a sheet as PNG
KINDS = "shapes | nuclei | folds | mosaic | sheet | check | statistics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit dataset` and of what it can do."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar=KINDS)
    _add_shapes(kinds.add_parser("shapes", help="write the synthetic shapes in COCO's layout"))
    _add_nuclei(
        kinds.add_parser("nuclei", help="convert the 2018 Data Science Bowl to COCO's layout")
    )
    _add_folds(kinds.add_parser("folds", help="every image once for validation: K folders"))
    _add_mosaic(kinds.add_parser("mosaic", help="large fields: K x K pictures side by side"))
    _add_sheet(kinds.add_parser("sheet", help="draw the first scenes with their outlines"))
    _add_check(kinds.add_parser("check", help="check a COCO json, line by line, before it is used"))
    statistics = kinds.add_parser("statistics", help="count objects, sizes and classes")
    statistics.add_argument(
        "source", type=Path, help="instance annotations, or a folder in COCO's layout"
    )
    statistics.set_defaults(action=_statistics)


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=kinds.place, required=True, help="folder to write")
    parser.add_argument(
        "--train", type=kinds.count_or_none, default=1000, help="training scenes (default 1000)"
    )
    parser.add_argument(
        "--val", type=kinds.count_or_none, default=100, help="validation scenes (default 100)"
    )
    parser.add_argument(
        "--frames",
        type=kinds.count,
        default=1,
        help="of each scene: more than one (16, say) set its objects in motion (default 1)",
    )
    parser.add_argument(
        "--seed", type=kinds.seed, default=0, help="of the first training scene (default 0)"
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
    _add_workers(parser)
    parser.set_defaults(action=_shapes)


def _add_nuclei(parser: argparse.ArgumentParser) -> None:
    _add_from(parser, "stage1_train: folders ID/images/ID.png with ID/masks/*.png")
    parser.add_argument(
        "--longest",
        type=kinds.count,
        metavar="SIDE",
        help="leave out pictures with a longer side in pixels (the shipped models: 400)",
    )
    _add_workers(parser)
    parser.set_defaults(action=_nuclei)


def _add_folds(parser: argparse.ArgumentParser) -> None:
    _add_from(parser, "with train and val")
    parser.add_argument("--folds", type=kinds.count, default=5, metavar="K", help="default 5")
    parser.set_defaults(action=_folds)


def _add_mosaic(parser: argparse.ArgumentParser) -> None:
    _add_from(parser, "in COCO's layout")
    parser.add_argument("--split", default="val", help="default val")
    parser.add_argument(
        "--across", type=kinds.count, default=2, metavar="K", help="pictures a side (default 2)"
    )
    parser.add_argument(
        "--tile",
        type=kinds.count,
        default=512,
        metavar="SIDE",
        help="pixels that a picture is fitted into: what the model was trained at (default 512)",
    )
    _add_workers(parser)
    parser.set_defaults(action=_mosaic)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=kinds.at_once, default=2, help="processes (default 2)")


def _add_from(parser: argparse.ArgumentParser, what: str) -> None:
    """One folder to read, and one to write."""
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="FOLDER", help=what
    )
    parser.add_argument("--out", type=kinds.place, required=True, help="folder to write")


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
    size, bias, workers = args.size, args.centre_bias, args.workers
    counts = (args.train, args.val)
    write_dataset(args.out, *counts, args.seed, size, bias, workers, frames=args.frames)
    each = "images" if args.frames == 1 else f"videos of {args.frames} frames"
    print(f"written: {args.out} ({args.train} training and {args.val} validation {each})")
    return 0


def _nuclei(args: argparse.Namespace) -> int:
    """Exit code 1 where what was written has errors."""
    convert_nuclei(args.source, args.out, args.longest, args.workers)
    print(f"written: {args.out}")
    refused = False
    for split in SPLITS:
        json_file = annotations(args.out, split)
        data = read_json(json_file)
        if not data["images"]:
            print(
                f"{json_file}: no pictures: names decide sides (a fifth is for validation), and none falls "
                "on this one; convert more pictures, or give --coco the other side"
            )
            continue
        report = check_coco(json_file, args.out / split)
        refused |= report.refused
        print("\n".join(report.lines()))
        seen = Counter(image["kind"] for image in data["images"])
        print("  kinds: " + ", ".join(f"{count} {kind}" for kind, count in seen.most_common()))
        for line in data["info"]["told"]:
            print(f"  told: {line}")
    return int(refused)


def _folds(args: argparse.Namespace) -> int:
    for folder in write_folds(args.source, args.out, args.folds):
        print(f"written: {folder}")
    return 0


def _mosaic(args: argparse.Namespace) -> int:
    across, tile = args.across, args.tile
    left = write_mosaic(args.source, args.out, args.split, across, tile, args.workers)
    print(f"written: {args.out} (fields of {across * tile} pixels a side)")
    if left:
        print(f"  {counted(left, 'pictures')} of {args.split} left over")
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
    if not args.source.is_dir():
        print(shown(_told(args.source)))
        return 0
    found = sorted((args.source / "annotations").glob("instances_*.json"))
    if not found:
        raise CocoError(
            f"{args.source}: expected annotations/instances_SPLIT.json in it, as COCO has them, found "
            "none; name a json, or a folder in COCO's layout"
        )
    told = {file.stem.removeprefix("instances_"): _described(file) for file in found}
    if not any(told.values()):
        raise CocoError(
            f"{args.source}: has no pictures on any side; was the right folder written?"
        )
    for split, text in told.items():
        words = shown(text) or "No pictures on this side: passed over."
        print(f"## {split}\n\n{words}\n")
    return 0


def _described(file: Path) -> str:
    """The statistics of a side; empty where it was left without pictures."""
    try:
        return _told(file)
    except CocoError:
        if read_json(file).get("images") == []:
            return ""
        raise


def _told(file: Path) -> str:
    """The statistics of a json; what was repaired before goes to standard error."""
    data, report = checked(file)
    if report.says:
        print("\n".join(report.lines()), file=sys.stderr)
    return describe(data)
