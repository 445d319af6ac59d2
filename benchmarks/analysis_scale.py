"""How the analysis of a whole run scales: time and memory over generated runs of N images.

    python -m benchmarks.analysis_scale 500 5000 20000
    python -m benchmarks.analysis_scale --figures 5000

Generates runs as large as COCO val's (`benchmarks.generated_runs`), then measures each in a fresh
process. The first table: reactivation (Fig. 5a), the averaged usage map (Fig. 6) and keep ratios per
layer, from opening the run to the frames. The second: whole figures beyond the paper, most of which
read annotations, from opening the run to the four files. Wall seconds count what other processes take;
CPU seconds (all threads) do not. Memory is the largest resident size of the measuring process; runs
are made in processes of their own, because a child's peak begins at its parent's.
Writes `analysis-scale.json` and `analysis-scale.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import generated_runs as generated
from svit.runs.run import open_run
from svit.system.files import prepare_folder, write_text
from svit.system.text import table

RESULTS = Path(__file__).resolve().parents[1] / "results"
FIGURES = ("reactivation", "usage-map", "regions", "objectness", "misses", "complexity")
FIGURES += ("transitions", "lives", "compute")
PAIRED = ("overlap", "deltas")  # of two runs on the same images
MAKERS = {"masks": generated.write_masks, "everything": generated.write_everything}
LIMIT = {"seconds": 10, "mb": 1000}  # for 5,000 images, what the first table is held to

Numbers = dict[str, float]


def clocked(work: Callable[[], Any]) -> Numbers:
    """Wall and CPU seconds of some work, and this process's peak memory in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_paper(folder: Path) -> Numbers:
    """Fig. 5a, Fig. 6 and keep ratios per layer of a run, in this process."""
    from analysis.numbers import usage
    from analysis.numbers.run_counts import census

    def work() -> None:
        run = open_run(folder)
        counted = census(run)
        frame, values = counted.reactivation(), counted.mean_usage((50, 80))
        keep = usage.keep_frame(run.keep_counts(), run.targets)
        assert len(frame) == len(keep) == len(generated.TARGETS) and np.isfinite(values).all()

    return clocked(work)


def measure_figure(name: str, folders: list[str]) -> Numbers:
    """A figure by its command, in this process."""
    from analysis import render

    def work() -> None:
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(sys.stderr):
            if render.main([name, *folders, "--out", out]):
                raise SystemExit(f"{name} could not be drawn; see above")

    return clocked(work)


def apart(*words: object) -> Numbers:
    """A measurement in a fresh interpreter, whose memory is its own."""
    command = [sys.executable, "-m", "benchmarks.analysis_scale", "--child", *map(str, words)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def child(words: list[str]) -> Numbers:
    """What the process of `apart` does."""
    what, *rest = words
    if what in MAKERS:
        folder, images, *seed = rest
        return clocked(lambda: MAKERS[what](Path(folder), int(images), *map(int, seed)))
    return measure_paper(Path(rest[0])) if what == "paper" else measure_figure(what, rest)


def paper_rows(sizes: list[int], scratch: Path) -> list[Numbers]:
    """The first table, a row a size."""
    rows = []
    for images in sizes:
        folder = scratch / f"masks-{images}"
        if not folder.exists():
            apart("masks", folder, images)
        size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
        rows.append({"images": images, **apart("paper", folder), "disk_mb": size})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def figure_rows(images: int, scratch: Path) -> list[dict[str, Any]]:
    """The second table, a row a figure."""
    folders = [scratch / f"everything-{images}-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        if not folder.exists():
            apart("everything", folder, images, seed)
    rows = []
    for name in (*FIGURES, *PAIRED):
        numbers = apart(name, *(folders if name in PAIRED else folders[:1]))
        rows.append({"figure": name, "images": images, **numbers})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def environment() -> dict[str, Any]:
    """Where it was measured."""
    from svit.system.timing import cpu_name  # loads torch, whose memory is not the children's

    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pandas", "pyarrow")}
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **versions,
    }


def report(result: dict[str, Any]) -> str:
    """The Markdown page of a result."""
    place = result["environment"]
    words = ", ".join(f"{name} {place[name]}" for name in ("python", "numpy", "pandas", "pyarrow"))
    parts = [
        "# How the analysis scales",
        f"`python -m benchmarks.analysis_scale`: {place['cpu']}, {place['cores']} cores, load "
        f"{place['load_before']} before the start ({words}). Generated runs, 12 layers, up to 50 x "
        "84 tokens; each row in a fresh process. Wall seconds count what other processes took, CPU "
        "seconds (all threads) do not.",
    ]
    if result["paper"]:
        head = ["images", "seconds", "CPU seconds", "peak memory, MB", "run on disk, MB"]
        names = ("images", "seconds", "cpu_seconds", "peak_mb", "disk_mb")
        parts.append("## Fig. 5a, Fig. 6 and keep ratios per layer, from opening to the frames")
        parts.append(table(head, [[_text(row[name]) for name in names] for row in result["paper"]]))
        parts.append(
            f"Held to: 5,000 images under {LIMIT['seconds']} s and {LIMIT['mb']} MB on two cores."
        )
    if result["figures"]:
        head = ["figure", "images", "seconds", "CPU seconds", "peak memory, MB"]
        names = ("figure", "images", "seconds", "cpu_seconds", "peak_mb")
        parts.append("## Whole figures, from opening to the four files")
        rows = [[_text(row[name]) for name in names] for row in result["figures"]]
        parts.append(table(head, rows))
    return "\n\n".join(parts) + "\n"


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 or isinstance(value, int) else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=int, nargs="*", help="sizes (default 500 5000 20000)")
    parser.add_argument("--figures", type=int, default=5000, help="images of the second table")
    parser.add_argument("--scratch", type=Path, help="for the generated runs, which then stay")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the two files")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child)))
        return
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        scratch = options.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        result = {
            "paper": paper_rows(options.images or [500, 5000, 20000], scratch),
            "figures": figure_rows(options.figures, scratch) if options.figures else [],
            "environment": {"load_before": round(load, 1), **environment()},
        }
    prepare_folder(options.out)
    write_text(options.out / "analysis-scale.json", json.dumps(result, indent=1) + "\n")
    page = report(result)
    write_text(options.out / "analysis-scale.md", page)
    print(page)


if __name__ == "__main__":
    main()
