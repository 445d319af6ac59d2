"""Everything that a GPU should be asked, in one run of at most eight minutes and one file.

    python -m benchmarks.gpu --golden FOLDER             writes results/gpu.json and results/gpu.md
    python -m benchmarks.gpu --device cpu --tiny         the same with small models: a trial of this script

Sections in order of importance; one that the time left no longer holds is named and left out, and one that
fails is told and does not end the others: the official
numbers on the device, Table 5 as ratios over the dense model with fused and with written-out attention,
batches of 1 to 32, bfloat16, what recording adds, images a second in training. Speeds stand as ratios
within a round of one process, beside the paper's.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import ROOT
from benchmarks.golden_table import compare, expected_tensors
from benchmarks.golden_tensors import MAPS, Reference, padded_tensors
from svit.core.presets import load_config
from svit.core.types import Target
from svit.data.samples import Sample
from svit.detectors import build_detector
from svit.evaluation import provenance
from svit.speed.benchmark import benchmark
from svit.speed.benchmark_cases import Settings
from svit.speed.equal_work import rectangles
from svit.speed.report import overhead
from svit.system import files, timing
from svit.system.text import one_line
from svit.system.text import table as markdown_table
from svit.training.optimise import Precision, build_optimizer

MINUTES = 8.0
TABLE5 = ("vit", "evit-remove", "evovit", "ats-remove", "dynamicvit-preserve", "svit")
PRECISIONS = ("float32", "bfloat16")
FAILED = "failed"
CLAIMS = ROOT / "analysis" / "paper" / "claims.csv"


class NotGiven(Exception):
    """What a section needs was not named."""


@dataclass(frozen=True)
class Plan:
    """How large everything is.

    Attributes:
        sizes: preset's last letter(s) -> the paper's word for it.
        hw: height and width of Table 5's pictures.
        batches: of the sweep.
    """

    device: torch.device
    golden: Path | None
    sizes: dict[str, str]
    hw: tuple[int, int]
    square: tuple[int, int]
    batches: tuple[int, ...]
    rounds: int
    steps: int
    detections: int | None = None

    def measured(self, models: Sequence[str], **changed: Any) -> dict[str, pd.DataFrame]:
        """Tables of a benchmark at the paper's ratios on this device."""
        settings = {"sizes": (self.hw,), "rounds": self.rounds, "detections": self.detections}
        settings |= {"device": str(self.device), "framework": "torchvision"}
        return benchmark(Settings(tuple(models), **settings | changed))[1]


def plan(device: torch.device, golden: Path | None, tiny: bool) -> Plan:
    """The whole run, or a trial of it."""
    if tiny:
        sizes, batches = {"nano": "tiny"}, (1, 2)
        return Plan(device, golden, sizes, (64, 96), (64, 64), batches, 1, 1, detections=5)
    sizes = {"t": "tiny", "s": "small"}
    return Plan(device, golden, sizes, (800, 1344), (640, 640), (1, 2, 4, 8, 16, 32), 20, 10)


def golden(chosen: Plan) -> pd.DataFrame:
    """How far maps, proposals and detections on the device are from the official ones."""
    if chosen.golden is None:
        raise NotGiven("no --golden folder was given")
    reference, frames = Reference(chosen.golden), {}
    for model in ("vit-adapter-t", "svit-adapter-t"):
        official = reference.tensors(model)
        there = {name: values.to(chosen.device) for name, values in official.items()}
        detector = reference.detector(model, "torchvision").to(chosen.device)
        with torch.no_grad():
            maps = detector.backbone(there["image"])
        ours = {name: maps[key] for key, name in MAPS.items()} | padded_tensors(detector, there)
        ours = {name: values.cpu() for name, values in ours.items()}
        expected = expected_tensors(official)
        frames[model] = compare({name: expected[name] for name in ours if name in expected}, ours)
    return pd.concat(frames, names=["model", "tensor"]).reset_index()


