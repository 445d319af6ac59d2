"""How the analysis of a whole run scales: time and memory over generated runs of N images.

    python benchmarks/analysis_scale.py 500 5000 20000

Generates runs as large as COCO val's (12 layers, up to 50 x 84 tokens, wide and tall images in shards
of 64), then measures in a fresh process each: reactivation (Fig. 5a), the averaged usage map (Fig. 6)
and keep ratios per layer, from opening the run to the frames. Masks are random with structure: a
smooth field an image, thresholded at the layer's target, so that they compress and vary as real ones.
Prints a Markdown table; memory is the largest resident size of the measuring process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from svit.store import RunWriter, open_run
from svit.types import TokenGrid, TokenTrace

TARGETS = (*[1.0] * 3, *[0.7] * 3, *[0.49] * 3, *[0.343] * 3)
FIELDS = 32  # smooth fields that images draw from: generating is not what is measured
SIDES = ((800, 1066), (800, 1200), (800, 1333), (1066, 800), (800, 800), (750, 1333))


def grid_of(resized_hw: tuple[int, int]) -> TokenGrid:
    """The grid of an image of that size, padded to a multiple of 32 pixels."""
    return TokenGrid(resized_hw, resized_hw, tuple(-(-side // 32) * 2 for side in resized_hw))


def smooth_fields(rng: np.random.Generator, side: int = 96) -> np.ndarray:
    """float32 (FIELDS, side, side): noise averaged over 7 x 7 tokens, in units of its deviation."""
    noise = rng.normal(size=(FIELDS, side + 6, side + 6))
    windows = np.lib.stride_tricks.sliding_window_view(noise, (7, 7), axis=(1, 2))
    return (windows.mean(axis=(-1, -2)) * 7).astype(np.float32)


def trace_of(number: int, fields: np.ndarray, rng: np.random.Generator) -> TokenTrace:
    """An image whose layers agree in part: a field of its own and one a layer, mixed."""
    grid = grid_of(SIDES[number % len(SIDES)])
    rows, columns = grid.grid_hw
    own, *drift = fields[rng.integers(len(fields), size=len(TARGETS) + 1), :rows, :columns]
    keep = np.ones((len(TARGETS), rows, columns), bool)
    for layer, target in enumerate(TARGETS):
        if target < 1:
            score = own + 0.6 * drift[layer]
            keep[layer] = score > np.quantile(score[::4, ::4], 1 - target)
    return TokenTrace(number, grid, keep)


def generate(folder: Path, images: int) -> None:
    """Writes a run without pictures, scores or detections."""
    rng = np.random.default_rng(0)
    fields = smooth_fields(rng)
    with RunWriter(folder, {"targets": list(TARGETS), "method": "generated"}) as writer:
        for number in range(images):
            writer.add(trace_of(number, fields, rng))


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each part and peak memory in MB, in this process."""
    from analysis import metrics
    from analysis.census import census

    start = time.perf_counter()
    run = open_run(folder)
    counted = census(run)
    frame, values = counted.reactivation(), counted.mean_usage((50, 80))
    middle = time.perf_counter()
    keep = metrics.keep_frame(run.keep_counts(), run.targets)
    end = time.perf_counter()
    assert len(frame) == len(keep) == len(TARGETS) and np.isfinite(values).all()
    return {
        "reactivation and usage map, s": middle - start,
        "keep ratios, s": end - middle,
        "all, s": end - start,
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured_apart(folder: Path) -> dict[str, float]:
    """`measure` in a fresh interpreter, whose memory is its own."""
    command = [sys.executable, __file__, "--measure", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=int, nargs="*", default=[500, 5000, 20000])
    parser.add_argument("--folder", type=Path, help="for the generated runs (default: temporary)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for line, images in enumerate(options.images):
            folder = Path(scratch) / str(images)
            start = time.perf_counter()
            generate(folder, images)
            size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
            row = {"images": images, **measured_apart(folder), "run on disk, MB": size}
            row["generated in, s"] = time.perf_counter() - start
            if line == 0:
                print("| " + " | ".join(row) + " |\n|" + " --- |" * len(row))
            print("| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
