"""`svit export`: a run for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from svit.cli.options import kinds
from svit.exchange.coco_files import coco
from svit.exchange.exports import Write
from svit.exchange.fiftyone_folder import fiftyone
from svit.exchange.rerun_file import rerun_log
from svit.runs.head import folder_at
from svit.runs.run import Run, open_run
from svit.system.claims import claim
from svit.system.files import prepare_folder

FORMATS: dict[str, Callable[[Run], Write]] = {
    "fiftyone": fiftyone,
    "coco": coco,
    "rerun": rerun_log,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit export`."""
    parser.add_argument("run", type=folder_at, metavar="RUN", help="a recorded run's folder")
    parser.add_argument(
        "--to",
        required=True,
        choices=FORMATS,
        help="fiftyone: a folder that it imports, a heatmap a block; coco: detections and annotations as "
        "json; rerun: a recording for its viewer (needs rerun-sdk)",
    )
    parser.add_argument("--out", type=kinds.place, required=True, help="folder to write")
    parser.add_argument(
        "--skip-corrupt", action="store_true", help="leave out damaged parts of the run"
    )


def run(args: argparse.Namespace) -> int:
    """`svit export`. Returns: the exit code.

    Raises:
        ExportError: the run lacks what the format needs.
        FileError: the folder holds something else, or cannot be written.
    """
    source = open_run(args.run, skip_corrupt=args.skip_corrupt)
    write = FORMATS[args.to](source)  # what it refuses leaves nothing behind
    prepare_folder(args.out)
    facts = {"to": args.to, "run": source.path.resolve().name, "created": source.created}
    claim(args.out / "export.json", facts, what="export")
    for path in write(args.out):
        print(f"written: {path}")
    return 0
