"""The dense backbone of an earlier commit beside today's: processor time in turn, and a profile of each.

    python -m benchmarks.before_after 5ab49f9           writes results/before-after.json and .md
    python -m benchmarks.before_after HEAD~3 --presets vit-adapter-t --sizes 640x640 --rounds 3

Both trees run in processes of their own, one thread, random weights of the same seed, and answer in turn
within each round, so that a drift of the machine meets both. Before counts only as far as the outputs
agree: the last column is the mean size of the outputs before / after.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from svit.system import files
from svit.system.text import table as markdown_table
from svit.system.timing import cpu_name

FIRST = "5ab49f9"  # the last commit before any work on speed
PRESETS = ("vit-adapter-t", "vit-adapter-s")
CLASSES = {  # what torch's profiler calls operators -> what they are; the first that fits counts
    "sampling": ("grid_sampler", "embedding_bag"),
    "attention": ("scaled_dot_product", "softmax"),
    "convolutions": ("convolution",),
    "matrix products": ("mm", "linear"),
    "normalisation": ("layer_norm", "batch_norm"),
    "activations": ("gelu", "relu", "sigmoid"),
    "copies, indexing": ("copy", "cat", "index", "gather", "scatter", "clone", "stack", "fill"),
    "interpolation": ("upsample",),
    "arithmetic by element": ("add", "mul", "sub", "div", "sum", "where", "lt", "ge", "floor"),
}
REST = "all else"
WORKER = """
import json, sys, time, torch
from svit.core.config import load_config
from svit.detectors import build_detector
torch.set_num_threads(1)
torch.manual_seed(0)
preset, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
backbone = build_detector(load_config(preset)).eval().backbone
image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))

def timed():
    wall, cpu = time.perf_counter(), time.process_time()
    backbone(image)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

def profile():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        backbone(image)
    return {row.key: row.self_cpu_time_total / 1e6 for row in profiler.key_averages()}

with torch.inference_mode():
    outputs = [backbone(image) for _ in range(2)][-1]
    size = float(sum(level.double().abs().mean() for level in outputs.values()))
    print(json.dumps({"size": size}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"timed": timed, "profile": profile}[line.strip()]()), flush=True)
"""


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of a commit in a folder that goes away.

    Raises:
        ValueError: this is no checkout, or it has no such commit.
    """
    words = ["git", "-C", str(ROOT), "archive", commit, "svit"]
    found = subprocess.run(words, capture_output=True, check=False)
    if found.returncode:
        raise ValueError(f"no tree of {commit} in {ROOT}: {found.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


class Worker:
    """A process that runs the backbone of one tree when it is asked to."""

    def __init__(self, tree: Path, preset: str, size: tuple[int, int]) -> None:
        words = [sys.executable, "-c", WORKER, preset, *map(str, size)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        place = {"cwd": tree, "env": {**os.environ, "PYTHONPATH": str(tree)}}
        self._process = subprocess.Popen(words, **pipes, **place)
        self.output_size = self._answer()["size"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def ask(self, what: str) -> dict[str, float]:
        """`timed`: seconds of a call; `profile`: seconds of every operator of a call."""
        print(what, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a tree's process ended early; its error stands above")
        return json.loads(line)


def measured(
    before: Path, preset: str, size: tuple[int, int], rounds: int
) -> dict[str, dict[str, Any]]:
    """Seconds of every round, operators by class and size of the outputs, for before and after."""
    with ExitStack() as stack:
        trees = {"before": before, "after": ROOT}
        workers = {
            name: stack.enter_context(Worker(tree, preset, size)) for name, tree in trees.items()
        }
        turns = [{name: one.ask("timed") for name, one in workers.items()} for _ in range(rounds)]
        return {
            name: {
                "wall_s": [turn[name]["wall_s"] for turn in turns],
                "cpu_s": [turn[name]["cpu_s"] for turn in turns],
                "classes": by_class(one.ask("profile")),
                "output_size": one.output_size,
            }
            for name, one in workers.items()
        }


def by_class(operators: dict[str, float]) -> dict[str, float]:
    """Seconds by `CLASSES`, the rest in one."""
    seconds = dict.fromkeys([*CLASSES, REST], 0.0)
    for name, own in operators.items():
        fits = (kind for kind, words in CLASSES.items() if any(word in name for word in words))
        seconds[next(fits, REST)] += own
    return seconds


def report(cases: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Both tables in Markdown."""
    head = ["preset", "size", "CPU s before", "CPU s after", "times as fast", "outputs"]
    rows, parts = [], []
    for case in cases:
        old, new = case["before"], case["after"]
        gain = np.quantile(np.array(old["cpu_s"]) / np.array(new["cpu_s"]), [0.25, 0.5, 0.75])
        medians = (f"{np.median(one['cpu_s']):.2f}" for one in (old, new))
        gained = f"{gain[1]:.2f} [{gain[0]:.2f}, {gain[2]:.2f}]"
        same = f"{old['output_size'] / new['output_size']:.5f}"
        rows.append([case["preset"], case["size"], *medians, gained, same])
        for kind in [*CLASSES, REST]:
            both = (f"{1000 * one['classes'][kind]:.0f}" for one in (old, new))
            parts.append([case["preset"], case["size"], kind, *both])
    lines = ["# The dense backbone before and after the work on speed", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", markdown_table(head, rows), "", "## Profiles, milliseconds of a call", ""]
    lines += [markdown_table(["preset", "size", "operators", "before", "after"], parts), ""]
    return "\n".join(lines)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commit", nargs="?", default=FIRST, help=f"before ({FIRST})")
    parser.add_argument("--presets", nargs="+", default=PRESETS, help="of the backbone")
    parser.add_argument("--sizes", nargs="+", type=_size, default=[(640, 640)], metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "before-after")
    options = parser.parse_args(words)
    cases = []
    with checked_out(options.commit) as before:
        for preset in options.presets:
            for size in options.sizes:
                case = {"preset": preset, "size": "x".join(map(str, size))}
                cases.append({**case, **measured(before, preset, size, options.rounds)})
    facts = {
        "command": f"`python -m benchmarks.before_after {options.commit}`",
        "processor": f"{cpu_name()}, 1 thread",
        "rounds": options.rounds,
    }
    text = report(cases, facts)
    files.write_json(options.out.with_suffix(".json"), {**facts, "cases": cases}, indent=1)
    files.write_text(options.out.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
