"""Several processes: errors in the user's words, exit codes, signals; none that outlives the others."""

from __future__ import annotations

import argparse
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.trainings import within
from torch import multiprocessing as mp

from svit.cli.options import processes as process_options
from svit.system import processes, signals

LIMIT = 300  # seconds a group of processes may take, on the busiest machine


def _sleep(task: object) -> int:
    time.sleep(600)
    return 0


def _save(folder: Path) -> int:
    """Works until a signal comes, then takes a while to save."""
    with signals.stop_requests() as stop:
        (folder / f"ready{os.environ['RANK']}").touch()
        while not stop:
            time.sleep(0.05)
        time.sleep(1.5)
        (folder / f"saved{os.environ['RANK']}").touch()
    return signals.INTERRUPTED


def _fail(task: object) -> int:
    raise RuntimeError("the first line\n  a second, indented\nand a third")


def _count(folder: Path) -> int:
    with processes.joined() as ranks:
        (folder / str(ranks.total(ranks.rank + 2))).touch()
    return 0


def test_counts_add_up_over_the_processes(tmp_path: Path, forked_processes: None) -> None:
    with within(LIMIT):
        processes.launch(_count, tmp_path, processes.Layout(2))
    assert [path.name for path in tmp_path.iterdir()] == ["5"]


def test_an_error_in_a_process_reaches_the_user_in_its_own_words(forked_processes: None) -> None:
    with pytest.raises(processes.LaunchError) as error, within(LIMIT):
        processes.launch(_fail, None, processes.Layout(2))
    assert str(error.value) == "the first line\n  a second, indented\nand a third"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_every_process_save_and_the_exit_code_says_so(
    tmp_path: Path, forked_processes: None, number: signal.Signals
) -> None:
    launcher = mp.get_context("fork").Process(
        target=lambda: sys.exit(processes.launch(_save, tmp_path, processes.Layout(2)))
    )
    launcher.start()
    with within(LIMIT):
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.05)
        os.kill(launcher.pid, number)
        launcher.join()
    assert launcher.exitcode == signals.INTERRUPTED == 130
    assert len(list(tmp_path.glob("saved*"))) == 2


def _not_ready(folder: Path) -> int:
    """As a process that still imports what it needs."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    (folder / f"ready{os.environ['RANK']}").touch()
    time.sleep(600)
    return 0


def test_a_signal_before_there_is_anything_to_save_has_the_same_exit_code(
    tmp_path: Path, forked_processes: None
) -> None:
    launcher = mp.get_context("fork").Process(
        target=lambda: sys.exit(processes.launch(_not_ready, tmp_path, processes.Layout(2)))
    )
    launcher.start()
    with within(LIMIT):
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.05)
        os.kill(launcher.pid, signal.SIGTERM)
        launcher.join()
    assert launcher.exitcode == signals.INTERRUPTED


def test_new_interpreters_hand_their_exit_code_on() -> None:
    with within(LIMIT):
        assert processes.launch(operator.index, 3, processes.Layout(2)) == 3


def test_no_process_outlives_the_one_that_waits_for_it(forked_processes: None) -> None:
    with pytest.raises(TimeoutError), within(0.5):
        processes.launch(_sleep, None, processes.Layout(2))
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


def options(*words: str) -> processes.Layout:
    parser = argparse.ArgumentParser()
    process_options.add_arguments(parser)
    return process_options.layout(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-machines", "2"), "need one address"),
        (("--num-machines", "2", "--dist-url", "host:1"), "expected tcp://HOST:PORT"),
        (("--num-gpus", "2", "--machine-rank", "1"), "below --num-machines"),
        (("--machine-rank", "1"), "below --num-machines"),
    ],
)
def test_process_options_that_do_not_fit_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(processes.LaunchError, match=message):
        processes.launch(_fail, None, options(*words))
