"""`svit train`: a detector from a preset and a COCO data set, dense or pruned, on one process or many.

From Python: `train(load_config("vit-plain-nano"), CocoDataset(...), Path("runs/dense"))`.
"""

from __future__ import annotations

import argparse
import logging
import os
from contextlib import ExitStack
from pathlib import Path

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from svit.core.config import Config, load_config
from svit.data.coco import CocoDataset, find_coco
from svit.system import processes
from svit.training.trainer import Evaluate, Trainer, TrainError

__all__ = ["TrainError", "add_arguments", "open_training_set", "run", "train"]

INTERRUPTED = 130  # exit code after a signal, as shells have it
log = logging.getLogger("svit.training")


def train(
    config: Config,
    train_set: CocoDataset,
    output: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    workers: int = 0,
    device: str = "cpu",
    max_steps_this_run: int | None = None,
    evaluate: Evaluate | None = None,
) -> str:
    """Trains, or goes on training, until the schedule ends or a signal asks to stop.

    Several processes share each batch and follow one process's curve, to rounding, as far as losses are
    means over images. They differ where a model draws random numbers (each process its own), averages
    over boxes (the detectors' heads), has batch norm on CPU (statistics of the local images), or takes
    the ratio loss over the local images (`ratio_chunk` makes that comparable).

    Args:
        config: the model, its data and its recipe.
        train_set: images with targets.
        output: folder for checkpoints, `metrics.json`, `log.txt`, `config.yaml` and the final model;
            machines that train together must share it.
        init: weights to start from; not read when an earlier run is resumed.
        resume: go on from the newest good checkpoint in `output`, if there is one.
        workers: processes that read images ahead; 0 reads them in between.
        device: "cpu" or "cuda".
        max_steps_this_run: pause after so many steps, as long trainings in pieces need.
        evaluate: called with the detector (in eval mode) and the step after every checkpoint, by the
            first rank alone; the numbers it returns go into `metrics.json`.

    Returns:
        "finished"; "paused" after `max_steps_this_run`; "interrupted" after SIGINT or SIGTERM.

    Raises:
        ConfigError, DataMismatch, CocoError: the settings do not fit the device or the data.
        TrainError: `output` belongs to another training or cannot be written, or a loss is no longer
            finite.
        SnapshotError: there are checkpoints and none can be read.
    """
    with ExitStack() as stack:
        ranks = stack.enter_context(processes.joined(device))
        if ranks.device.type == "cpu":
            torch.set_flush_denormal(True)  # vanishing activations would slow a CPU down manyfold
            stack.callback(torch.set_flush_denormal, False)
        stop = stack.enter_context(processes.stop_requests())
        trainer = Trainer(config, train_set, Path(output), ranks)
        trainer.claim_output(stack, resume)
        trainer.start(init, resume)
        trainer.check_common_start()
        trainer.open_journal(stack)
        return trainer.run(workers, max_steps_this_run, evaluate, stop)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit train`; names that detectron2 has mean what they mean there."""
    parser.add_argument(
        "--config", "--config-file", required=True, metavar="PRESET|YAML", help="`svit presets`"
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="JSON|DIR|SPLIT",
        help="COCO instances, a folder in COCO's layout, or a split found by DETECTRON2_DATASETS",
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="DIR", help="images (default: by COCO's layout)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="weights of any known origin; of a model with the other neck, its ViT and heads",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in --out"
    )
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="pause after N steps of this run; resume later"
    )
    parser.add_argument("--workers", type=int, default=0, help="reading processes (default 0)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    processes.add_arguments(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as train.rate=1e-4; put them last"
    )


def run(args: argparse.Namespace) -> int:
    """`svit train`. Returns: the exit code, 130 after a signal (everything is saved then)."""
    return processes.launch(_run, args)


def _run(args: argparse.Namespace) -> int:
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO if first else logging.ERROR)
    config = load_config(args.config, args.overrides)
    train_set = open_training_set(args.dataset, args.image_root, config)
    for line in train_set.report.lines():
        log.info(line)
    with logging_redirect_tqdm():
        ending = train(
            config,
            train_set,
            args.out,
            init=args.init,
            resume=args.resume,
            workers=args.workers,
            device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            max_steps_this_run=args.max_steps,
        )
    return INTERRUPTED if ending == "interrupted" else 0


def open_training_set(dataset: str, image_root: Path | None, config: Config) -> CocoDataset:
    """The training images a `--dataset` means: a json, a folder in COCO's layout, or a split.

    Raises:
        CocoError: nothing found, or the json is wrong.
    """
    path = Path(dataset)
    if path.suffix == ".json":
        split = path.stem.removeprefix("instances_")
        root = image_root or path.parent.parent / split  # ROOT/annotations/instances_SPLIT.json
        return CocoDataset(path, root, config.data, train=True)
    files = find_coco("train", path) if path.is_dir() else find_coco(dataset)
    return CocoDataset(files.json, image_root or files.image_root, config.data, train=True)
