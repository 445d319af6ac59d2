"""`svit compare`: what is compared, where it starts and how much of it runs at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from svit.cli.options import kinds
from svit.cli.options import processes as process_options
from svit.cli.options.data import add_class_map, add_exif
from svit.cli.options.scoring import add_counted
from svit.comparison.compare import START, TABLE, make, prepare_start, time_left
from svit.comparison.overview import overview
from svit.comparison.plan import NAMES, CompareError, chosen, jobs, plan_text
from svit.comparison.row import Setting, check, state_of
from svit.data.classes import read_class_map
from svit.system.files import write_text
from svit.system.text import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit compare`."""
    _add_data(parser)
    _add_plan(parser)
    _add_work(parser)
    process_options.add_training_arguments(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of every row, as train.precision=float32"
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="DIR|coco",
        help="folder in COCO's layout with train and val (as `svit dataset shapes` writes), or coco: "
        "found by DETECTRON2_DATASETS",
    )
    add_exif(parser)
    add_class_map(parser)
    parser.add_argument("--out", type=kinds.place, required=True, metavar="DIR")
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="dense weights all rows start from"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows",
        type=kinds.listed(),
        default=(),
        help=f"of {', '.join(NAMES)} (default: all but those of videos)",
    )
    parser.add_argument(
        "--seeds",
        type=kinds.listed(kinds.seed),
        default=(0,),
        help="of the trainings, as 0,1 (default 0)",
    )
    parser.add_argument("--size", default="nano", choices=("nano", "fine", "nuclei", "t", "s"))
    parser.add_argument("--neck", default="plain", choices=("plain", "adapter"))
    parser.add_argument(
        "--steps", type=kinds.count, metavar="N", help="of each training (default: recipe)"
    )
    parser.add_argument(
        "--images", type=kinds.count, metavar="N", help="evaluate on the first N only"
    )
    parser.add_argument(
        "--calibrate-on",
        type=kinds.count,
        default=100,
        metavar="N",
        help="training images rates are fitted on",
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--boundary",
        action="store_true",
        help="also give the AP of mask boundaries, where no row is finished without it",
    )
    add_counted(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument(
        "--jobs",
        type=kinds.at_once,
        default=1,
        metavar="N",
        help="rows at once, each on one thread",
    )


def run(args: argparse.Namespace) -> int:
    """`svit compare`. Returns: 0; 1 if a row failed; 130 after a signal (the rest is saved)."""
    if args.init is not None and not args.init.is_file():
        raise CompareError(f"--init: no file {args.init}")
    planned = jobs(chosen(args.rows), args.seeds, args.neck, args.size, args.overrides, args.steps)
    setting = Setting(
        args.out,
        args.dataset,
        args.init or args.out / START,
        args.images,
        args.calibrate_on,
        args.workers,
        args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        args.exif,
        read_class_map(args.class_map),
        args.boundary,
        args.max_detections,
    )
    for line in check(planned, setting):
        print(line, file=sys.stderr)
    if args.dry_run:
        train_set, val_set = setting.data(planned[0].config)
        states = [state_of(job, args.out) for job in planned]
        print(plan_text(planned, states, len(train_set), setting.looked_at(val_set)))
        print(time_left(planned, args.out))
        return 0
    if args.init is None:
        prepare_start(setting.start, args.neck, args.size, args.overrides)
    code = make(planned, setting, process_options.layout(args), args.jobs)
    text = overview(planned, args.out)
    if text:
        print(shown(text), end="")
        write_text(args.out / TABLE, text)
    return code
