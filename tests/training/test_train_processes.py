"""Several training processes: the curve of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from support.trainings import TINY, Deterministic, Pictures, Tiny, lines, settings, within
from torch import Tensor

import svit.training.trainer
from svit.core.config import PruningConfig
from svit.system import processes
from svit.training import training_checkpoints
from svit.training.train import TrainError, train

LIMIT = 300  # seconds a group of processes may take, on the busiest machine


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Tiny)


def _train_deterministic(output: Path) -> int:
    """What each of several processes runs; the model has no randomness they could not share."""
    svit.training.trainer.build_detector = Deterministic
    processes.PATIENCE = timedelta(seconds=LIMIT)
    train(DETERMINISTIC, Pictures(), output)
    return 0


# chunks of two images: what one of two processes has, so that the ratio loss averages alike (methods.md 6.4)
DETERMINISTIC = replace(
    settings(noise_end=0.0),
    backbone=replace(TINY.backbone, drop_path=0.0),
    pruning=PruningConfig("svit", {"keep_ratios": [0.7, 0.5], "ratio_chunk": 2}),
)


def test_two_processes_follow_the_curve_of_one_with_the_joined_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked_processes: None
) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Deterministic)
    train(DETERMINISTIC, Pictures(), tmp_path / "one")
    with within(LIMIT):
        assert processes.launch(_train_deterministic, tmp_path / "two", processes.Layout(2)) == 0
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        for name in ("total_loss", "loss_cls", "loss_size", "ratio_loss", "gradient_norm"):
            # sums over images run in another order: float32 rounding, nothing more
            assert b[name] == pytest.approx(a[name], rel=2e-5), name
        assert b["keep_ratio"] == pytest.approx(a["keep_ratio"], abs=2e-3)
    assert training_checkpoints.read(training_checkpoints.paths(tmp_path / "two")[0])["world"] == 2


def test_machines_that_do_not_share_the_output_are_found_out(tmp_path: Path) -> None:
    class Elsewhere(processes.Ranks):
        def mean(self, values: Tensor) -> Tensor:
            return values / 2  # the other process is at step 0

    trainer = svit.training.trainer.Trainer(
        TINY, Pictures(), tmp_path, Elsewhere(0, 1, torch.device("cpu"))
    )
    trainer.check_common_start()
    trainer.step = 6
    with pytest.raises(TrainError, match="must be a shared folder"):
        trainer.check_common_start()
