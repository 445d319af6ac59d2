"""`svit demo`: the whole way from data to pictures with the models that ship in `demo/`.

Draws a small set of scenes, evaluates and records the dense and the sparse nano model on it, and renders the
first figures. Everything it makes goes below one folder and is gone on with after an interruption.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from svit.cli.options import kinds
from svit.data.coco import CocoDataset
from svit.data.shapes import write_dataset
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.summary import result_table
from svit.system.files import write_text
from svit.system.home import home
from svit.weights.loading import load_detector

MODELS = ("vit-plain-nano", "svit-plain-nano")
HELD_OUT = 5_000_000  # scenes from this seed on were never trained on (demo/README.md)
FIGURES = ("heatmap", "layers", "reactivation")

log = logging.getLogger(__name__)


class DemoError(RuntimeError):
    """The shipped models are not where they belong."""


def demo(out: Path, images: int, pictures: int, framework: str = "auto") -> list[Path]:
    """Evaluates, records and renders the shipped models on fresh scenes.

    Args:
        out: folder for data, results, runs and pictures.
        images: scenes to evaluate on.
        pictures: scenes that are drawn, the first ones.
        framework: auto, torchvision or detectron2.

    Returns: the picture and table files written.

    Raises:
        DemoError: a shipped model is missing.
    """
    missing = [name for name in MODELS if not weights_of(name).is_file()]
    if missing:
        raise DemoError(f"{home() / 'demo'} lacks {', '.join(missing)}")
    data = out / "shapes"
    write_dataset(data, train=0, val=images, seed=HELD_OUT)
    summaries, written = [], []
    for name in MODELS:
        detector = load_detector(weights_of(name), framework).eval()
        dataset = CocoDataset(
            data / "annotations" / "instances_val2017.json",
            data / "val2017",
            detector.config.data,
            class_names=detector.class_names,
        )
        record = out / "runs" / name
        log.info("%s on %s: %d scenes", name, detector.framework, images)
        summary = evaluate(
            detector,
            dataset,
            out / "results" / name,
            scoring=Scoring(record=record),
            weights=f"{name}.safetensors",
        )
        summaries.append(summary)
        if detector.backbone.method.target_ratios() != [1.0] * detector.backbone.config.depth:
            written += _pictures(record, dataset.image_ids[:pictures], out / "figures" / name)
    table = result_table(summaries)
    write_text(out / "results" / "table.md", table + "\n")
    print(table)
    return [out / "results" / "table.md", *written]


def weights_of(name: str) -> Path:
    """The shipped checkpoint of a model in `MODELS`."""
    return home() / "demo" / f"{name}.safetensors"


def _pictures(run: Path, image_ids: list[int], out: Path) -> list[Path]:
    """Renders the first figures of a run by the command a user would give."""
    for figure in FIGURES:
        chosen = [f"--image={image_id}" for image_id in image_ids]
        options = [] if figure == "reactivation" else chosen
        command = [sys.executable, "-m", "analysis.render", figure, str(run), "--out", str(out)]
        if subprocess.run([*command, *options], stdout=subprocess.DEVNULL, check=False).returncode:
            raise DemoError(f"the figure {figure!r} of {run} could not be drawn; see above")
    return sorted(out.glob("*.png"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit demo`."""
    parser.add_argument(
        "--out", type=kinds.place, default=Path("runs/demo"), help="default runs/demo"
    )
    parser.add_argument(
        "--images", type=kinds.count, default=100, help="scenes to evaluate (default 100)"
    )
    parser.add_argument(
        "--pictures", type=kinds.count_or_none, default=8, help="scenes to draw (default 8)"
    )
    parser.add_argument("--framework", default="auto", help="auto, torchvision or detectron2")


def run(args: argparse.Namespace) -> int:
    """`svit demo`. Returns: the exit code.

    Raises:
        DemoError: a bundled model is missing, or a figure could not be drawn.
    """
    for path in demo(args.out, args.images, args.pictures, args.framework):
        print(f"wrote {path}")
    print(f"open the recorded runs:  svit app --runs {args.out / 'runs'}   (or: make app)")
    return 0
