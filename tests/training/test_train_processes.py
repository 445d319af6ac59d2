"""Several training processes: the curve of one, errors in the user's words, options that fit."""

from __future__ import annotations

import argparse
import operator
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from support.trainings import TINY, Deterministic, Pictures, Tiny, lines, settings, within
from torch import Tensor
from torch import multiprocessing as mp

import svit.training.trainer
from svit.core.config import PruningConfig
from svit.system import processes
from svit.training import training_checkpoints
from svit.training.train import TrainError, train

LIMIT = 300  # seconds a group of processes may take, on the busiest machine


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Tiny)


def _train_deterministic(args: argparse.Namespace) -> int:
    """What each of several processes runs; the model has no randomness they could not share."""
    svit.training.trainer.build_detector = Deterministic
    processes.PATIENCE = timedelta(seconds=LIMIT)
    train(DETERMINISTIC, Pictures(), args.out)
    return 0


def _sleep(args: argparse.Namespace) -> int:
    time.sleep(600)
    return 0


def _fail(args: argparse.Namespace) -> int:
    raise TrainError("the first line\n  a second, indented\nand a third")


# chunks of two images: what one of two processes has, so that the ratio loss averages alike (methods.md 6.4)
DETERMINISTIC = replace(
    settings(noise_end=0.0),
    backbone=replace(TINY.backbone, drop_path=0.0),
    pruning=PruningConfig("svit", {"keep_ratios": [0.7, 0.5], "ratio_chunk": 2}),
)


def process_options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    processes.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the imports of spawned processes."""
    start = mp.start_processes

    def fork(*args: object, **options: object) -> object:
        return start(*args, **{**options, "start_method": "fork"})

    monkeypatch.setattr(mp, "start_processes", fork)


def test_two_processes_follow_the_curve_of_one_with_the_joined_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked_processes: None
) -> None:
    monkeypatch.setattr(svit.training.trainer, "build_detector", Deterministic)
    train(DETERMINISTIC, Pictures(), tmp_path / "one")
    args = process_options("--num-gpus", "2")
    args.out = tmp_path / "two"
    with within(LIMIT):
        assert processes.launch(_train_deterministic, args) == 0
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


def test_an_error_in_a_process_reaches_the_user_in_its_own_words(forked_processes: None) -> None:
    with pytest.raises(processes.LaunchError) as error, within(LIMIT):
        processes.launch(_fail, process_options("--processes", "2"))
    assert str(error.value) == "the first line\n  a second, indented\nand a third"


def test_new_interpreters_hand_their_exit_code_on() -> None:
    args = process_options("--processes", "2")
    args.code = 3
    with within(LIMIT):
        assert processes.launch(operator.attrgetter("code"), args) == 3


def test_no_process_outlives_the_one_that_waits_for_it(forked_processes: None) -> None:
    with pytest.raises(TimeoutError), within(0.5):
        processes.launch(_sleep, process_options("--processes", "2"))
    for process in mp.active_children():
        process.join(10)
    assert mp.active_children() == []


def test_a_process_that_waits_in_vain_for_the_others_gives_up(tmp_path: Path) -> None:
    code = (
        "import datetime; from svit.system import processes as launch\n"
        "launch.PATIENCE = datetime.timedelta(seconds=1)\n"
        "with launch.joined(): pass"
    )
    alone = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    environment = {**os.environ, **alone, "MASTER_PORT": str(processes._free_port())}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 1 and "DistStoreError" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-machines", "2"), "need one address"),
        (("--num-machines", "2", "--dist-url", "host:1"), "expected tcp://HOST:PORT"),
        (("--num-gpus", "2", "--machine-rank", "1"), "below --num-machines"),
    ],
)
def test_process_options_that_do_not_fit_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(processes.LaunchError, match=message):
        processes.launch(_fail, process_options(*words))