def table5(chosen: Plan) -> pd.DataFrame:
    """Speed over the dense model, measured with both kernels of attention, beside the paper's."""
    rows = []
    for letter, word in chosen.sizes.items():
        models = [f"{name}-adapter-{letter}" for name in TABLE5]
        summary = chosen.measured(models, attention=("fused", "explicit"))["summary"]
        words = summary["variant"].str.split()
        summary = summary.assign(model=words.str[0], attention=words.str[-1])
        for (part, attention), group in summary.groupby(["part", "attention"], sort=False):
            dense = group.iloc[0]["wall_s_median"]  # of the same kernel
            rows += [
                {
                    "size": word,
                    "part": part,
                    "attention": attention,
                    "model": row.model,
                    "images_a_second": 1 / row.wall_s_median,
                    "speedup": dense / row.wall_s_median,
                    "paper": papers_speedup(row.model.split("-adapter-")[0], word, part),
                    "detections": row.detections,
                    "kept_share": row.kept_share,
                }
                for row in group.itertuples()
            ]
    return pd.DataFrame(rows)


def papers_speedup(row: str, size: str, part: str) -> float:
    """Images a second over the dense model's by Table 5; NaN where the paper has none."""
    claims = pd.read_csv(CLAIMS, dtype=str).set_index("id")["paper"]
    word = {"backbone": "backbone", "network": "whole"}[part]
    names = [f"t5.{name}.{size}.fps-{word}" for name in ({"vit": "dense"}.get(row, row), "dense")]
    own, dense = (pd.to_numeric(claims.get(name), errors="coerce") for name in names)
    return float(own / dense)


def batches(chosen: Plan) -> pd.DataFrame:
    """Dense and pruned backbones over the number of images a call."""
    pairs = [f"{name}-adapter-{next(iter(chosen.sizes))}" for name in ("vit", "svit")]
    rows = []
    for batch in chosen.batches:  # one after another: what no longer fits ends the section
        try:
            sizes = {"sizes": (chosen.square,), "batches": (batch,), "parts": ("backbone",)}
            summary = chosen.measured(pairs, **sizes)["summary"]
        except torch.OutOfMemoryError:
            if not rows:
                raise
            break
        rows.append(summary.assign(images_a_second=batch / summary["wall_s_median"]))
    columns = ["batch", "variant", "images_a_second", "speedup_median", "mac_limit", "peak_mb"]
    return pd.concat(rows)[columns]


def bfloat16(chosen: Plan) -> pd.DataFrame:
    """float32 and bfloat16 of the same models, seconds of a call and their ratio."""
    models = [f"svit-adapter-{letter}" for letter in chosen.sizes]
    found = {name: chosen.measured(models, dtype=name)["summary"] for name in PRECISIONS}
    table = found["float32"][["part", "variant"]].assign(
        **{name: found[name]["wall_s_median"] for name in PRECISIONS}
    )
    return table.assign(times_as_fast=table["float32"] / table["bfloat16"])


def recording(chosen: Plan) -> pd.DataFrame:
    """What recording adds to a call."""
    model = f"svit-adapter-{next(iter(chosen.sizes))}"
    return overhead(chosen.measured([model], parts=("backbone",), recording=True)["times"])


def training(chosen: Plan) -> pd.DataFrame:
    """Images a second of whole steps on made-up objects, dense and pruned, in either precision."""
    rows = []
    for letter in chosen.sizes:
        for name in ("vit", "svit"):
            for precision in PRECISIONS:
                seconds = step_seconds(chosen, f"{name}-adapter-{letter}", precision)
                row = {"model": f"{name}-adapter-{letter}", "precision": precision}
                rows.append(row | {"images_a_second": 2 / np.median(seconds)})
    return pd.DataFrame(rows)


