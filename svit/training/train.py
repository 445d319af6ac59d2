"""Training: a detector from a preset and a COCO data set, dense or pruned, on one process or many.

From Python: `train(load_config("vit-plain-nano"), CocoDataset(...), Path("runs/dense"))`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch

from svit.core.config import Config
from svit.data.coco import CocoDataset
from svit.system import processes
from svit.system.signals import stop_requests
from svit.training.trainer import Evaluate, Trainer, TrainError

__all__ = ["TrainError", "train"]


def train(
    config: Config,
    train_set: CocoDataset,
    output: Path,
    *,
    init: Path | None = None,
    teacher: Path | None = None,
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
        teacher: dense weights whose maps `train.distil` learns; `init` where none are named.
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
        stop = stack.enter_context(stop_requests())
        trainer = Trainer(config, train_set, Path(output), ranks, teacher or init)
        trainer.claim_output(stack, resume)
        trainer.start(init, resume)
        trainer.check_common_start()
        trainer.open_journal(stack)
        return trainer.run(workers, max_steps_this_run, evaluate, stop)
