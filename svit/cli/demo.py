"""`svit demo`: the whole way from data to pictures with the models that ship in `demo/`.

Evaluates and records a dense and a sparse model of each world, and renders the first figures: shapes on
fresh scenes, nuclei on the photograph of `demo/pictures`. All it makes goes below one folder and is gone
on with after an interruption.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from svit.cli.options import kinds
from svit.data.coco import CocoDataset, CocoFiles
from svit.data.shapes import write_dataset
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.summary import Summary
from svit.evaluation.summary_tables import result_table
from svit.system.files import write_text
from svit.system.home import home
from svit.system.text import shown
from svit.weights.loading import load_detector

HELD_OUT = 5_000_000  # scenes from this seed on were never trained on (demo/README.md)
FIGURES = ("heatmap", "layers", "reactivation")

log = logging.getLogger(__name__)


class DemoError(RuntimeError):
    """The shipped models are not where they belong."""


@dataclass(frozen=True)
class World:
    """A kind of pictures, and the models that ship for it.

    Attributes:
        models: names of checkpoints in `demo/`, the dense one first.
        table: file of the results.
        data: makes or finds the pictures: from the demo's folder and the number of scenes.
        remark: what the table does not say of itself.
    """

    models: tuple[str, str]
    table: str
    data: Callable[[Path, int], CocoFiles]
    remark: str = ""

    def missing(self) -> list[str]:
        """The models that are not there."""
        return [name for name in self.models if not weights_of(name).is_file()]


def _scenes(out: Path, images: int) -> CocoFiles:
    data = out / "shapes"
    write_dataset(data, train=0, val=images, seed=HELD_OUT)
    return CocoFiles(data / "annotations" / "instances_val2017.json", data / "val2017")


def _photograph(out: Path, images: int) -> CocoFiles:
    pictures = home() / "demo" / "pictures"
    return CocoFiles(pictures / "nuclei.json", pictures)


SHAPES = World(("vit-plain-nano", "svit-plain-nano"), "table.md", _scenes)
NUCLEI = World(
    ("vit-plain-nuclei", "svit-plain-nuclei"),
    "nuclei.md",
    _photograph,
    "One photograph of 125 nuclei that no model was trained on (demo/pictures/README.md): an example, no "
    "measurement. AP counts 100 detections a picture, as COCO's does, so no more than 80 % of these nuclei; "
    "there is no interval, since one picture tells nothing of others.",
)
WORLDS = (SHAPES, NUCLEI)


def demo(out: Path, images: int, pictures: int, framework: str = "auto") -> list[Path]:
    """Evaluates, records and renders the shipped models, each on its world.

    Args:
        out: folder for data, results, runs and pictures.
        images: scenes of shapes to evaluate on.
        pictures: pictures that are drawn, the first ones.
        framework: auto, torchvision or detectron2.

    Returns: the picture and table files written.

    Raises:
        DemoError: a shipped model is missing.
    """
    missing = [f"{name}.safetensors" for world in WORLDS for name in world.missing()]
    if missing:
        raise DemoError(
            f"{home() / 'demo'} lacks {', '.join(missing)}, which ship with the workbench: restore them from "
            "its repository (git checkout -- demo) or install its wheel again"
        )
    return [path for world in WORLDS for path in show(world, out, images, pictures, framework)]


def show(world: World, out: Path, images: int, pictures: int, framework: str) -> list[Path]:
    """One world; see `demo`."""
    files = world.data(out, images)
    summaries, written = [], []
    for name in world.models:
        detector = load_detector(weights_of(name), framework).eval()
        dataset = CocoDataset(
            files.json, files.image_root, detector.config.data, class_names=detector.class_names
        )
        record = out / "runs" / name
        log.info("%s on %s: %d pictures", name, detector.framework, len(dataset))
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
    return [_table(world, summaries, out / "results" / world.table), *written]


def _table(world: World, summaries: list[Summary], path: Path) -> Path:
    text = "\n\n".join(filter(None, [result_table(summaries), world.remark]))
    write_text(path, text + "\n")
    print(shown(text))
    return path


def weights_of(name: str) -> Path:
    """The shipped checkpoint of a model."""
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
