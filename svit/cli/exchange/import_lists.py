"""`svit import`: kept or merged tokens that any other program lists become a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from svit.cli.options import kinds
from svit.cli.options.data import add_exif, add_thumbnail
from svit.exchange.importing import Truth, import_lists, tagged
from svit.exchange.lists import names_in, read_lists
from svit.system.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit import`."""
    parser.add_argument(
        "lists", type=Path, help="json or npz of kept indices or groups a layer (docs/exchange.md)"
    )
    parser.add_argument(
        "--image-root", type=Path, required=True, metavar="DIR", help="folder of the pictures"
    )
    parser.add_argument("--coco", type=Path, metavar="JSON", help="annotations of the pictures")
    parser.add_argument(
        "--out", type=kinds.place, required=True, help="run folder to make or to go on with"
    )
    add_exif(parser)
    add_thumbnail(parser)


def run(args: argparse.Namespace) -> int:
    """`svit import`. Returns: the exit code, 1 where pictures could not be read."""
    lists = read_lists(args.lists)
    truth = None if args.coco is None else Truth(args.coco)
    if truth is not None and truth.report.says:
        print("\n".join(truth.report.lines()), file=sys.stderr)
    if truth is not None and (lacking := truth.lacking(names_in(lists))):
        told = f"{counted(len(lacking), 'images')} of {len(lists.images)}, as {lacking[0]!r}"
        print(f"without annotations, as {args.coco} does not list them: {told}", file=sys.stderr)
    if args.exif == "auto" and (turned := tagged(lists, args.image_root)):
        told = f"{counted(len(turned), 'images')} of {len(lists.images)}, as {turned[0]!r}"
        print(
            f"with an EXIF orientation: {told}; they are turned as it says unless --coco tells otherwise: "
            "where the model was given them as stored, say --exif off",
            file=sys.stderr,
        )
    failed = import_lists(lists, args.image_root, args.out, truth, args.thumbnail, args.exif)
    print(f"imported: {args.out} ({counted(len(lists.images) - failed, 'images')})")
    if failed:
        print(
            f"{counted(failed, 'images')} could not be read; {args.out} lists them", file=sys.stderr
        )
    return 1 if failed else 0