def step_seconds(chosen: Plan, model: str, precision: str) -> list[float]:
    """Seconds of each step of two images."""
    config = load_config(model, ["framework=torchvision", f"train.precision={precision}"])
    detector = build_detector(config).to(chosen.device).train()
    optimizer = build_optimizer(detector, config.train)
    how, seconds = Precision(precision, chosen.device), []
    samples = [scene(place, chosen) for place in range(2)]
    for _ in range(2 + chosen.steps):
        timing.synchronise(chosen.device)
        begin = time.perf_counter()
        optimizer.zero_grad()
        losses = how.losses(detector, samples)
        sum(losses.values()).backward()
        optimizer.step()
        timing.synchronise(chosen.device)
        seconds.append(time.perf_counter() - begin)
    return seconds[2:]


def scene(place: int, chosen: Plan) -> Sample:
    """A picture of noise with rectangles for objects."""
    boxes, masks = rectangles(chosen.hw, seed=place)
    target = Target(boxes, np.zeros(len(boxes), np.int64), masks)
    image = torch.randn(3, *chosen.hw, generator=torch.Generator().manual_seed(place))
    return Sample(place, image.to(chosen.device), chosen.hw, target)


SECTIONS: dict[str, Callable[[Plan], pd.DataFrame]] = {
    "golden": golden,
    "table5": table5,
    "batches": batches,
    "bfloat16": bfloat16,
    "recording": recording,
    "training": training,
}


def sections(chosen: Plan, deadline: float) -> Iterator[tuple[str, pd.DataFrame | str, float]]:
    """Name, table (or why there is none) and seconds of each section."""
    for name, make in SECTIONS.items():
        begin = time.monotonic()
        if begin > deadline:
            yield name, "left out: the time was over", 0.0
            continue
        try:
            found: pd.DataFrame | str = make(chosen)
        except NotGiven as error:
            found = f"left out: {error}"
        except Exception as error:  # a machine is lent once: the other sections still have to run
            traceback.print_exc()
            found = f"{FAILED}: {type(error).__name__}: {one_line(str(error))}"
        yield name, found, time.monotonic() - begin


def main(words: Sequence[str] | None = None) -> int:
    """Runs all sections. Returns: the exit code, 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--golden", type=Path, help="folder of official numbers")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no section begins later")
    parser.add_argument("--tiny", action="store_true", help="small models, one round: a trial")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    options = parser.parse_args(words)
    if options.device.type == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"--device: expected a GPU, found none that torch {torch.__version__} can use; "
            "`--device cpu --tiny` tries the script"
        )
    torch.backends.cudnn.allow_tf32 = False  # as products: float32 is float32
    facts = timing.machine(options.device) | {"commit": provenance.commit()}
    result: dict[str, Any] = {"environment": facts, "seconds": {}}
    lines = ["# On a GPU", "", *(f"- {name}: {value}" for name, value in facts.items())]
    chosen = plan(options.device, options.golden, options.tiny)
    for name, found, seconds in sections(chosen, time.monotonic() + 60 * options.minutes):
        shown = found if isinstance(found, str) else _markdown(found)
        rows = found if isinstance(found, str) else found.astype(object).where(found.notna(), None)
        result[name] = rows if isinstance(rows, str) else rows.to_dict(orient="records")
        result["seconds"][name] = seconds
        lines += ["", f"## {name.capitalize()} ({seconds:.0f} s)", "", shown]
        # after every section, so that a machine that is taken away leaves what there is
        files.write_json(options.out.with_suffix(".json"), files.plain_json(result), indent=1)
        files.write_text(options.out.with_suffix(".md"), "\n".join([*lines, ""]))
        print(f"{name}: {seconds:.0f} s", flush=True)
    return int(any(str(result[name]).startswith(FAILED) for name in SECTIONS))


def _markdown(found: pd.DataFrame) -> str:
    cells = found.astype(object).map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    return markdown_table(list(found.columns), cells.to_numpy().tolist())


if __name__ == "__main__":
    raise SystemExit(main())
