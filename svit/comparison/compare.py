"""`svit compare`: every method of the paper from the same dense weights, with one recipe and one budget.

    svit compare --dataset runs/shapes --init dense.safetensors --out runs/comparison

Each row (and seed) has a folder of its own:

    OUT/table.md                       the finished rows of this call
    OUT/ROW-seedK/plan.json            settings; what goes on there must have the same
    OUT/ROW-seedK/training/            of `svit train`; its checkpoints go once the row is trained
    OUT/ROW-seedK/ROW-seedK.safetensors    the trained row, ATS with calibrated levels
    OUT/ROW-seedK/run/                 the learned masks, recorded
    OUT/ROW-seedK/LINE/summary.json    an evaluation; lines are learned, random, shuffle, oracle, off
    OUT/ROW-seedK/row.json             written last: what it was, and its numbers

The same command goes on after a kill: finished rows are passed over, a training resumes from its
checkpoint, an evaluation from what it recorded. A row that fails (a loss that is no longer finite)
leaves `failed.txt` and the next one begins.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from svit.comparison.pace import in_words, measure
from svit.comparison.plan import CHANGED, NAMES, CompareError, Job, chosen, jobs, plan_text
from svit.comparison.row import FAILED, ROW, Setting, check, run_row, state_of
from svit.core.catalogue import ROWS
from svit.core.config import load_config
from svit.detectors import build_detector
from svit.system import processes
from svit.system import text as markdown
from svit.system.files import write_text
from svit.system.processes import INTERRUPTED, LaunchError
from svit.training.train import TrainError
from svit.weights import checkpoint

START, TABLE = "start.safetensors", "table.md"
HEADINGS = (
    *("row", "seed", "box AP", "mask AP", "box − dense", "mask − dense"),
    *(f"learned − {name}" for name in CHANGED),
    *("keep, gated layers", "GMACs backbone"),
)
log = logging.getLogger("svit.training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="DIR|coco",
        help="folder in COCO's layout with train and val (as `svit dataset shapes` writes), or coco: "
        "found by DETECTRON2_DATASETS",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="dense weights all rows start from"
    )
    parser.add_argument("--rows", default="", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--seeds", default="0", help="of the trainings, as 0,1 (default 0)")
    parser.add_argument("--size", default="nano", choices=("nano", "t", "s"))
    parser.add_argument("--neck", default="plain", choices=("plain", "adapter"))
    parser.add_argument("--steps", type=int, metavar="N", help="of each training (default: recipe)")
    parser.add_argument("--images", type=int, metavar="N", help="evaluate on the first N only")
    parser.add_argument(
        "--calibrate-on",
        type=int,
        default=100,
        metavar="N",
        help="training images rates are fitted on",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="rows at once, each on one thread"
    )
    parser.add_argument("--workers", type=int, default=0, help="reading processes (default 0)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    processes.add_arguments(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of every row, as train.precision=float32"
    )


def run(args: argparse.Namespace) -> int:
    """`svit compare`. Returns: 0; 1 if a row failed; 130 after a signal (the rest is saved)."""
    for name in ("steps", "images", "calibrate_on", "jobs"):
        if (value := getattr(args, name)) is not None and value < 1:
            option = name.replace("_", "-")
            raise CompareError(f"--{option}: expected at least 1, found {value}")
    if args.init is not None and not args.init.is_file():
        raise CompareError(f"--init: no file {args.init}")
    rows = chosen([name for name in args.rows.split(",") if name])
    planned = jobs(rows, _seeds(args.seeds), args.neck, args.size, args.overrides, args.steps)
    setting = _setting(args)
    check(planned, setting)
    if args.dry_run:
        _tell(planned, setting, args)
        return 0
    _prepare_start(args)
    left = [job for job in planned if not (args.out / job.name / ROW).exists()]
    print(f"{len(planned) - len(left)} of {len(planned)} rows are finished already")
    code = _side_by_side(left, args) if args.jobs > 1 else _one_by_one(left, args)
    text = overview(planned, args.out)
    print(text, end="")
    write_text(args.out / TABLE, text)
    return code


def _tell(planned: Sequence[Job], setting: Setting, args: argparse.Namespace) -> None:
    """Prints the plan and how long what is left of it would take here."""
    train_set, val_set = setting.data(planned[0].config)
    images = len(train_set), setting.looked_at(val_set)
    print(plan_text(planned, [state_of(job, args.out) for job in planned], *images))
    left = [job for job in planned if not (args.out / job.name / ROW).exists()]
    if left:
        pace = measure(left[0], setting, _device(args))
        print(
            f"left: {len(left)} rows, about {in_words(pace.seconds(left, *images))} one after another "
            f"at {left[0].row.name}'s pace, timed just now: {1000 * pace.training:.0f} ms a training "
            f"view, {1000 * pace.evaluation:.0f} ms an evaluation view"
        )


def _device(args: argparse.Namespace) -> str:
    return args.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _setting(args: argparse.Namespace) -> Setting:
    start = args.init or args.out / START
    fields = (args.images, args.calibrate_on, args.workers)
    return Setting(args.out, args.dataset, start, *fields)


def _prepare_start(args: argparse.Namespace, seed: int = 0) -> None:
    """Without --init: random dense weights, the same for all rows."""
    if args.init is not None:
        return
    path = args.out / START
    if not path.exists():
        dense = next(row for row in ROWS if row.method == "dense")
        torch.manual_seed(seed)
        detector = build_detector(load_config(dense.preset(args.neck, args.size), args.overrides))
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, detector)


def overview(planned: Sequence[Job], out: Path) -> str:
    """Finished rows as Markdown: AP, AP minus that of the dense control of the same seed, and what the
    learned masks are worth over other masks of the same trained row (box AP points)."""
    done = {job.name: out / job.name / ROW for job in planned}
    found = {name: json.loads(path.read_text()) for name, path in done.items() if path.exists()}
    rows = [_cells(row, found.get(f"dense-seed{row['seed']}")) for row in found.values()]
    return markdown.table(HEADINGS, rows) + "\n"


def _cells(row: dict[str, Any], dense: dict[str, Any] | None) -> list[str]:
    learned, others = row["lines"]["learned"], row["lines"]
    box, mask = learned["box_AP"], learned["mask_AP"]
    control = None if dense is None else dense["lines"]["learned"]
    gaps = ["–", "–"]
    if control is not None:
        gaps = [f"{box - control['box_AP']:+.1f}", f"{mask - control['mask_AP']:+.1f}"]
    worth = [f"{box - others[name]['box_AP']:+.1f}" if name in others else "–" for name in CHANGED]
    compute = [f"{learned['keep_ratio']:.3f}", f"{learned['macs_backbone'] / 1e9:.3f}"]
    return [row["row"], str(row["seed"]), f"{box:.1f}", f"{mask:.1f}", *gaps, *worth, *compute]


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise CompareError(f"--seeds: expected whole numbers as 0,1, found {text!r}") from error


def _one_by_one(planned: Sequence[Job], args: argparse.Namespace) -> int:
    failed = 0
    for job in planned:
        try:
            layout = processes.Layout(
                args.processes, args.num_machines, args.machine_rank, args.dist_url
            )
            code = processes.launch(_run, argparse.Namespace(**vars(args), job=job), layout)
        except (TrainError, LaunchError) as error:
            folder = args.out / job.name
            folder.mkdir(parents=True, exist_ok=True)  # the row may have failed before it made it
            write_text(folder / FAILED, f"{error}\n")
            print(f"{job.name} failed: {error}", file=sys.stderr)
            failed += 1
            continue
        if code:
            return code
    return 1 if failed else 0


def _run(args: argparse.Namespace) -> int:
    """One row in this process (one of several with --processes)."""
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    with processes.joined(_device(args)) as ranks, logging_redirect_tqdm():
        return 0 if run_row(args.job, _setting(args), ranks) else INTERRUPTED


def _side_by_side(planned: Sequence[Job], args: argparse.Namespace) -> int:
    """Each row as a command of its own, so many at once; signals are handed on."""
    waiting, running, codes = list(planned), [], []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def forward(number: int, frame: object) -> None:
        waiting.clear()
        codes.append(INTERRUPTED)
        for process in running:
            process.terminate()

    with processes.handling(forward):
        while waiting or running:
            while waiting and len(running) < args.jobs:
                words = command(waiting.pop(0), args)
                # what it says of its progress stays; its table is a part of the one printed here
                quiet = {"stdout": subprocess.DEVNULL, "env": environment}
                running.append(subprocess.Popen(words, **quiet))
            time.sleep(0.2)
            codes += [process.returncode for process in running if process.poll() is not None]
            running[:] = [process for process in running if process.returncode is None]
    return INTERRUPTED if INTERRUPTED in codes else int(any(codes))


def command(job: Job, args: argparse.Namespace) -> list[str]:
    """The command line that makes one row alone."""
    words = [sys.executable, "-m", "svit", "compare", "--dataset", args.dataset]
    words += ["--out", str(args.out), "--rows", job.row.name, "--seeds", str(job.seed)]
    words += ["--size", args.size, "--neck", args.neck, "--workers", str(args.workers)]
    words += ["--calibrate-on", str(args.calibrate_on)]
    for name in ("init", "steps", "images", "device"):
        value = getattr(args, name)
        words += [] if value is None else [f"--{name}", str(value)]
    return [*words, *args.overrides]
