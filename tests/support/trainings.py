"""A tiny training that takes a second: its model, its pictures, and what two of them are compared by."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import multiprocessing as mp

import svit.training.trainer
from svit.core.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DetectorConfig,
    PruningConfig,
    TrainConfig,
)
from svit.core.types import Target
from svit.data.samples import Sample
from svit.detectors.base import Detector
from svit.models import build_backbone
from svit.training import training_checkpoints
from svit.training.train import train

TINY = Config(
    name="tiny",
    framework="torchvision",
    backbone=BackboneConfig(
        neck="pyramid", embed_dim=16, depth=4, heads=2, pretrain_grid=2, drop_path=0.1
    ),
    pruning=PruningConfig("svit", {"keep_ratios": [0.7, 0.5]}),
    detector=DetectorConfig(classes=2, fpn_dim=8),
    data=DataConfig(short_side=32, long_side=64, augment="flips"),
    train=TrainConfig(
        iterations=8,
        batch=4,
        rate=1e-3,
        warmup=2,
        schedule="cosine",
        precision="float32",
        clip_norm=1.0,
        gate_rate_multiplier=10.0,
        noise_end=0.5,
        checkpoint_period=3,
    ),
)


class Pictures:
    """Eleven noise images that answer as `svit.data.coco.CocoDataset` does.

    Args:
        on_read: called with the number of images read so far, this one included, for tests that break
            something; a number it returns fills the image.
    """

    class_names = foreign_names = ("square", "disc")
    category_ids, left_out = (1, 2), 0
    exif, class_map = "auto", {}
    image_ids = tuple(range(100, 111))
    aspect_groups = np.zeros(11, dtype=int)

    def __init__(self, on_read: Callable[[int], float | None] = lambda reads: None) -> None:
        self._on_read, self._reads = on_read, 0

    def __len__(self) -> int:
        return len(self.image_ids)

    annotations: Sequence[dict] = ()

    def coco(self, indices: Sequence[int]) -> dict:
        return {"annotations": list(self.annotations)}

    def file_name(self, index: int) -> str:
        return f"{self.image_ids[index]}.png"

    def sample(self, index: int, seed: int | None = None) -> Sample:
        self._reads += 1
        fill = self._on_read(self._reads)
        noise = torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(seed or 0))
        image = noise if fill is None else torch.full((3, 32, 64), fill)
        target = Target([[4.0, 4, 20, 20]], [index % 2], np.ones((1, 32, 64), bool))
        return Sample(self.image_ids[index], image, (32, 64), target)


class Tiny(Detector):
    """A real backbone with a head whose loss is a mean over images, so that it splits over processes."""

    framework = "torchvision"
    names = {"body.": "backbone.bottom_up.", "head.": "roi_heads.box_predictor.cls_score."}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.body = build_backbone(config.backbone, config.pruning)
        self.head = torch.nn.Linear(config.backbone.embed_dim, config.detector.classes)

    @property
    def backbone(self):
        return self.body

    def _losses(self, images, maps, samples, targets) -> dict[str, Tensor]:
        logits = self.head(maps["c4"].mean(dim=(2, 3)))
        labels = torch.tensor([int(target.labels[0]) for target in targets])
        size = sum(level.square().mean() for level in maps.values())
        return {"loss_cls": torch.nn.functional.cross_entropy(logits, labels), "loss_size": size}


class Deterministic(Tiny):
    """The same without random masks: what several processes can repeat exactly."""

    def losses(self, samples):
        self.body.method.noise_scale = 0.0
        return super().losses(samples)


def settings(**changes: object) -> Config:
    return replace(TINY, train=replace(TINY.train, **changes))


def lines(folder: Path) -> list[dict]:
    text = (folder / "metrics.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    return training_checkpoints.read(training_checkpoints.paths(folder)[0])["model"]


def without_seconds(folder: Path) -> list[dict]:
    timing = ("data_seconds", "compute_seconds", "images_per_second")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines(folder)]


def killed(at: int) -> Callable[[int], None]:
    """Ends the process without a word at the given read."""
    return lambda reads: os.kill(os.getpid(), signal.SIGKILL) if reads == at else None


def signalled(at: int, number: signal.Signals) -> Callable[[int], None]:
    return lambda reads: os.kill(os.getpid(), number) if reads == at else None


def forked(action: Callable, *args: object) -> int:
    """Runs something in a process of its own. Returns: the exit code, negative for a signal."""
    process = mp.get_context("fork").Process(target=action, args=args)
    process.start()
    process.join()
    return process.exitcode


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what takes longer with a TimeoutError: several processes may wait for each other for ever."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    # again every second: an exception that a destructor or a fork hook raises is lost
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def assert_same_training(one: Path, other: Path) -> None:
    """Weights and curves agree to the last bit."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert without_seconds(one) == without_seconds(other)


def unbroken(folder: Path) -> Path:
    """One whole training of `TINY`. Returns: its output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svit.training.trainer, "build_detector", Tiny)
        assert train(TINY, Pictures(), folder) == "finished"
    return folder
