"""`svit compare`: every method of the paper from the same dense weights, with one recipe and one budget.

    svit compare --dataset runs/shapes --init dense.safetensors --out runs/comparison

Each row (and seed) has a folder of its own:

    OUT/table.md                       the finished rows
    OUT/ROW-seedK/plan.json            settings; what goes on there must have the same
    OUT/ROW-seedK/training/            of `svit train`; its checkpoints go once the row is trained
    OUT/ROW-seedK/ROW-seedK.safetensors    the trained row, ATS with calibrated levels
    OUT/ROW-seedK/run/                 the learned masks, recorded
    OUT/ROW-seedK/LINE/summary.json    an evaluation; lines are learned, random, shuffle, oracle, centre, off
    OUT/ROW-seedK/row.json             written last: what it was, and its numbers

The same command goes on after a kill: finished rows are passed over, a training resumes from its
checkpoint, an evaluation from what it recorded. A row that fails (a loss that is no longer finite)
leaves `failed.txt` and the next one begins.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from svit.comparison.overview import finished
from svit.comparison.plan import CompareError, Job
from svit.comparison.row import FAILED, ROW, Setting, run_row
from svit.core.catalogue import ROWS
from svit.core.presets import load_config
from svit.detectors import build_detector
from svit.system.allocator import keep_freed_memory
from svit.system.files import write_text
from svit.system.processes import LaunchError, Layout, joined, launch
from svit.system.signals import INTERRUPTED, handling, interrupting
from svit.training.train import TrainError
from svit.weights import checkpoint

START, TABLE = "start.safetensors", "table.md"
TRAINED = 3  # forwards that a training view costs: its own, and the gradient's of about two
log = logging.getLogger("svit.training")


def make(planned: Sequence[Job], setting: Setting, layout: Layout, at_once: int = 1) -> int:
    """Makes the rows that are not finished yet, and tells how long the rest takes after each.

    A row that fails leaves a note (`FAILED`), and the next one begins.

    Args:
        layout: processes that share one row.
        at_once: rows at the same time, each in a process of its own on one thread.

    Returns:
        0; 1 if a row failed; 130 after a signal (what was begun is saved).

    Raises:
        CompareError: rows at once on several machines; the folder belongs to another comparison.
    """
    if at_once > 1 and (layout.machines > 1 or "WORLD_SIZE" in os.environ):
        raise CompareError("--jobs shares one machine out among rows: use it without torchrun")
    left = unfinished(planned, setting.out)
    print(f"{len(planned) - len(left)} of {len(planned)} rows are finished already")
    if at_once > 1:
        return _side_by_side(planned, setting, layout, at_once)
    codes = [0]
    for job in left:
        codes.append(_made(job, setting, layout))
        if codes[-1] == INTERRUPTED:
            break
        print(time_left(planned, setting.out))
    return max(codes)


def _made(job: Job, setting: Setting, layout: Layout) -> int:
    try:
        with interrupting():
            return launch(_row, (job, setting), layout)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (TrainError, LaunchError) as error:
        return _failed(job, setting.out, str(error))


def _row(task: tuple[Job, Setting]) -> int:
    """One row in this process (one of several that share it)."""
    job, setting = task
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    with joined(setting.device) as ranks, logging_redirect_tqdm():
        return 0 if run_row(job, setting, ranks) else INTERRUPTED


def _failed(job: Job, out: Path, why: str) -> int:
    folder = out / job.name
    folder.mkdir(parents=True, exist_ok=True)  # the row may have failed before it made it
    write_text(folder / FAILED, f"{why}\n")
    print(f"{job.name} failed: {why}", file=sys.stderr)
    return 1


def _side_by_side(planned: Sequence[Job], setting: Setting, layout: Layout, at_once: int) -> int:
    """So many rows at a time, each in a pool of its own: one that is killed takes no other along."""
    begun: dict[Future[int], Job] = {}
    stopped: list[int] = []

    def hand_on(number: int, frame: object = None) -> None:
        stopped.append(number)
        for process in active_children():
            process.terminate()

    with handling(hand_on):
        for job in unfinished(planned, setting.out):
            running = [row for row in begun if not row.done()]
            if len(running) == at_once:
                wait(running, return_when=FIRST_COMPLETED)
                print(time_left(planned, setting.out))
            if stopped:
                break
            begun[_apart(job, setting, layout)] = job
            if stopped:  # while the process was not yet one to be handed a signal
                hand_on(stopped[0])
        wait(begun)
    if stopped:
        return INTERRUPTED
    return max((_ended(row, job, setting.out) for row, job in begun.items()), default=0)


def _apart(job: Job, setting: Setting, layout: Layout) -> Future[int]:
    """A row begun in a process of its own."""
    pool = ProcessPoolExecutor(1, get_context("spawn"), _settle)
    row = pool.submit(_made, job, setting, layout)
    pool.shutdown(wait=False)  # once the row has ended
    return row


def _settle() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def _ended(row: Future[int], job: Job, out: Path) -> int:
    try:
        return row.result()
    except BrokenProcessPool:
        return _failed(job, out, "its process was killed; out of memory is the usual reason")


def unfinished(planned: Sequence[Job], out: Path) -> list[Job]:
    """The rows that are still to be made."""
    return [job for job in planned if not (out / job.name / ROW).exists()]


def time_left(planned: Sequence[Job], out: Path) -> str:
    """How many rows are left, and how long they take at the pace of the slowest finished one.

    The slowest, because the time of a row that was interrupted is only that of its last call.
    """
    left, done = unfinished(planned, out), finished(planned, out)
    words = f"left: {len(left)} rows"
    if not left:
        return words
    if not done:
        return f"{words}; how long they take is unknown until the first one is done"
    one = next(iter(done.values()))  # all train on and are measured by as many images
    costs = {
        job.name: TRAINED * one["views"] + job.evaluation_views(one["images"]) for job in planned
    }
    pace = max(row["seconds_of_this_call"] / costs[name] for name, row in done.items())
    whole = in_words(pace * sum(costs[job.name] for job in left))
    return f"{words}, about {whole} one after another at the pace of the slowest so far"


def in_words(seconds: float) -> str:
    """Minutes below two hours, hours from there on."""
    minutes = seconds / 60
    return f"{minutes / 60:.1f} hours" if minutes > 120 else f"{max(1, round(minutes))} minutes"


def prepare_start(
    path: Path, neck: str, size: str, overrides: Sequence[str] = (), seed: int = 0
) -> None:
    """Writes random dense weights that all rows start from, unless they are there."""
    if not path.exists():
        dense = next(row for row in ROWS if row.method == "dense")
        torch.manual_seed(seed)
        detector = build_detector(load_config(dense.preset(neck, size), overrides))
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, detector)
