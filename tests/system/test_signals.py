"""SIGINT and SIGTERM to real commands: what was done is saved, exit code 130, the same command goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support.scenes import detector
from support.trainings import within
from torch.utils.data import DataLoader

from svit.cli import main
from svit.core.presets import load_config
from svit.data.shapes import write_dataset
from svit.detectors import build_detector
from svit.runs.run import open_run
from svit.system import signals
from svit.weights import checkpoint

IMAGES = 100
TWO = ("--processes", 2)
LIMIT = 300  # seconds a command may take, on the busiest machine


@dataclass(frozen=True)
class Given:
    data: Path
    model: Path
    start: Path

    def record(self, out: Path) -> list[object]:
        return ["record", *self._model(), "--coco", *self._data(), "--out", out / "run"]

    def evaluate(self, out: Path) -> list[object]:
        words = ["evaluate", *self._model(), "--dataset", *self._data(), "--draws", 2]
        return [*words, "--record", out / "run", "--out", out / "results"]

    def compare(self, out: Path) -> list[object]:
        words = ["compare", "--dataset", self.data, "--init", self.start, "--rows", "svit"]
        return [*words, "--steps", 1, "--calibrate-on", 2, "--images", 60, "--out", out, *SMALL]

    def _model(self) -> tuple[object, ...]:
        return "--weights", self.model, "--framework", "torchvision", "--device", "cpu"

    def _data(self) -> tuple[object, ...]:
        json = self.data / "annotations" / "instances_val2017.json"
        return json, "--image-root", self.data / "val2017"


SMALL = [
    *("framework=torchvision", "data.short_side=64", "data.long_side=64", "train.batch=2"),
    *("train.precision=float32", "detector.max_detections=3", "detector.rpn_pre_nms_test=50"),
]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    root = tmp_path_factory.mktemp("given")
    write_dataset(root / "data", 4, IMAGES, seed=3, size=64, workers=1, progress=False)
    checkpoint.save(root / "model.safetensors", detector())
    torch.manual_seed(0)
    dense = build_detector(load_config("vit-plain-nano", SMALL))
    checkpoint.save(root / "start.safetensors", dense)
    return Given(root / "data", root / "model.safetensors", root / "start.safetensors")


@pytest.fixture(scope="module")
def whole(given: Given, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Content of an unbroken recording."""
    out = tmp_path_factory.mktemp("whole")
    assert main.main([str(word) for word in given.record(out)]) == 0
    return open_run(out / "run").content_hash()


def test_a_parent_that_hangs_up_is_no_error_of_a_process_that_reads_ahead() -> None:
    code = """
import sys
from svit.system.signals import follow_parent
follow_parent(0)
def fail(error):
    raise error
for error in (ConnectionResetError(104, "hung up"), EOFError(), ValueError("wrong")):
    try:
        fail(error)
    except Exception:
        sys.excepthook(*sys.exc_info())
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "wrong" in told.stderr and "hung up" not in told.stderr and "EOF" not in told.stderr


def stopped(words: list[object], send: Callable[[int], None]) -> int:
    """Starts the command in a session of its own and sends a signal once its bar of images has moved on.
    Returns: the exit code."""
    command = [sys.executable, "-m", "svit", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as running:
        told = b""
        with within(LIMIT):
            while not re.search(rb"\b[1-9]\d*/\d+ ", told):
                more = os.read(running.stderr.fileno(), 1000)
                assert more, told.decode()
                told += more
            send(running.pid)
            told += running.stderr.read()
        code = running.wait(LIMIT)
    assert b"Traceback" not in told, told.decode()
    return code


def to_one(number: signal.Signals) -> Callable[[int], None]:
    """As a batch system that knows the command alone."""
    return lambda pid: os.kill(pid, number)


def to_all(number: signal.Signals) -> Callable[[int], None]:
    """As a terminal, or `timeout`: every process of the group."""
    return lambda pid: os.killpg(pid, number)


@pytest.mark.parametrize(
    ("more", "send"),
    [
        pytest.param((), to_one(signal.SIGTERM), id="alone", marks=pytest.mark.slow),
        pytest.param(("--workers", 1), to_all(signal.SIGTERM), id="reading-ahead"),
        pytest.param(TWO, to_one(signal.SIGTERM), id="two-processes", marks=pytest.mark.slow),
        pytest.param(
            (*TWO, "--workers", 1), to_all(signal.SIGINT), id="terminal", marks=pytest.mark.slow
        ),
    ],
)
def test_a_recording_that_is_stopped_is_saved_and_goes_on(
    given: Given, whole: str, tmp_path: Path, more: tuple, send: Callable[[int], None]
) -> None:
    words = given.record(tmp_path)
    assert stopped([*words, *more], send) == signals.INTERRUPTED == 130
    run = open_run(tmp_path / "run")
    assert 1 <= len(run) < IMAGES and not run.finished
    assert main.main([str(word) for word in words]) == 0
    assert open_run(tmp_path / "run").content_hash() == whole
    assert not list((tmp_path / "run").glob("*.lock*")) + list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_an_evaluation_that_is_stopped_keeps_what_it_recorded(given: Given, tmp_path: Path) -> None:
    words = given.evaluate(tmp_path)
    assert stopped(words, to_one(signal.SIGTERM)) == signals.INTERRUPTED
    assert 1 <= len(open_run(tmp_path / "run")) < IMAGES
    assert not list((tmp_path / "results").iterdir())
    assert main.main([str(word) for word in words]) == 0
    assert main.main([str(word) for word in given.evaluate(tmp_path / "whole")]) == 0
    for name in ("coco_instances_results.json", "images.csv"):
        here, there = (out / "results" / name for out in (tmp_path, tmp_path / "whole"))
        assert here.read_bytes() == there.read_bytes()


@pytest.mark.slow
def test_a_comparison_that_is_stopped_while_it_measures_goes_on_there(
    given: Given, tmp_path: Path
) -> None:
    words = given.compare(tmp_path)
    assert stopped(words, to_one(signal.SIGTERM)) == signals.INTERRUPTED
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    trained = (folder / f"{folder.name}.safetensors").read_bytes()
    assert 1 <= len(open_run(folder / "run")) < 60
    assert main.main([str(word) for word in words]) == 0
    assert (folder / "row.json").exists()
    assert (folder / f"{folder.name}.safetensors").read_bytes() == trained


def test_a_second_signal_does_not_disturb_the_saving_of_the_first() -> None:
    saved, before = [], signal.getsignal(signal.SIGINT)  # ignored where the shell runs jobs aside
    with pytest.raises(KeyboardInterrupt), signals.interrupting():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            saved.append(True)
    assert saved and signal.getsignal(signal.SIGINT) is before


def test_processes_that_read_ahead_end_when_their_parent_says_so() -> None:
    loader = DataLoader([1, 2, 3], num_workers=1, worker_init_fn=signals.follow_parent)
    numbers = iter(loader)
    assert int(next(numbers)) == 1
    (worker,) = numbers._workers
    other = f"import os, signal; os.kill({worker.pid}, signal.SIGTERM)"
    subprocess.run([sys.executable, "-c", other], check=True)
    time.sleep(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert not worker.is_alive()
