"""A backbone, network or training of an earlier commit beside today's: processor time in turn, profiles.

    python -m benchmarks.before_after 5ab49f9           writes results/before-after.json and .md
    python -m benchmarks.before_after bae1daa --presets svit-adapter-t --sparse --part network \\
        --detections 100 --dtype bfloat16 --out results/before-after-network

Both trees run in processes of their own, one thread, random weights of the same seed, and answer in turn
within each round, so that a drift of the machine meets both. Before counts only as far as the outputs
agree: the last column is their size before / after, of maps on average, of a network's masks and scores, of
a training the loss of its third step.
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
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from svit.speed import equal_work
from svit.system import files
from svit.system.text import table as markdown_table
from svit.system.timing import cpu_name

FIRST = "5ab49f9"  # the last commit before any work on speed
PARTS = ("backbone", "network", "training")
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
import contextlib, importlib.util, json, sys, time, torch
try:
    from svit import edit, load_config
    from svit.core.types import Target
except ImportError:  # commits without a face
    from svit.config import load_config
    from svit.recorder import edit
    from svit.types import Target
from svit.data.samples import Sample
from svit.detectors import build_detector

try:  # as the tree's own commands do
    from svit.system.allocator import keep_freed_memory
    keep_freed_memory()
except ImportError:
    pass
case = json.loads(sys.argv[1])
spec = importlib.util.spec_from_file_location("equal_work", case["equal_work"])
equal_work = importlib.util.module_from_spec(spec)
spec.loader.exec_module(equal_work)
torch.set_num_threads(1)
torch.manual_seed(0)
detector = build_detector(load_config(case["preset"], ["framework=torchvision"])).eval()
size = tuple(case["size"])
image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
sample = Sample(0, image[0], size)
network, training = case["part"] == "network", case["part"] == "training"
if training:
    detector.train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-4, fused=True)
    scenes = []
    for place in range(case["images"]):
        boxes, objects = equal_work.rectangles(size, seed=place)
        target = Target(boxes, (boxes[:, 0] * 0).astype("int64"), objects)
        picture = torch.randn(3, *size, generator=torch.Generator().manual_seed(place))
        scenes.append(Sample(place, picture, size, target))
half = torch.autocast("cpu", torch.bfloat16, enabled=case["dtype"] == "bfloat16")

def masks(layer, keep):  # all, or of every quarter of the blocks the paper's share, the same every time
    if not case["sparse"]:  # untrained gates would drop half of them
        return torch.ones_like(keep)
    share = 0.7 ** (layer * 4 // len(detector.backbone.blocks))
    order = torch.rand(keep.shape, generator=torch.Generator().manual_seed(layer)).argsort(dim=1)
    kept = torch.zeros(keep.shape, dtype=torch.bool)
    return kept.scatter(1, order[:, : round(share * keep.shape[1])], True)

def step():
    optimizer.zero_grad()
    with half:
        loss = sum(value.float() for value in detector(scenes).values())
    loss.backward()
    optimizer.step()
    return loss

def call():
    if training:
        return step()
    return detector.predict([sample]) if network else detector.backbone(image)

def timed():
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

def profile():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        call()
    return {row.key: row.self_cpu_time_total / 1e6 for row in profiler.key_averages()}

with contextlib.ExitStack() as stack:
    if not training and not case["preset"].startswith("vit-"):  # dense ones have no masks
        stack.enter_context(edit(detector, masks=masks))
    if network:
        stack.enter_context(equal_work.equal_work(detector, *case["boxes"]))
    if not training:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(half)
    found = [call() for _ in range(3 if training else 2)][-1]
    if training:
        size = float(found)
    elif network:
        size = float(sum(one.masks.sum() + one.scores.sum() for one in found))
    else:
        size = float(sum(level.double().abs().mean() for level in found.values()))
    print(json.dumps({"size": size}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"timed": timed, "profile": profile}[line.strip()]()), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """What is run in both trees.

    Attributes:
        sparse: random masks of the paper's ratios instead of all tokens; a step of training has its own.
        part: "backbone", "network" or "training"; networks work on `boxes` proposals and detections,
            a step of training on `images` pictures of noise with rectangles for objects.
        dtype, dtype_before: of today's tree and of the earlier one.
    """

    preset: str
    size: tuple[int, int]
    sparse: bool = False
    part: str = "backbone"
    dtype: str = "float32"
    boxes: tuple[int, int] = (1000, 100)
    dtype_before: str = "float32"
    images: int = 8

    @property
    def label(self) -> dict[str, str]:
        """Its columns in the table."""
        work = {"network": f", {self.boxes[1]} detections", "training": f", {self.images} images"}
        boxes = work.get(self.part, "")
        boxes += f" (before: {self.dtype_before})" * (self.dtype != self.dtype_before)
        masks = {"training": ""}.get(self.part, ", sparse" if self.sparse else ", dense")
        return {
            "preset": self.preset,
            "size": "x".join(map(str, self.size)),
            "what": f"{self.part}{masks}, {self.dtype}{boxes}",
        }


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

    def __init__(self, tree: Path, case: Case) -> None:
        told = json.dumps({**asdict(case), "equal_work": equal_work.__file__})
        words = [sys.executable, "-c", WORKER, told]
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


def measured(before: Path, case: Case, rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of every round, operators by class and size of the outputs, for before and after."""
    with ExitStack() as stack:
        trees = {"before": before, "after": ROOT}
        kinds = {"before": case.dtype_before, "after": case.dtype}
        workers = {
            name: stack.enter_context(Worker(tree, replace(case, dtype=kinds[name])))
            for name, tree in trees.items()
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
    where = ["preset", "size", "what"]
    head = [*where, "CPU s before", "CPU s after", "times as fast", "outputs"]
    rows, parts = [], []
    for case in cases:
        old, new = case["before"], case["after"]
        gain = np.quantile(np.array(old["cpu_s"]) / np.array(new["cpu_s"]), [0.25, 0.5, 0.75])
        medians = (f"{np.median(one['cpu_s']):.2f}" for one in (old, new))
        gained = f"{gain[1]:.2f} [{gain[0]:.2f}, {gain[2]:.2f}]"
        same = f"{old['output_size'] / new['output_size']:.5f}"
        rows.append([*(case[name] for name in where), *medians, gained, same])
        for kind in [*CLASSES, REST]:
            both = (f"{1000 * one['classes'][kind]:.0f}" for one in (old, new))
            parts.append([*(case[name] for name in where), kind, *both])
    lines = ["# Before and after the work on speed", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", markdown_table(head, rows), "", "## Profiles, milliseconds of a call", ""]
    lines += [markdown_table([*where, "operators", "before", "after"], parts), ""]
    return "\n".join(lines)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commit", nargs="?", default=FIRST, help=f"before ({FIRST})")
    parser.add_argument("--presets", nargs="+", default=PRESETS, help="of the backbone")
    parser.add_argument("--sizes", nargs="+", type=_size, default=[(640, 640)], metavar="HxW")
    parser.add_argument("--part", choices=PARTS, default="backbone")
    parser.add_argument("--sparse", action="store_true", help="masks of the paper's ratios")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--dtype-before", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--detections", type=int, default=100, help="of ten times as many proposals"
    )
    parser.add_argument("--images", type=int, default=8, help="of a step of training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "before-after")
    options = parser.parse_args(words)
    how = {"sparse": options.sparse, "part": options.part, "dtype": options.dtype}
    how |= {"dtype_before": options.dtype_before, "images": options.images}
    how["boxes"] = (10 * options.detections, options.detections)
    cases = []
    with checked_out(options.commit) as before:
        for preset, size in product(options.presets, options.sizes):
            case = Case(preset, size, **how)
            cases.append({**case.label, **measured(before, case, options.rounds)})
    facts = {
        "command": f"`python -m benchmarks.before_after {' '.join(words or sys.argv[1:])}`",
        "processor": f"{cpu_name()}, 1 thread",
        "rounds": options.rounds,
    }
    text = report(cases, facts)
    files.write_json(options.out.with_suffix(".json"), {**facts, "cases": cases}, indent=1)
    files.write_text(options.out.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
