"""How long a comparison would take here: the pace of one of its models, times the views of the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from svit.comparison.plan import Job
from svit.comparison.row import Setting
from svit.data.coco import CocoDataset
from svit.data.samples import to_device
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.evaluation.passes import How, deciding, look
from svit.training.loader import feed
from svit.training.optimise import Precision, build_optimizer

STEPS, LOOKS = 2, 3  # timed, after one of each to warm up


@dataclass(frozen=True)
class Pace:
    """Seconds a view, with reading the image.

    Attributes:
        training: one image forward and backward, with its share of the optimiser's step.
        evaluation: one image forward.
    """

    training: float
    evaluation: float

    def seconds(self, planned: Sequence[Job], train_images: int, val_images: int) -> float:
        """Of these rows, one after another."""
        trained = sum(job.training_views(train_images) for job in planned)
        looked = sum(job.evaluation_views(val_images) for job in planned)
        return trained * self.training + looked * self.evaluation


def in_words(seconds: float) -> str:
    """Minutes below two hours, hours from there on."""
    minutes = seconds / 60
    return f"{minutes / 60:.1f} hours" if minutes > 120 else f"{max(1, round(minutes))} minutes"


def measure(job: Job, setting: Setting, device: str) -> Pace:
    """Times a few steps and images of a row's model with random weights.

    Training costs about the same in all rows, because masked training computes every token. Evaluation
    here is an upper bound: random weights find as many objects as a detector may return.

    Raises:
        CocoError, ConfigError: as a training with these settings would.
    """
    train_set, val_set = setting.data(job.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        detector = build_detector(job.config).to(device)
        return Pace(_training(detector, train_set), _evaluation(detector, val_set))


def _training(detector: Detector, train_set: CocoDataset) -> float:
    settings, device = detector.config.train, next(detector.parameters()).device
    optimizer, precision = (
        build_optimizer(detector, settings),
        Precision(settings.precision, device),
    )
    samples = feed(train_set, batch=settings.batch, seed=settings.seed, start_step=0)
    detector.train()

    def step() -> None:
        batch = [to_device(sample, device) for sample in next(samples)]
        loss = torch.stack(list(precision.losses(detector, batch).values())).sum()
        precision.backward(loss, optimizer, detector.parameters(), settings.clip_norm)
        precision.update(optimizer)

    return _seconds(step, STEPS, device) / settings.batch


def _evaluation(detector: Detector, val_set: CocoDataset) -> float:
    images = [[index % len(val_set)] for index in range(LOOKS + 1)]
    with deciding(detector):
        seen = look(detector, val_set, images, How(scores=False))
        return _seconds(lambda: next(seen), LOOKS, next(detector.parameters()).device)


def _seconds(action: Callable[[], object], times: int, device: torch.device) -> float:
    """Mean time of an action, after one to warm up."""
    action()
    begin = time.perf_counter()
    for _ in range(times):
        action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / times
