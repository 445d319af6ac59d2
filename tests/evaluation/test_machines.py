"""Two machines under torchrun, on loopback and with different numbers of processes: as docs/scale.md says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.scenes import detector
from support.trainings import within

from svit.cli import main
from svit.data.shapes import write_dataset
from svit.runs.run import open_run
from svit.weights import checkpoint

LIMIT = 300  # seconds that machines may take, on the busiest machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def machines(words: list[str], log: Path, *processes: int) -> list[subprocess.Popen]:
    """One torchrun a machine, each a session of its own that can be killed whole."""
    shared = [
        "--nnodes",
        len(processes),
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        free_port(),
    ]
    started = []
    for rank, count in enumerate(processes):
        own = ["--node-rank", rank, "--nproc-per-node", count, "-m", "svit", *words]
        command = [sys.executable, "-m", "torch.distributed.run", *map(str, [*shared, *own])]
        with log.with_suffix(f".{rank}").open("wb") as output:
            started.append(
                subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            )
    return started


def kill(machine: subprocess.Popen) -> None:
    """The agent, and the processes that it started in sessions of their own."""
    found = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()
    for pid in (machine.pid, *map(int, found)):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_of_two_machines_one_is_killed_and_others_go_on_to_the_result_of_one_process(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path / "data", 0, 60, seed=3, size=64, workers=1, progress=False)
    checkpoint.save(tmp_path / "model.safetensors", detector())
    annotations = tmp_path / "data" / "annotations" / "instances_val2017.json"

    def words(out: str) -> list[str]:
        model = ["--weights", tmp_path / "model.safetensors", "--framework", "torchvision"]
        data = ["--dataset", annotations, "--image-root", tmp_path / "data" / "val2017"]
        to = ["--record", tmp_path / out / "run", "--out", tmp_path / out / "results"]
        every = ["evaluate", *model, "--device", "cpu", *data, *to, "--draws", 20]
        return [str(word) for word in every]

    first, second = machines(words("shared"), tmp_path / "killed", 2, 1)
    with within(LIMIT):
        while not list((tmp_path / "shared").glob("run/writer-00002.lock")):
            assert second.poll() is None, (tmp_path / "killed.1").read_text()
            time.sleep(0.02)
        kill(second)
        assert first.wait() != 0  # what it recorded is kept
    assert 0 < len(open_run(tmp_path / "shared" / "run")) < 60
    with within(LIMIT):
        again = machines(words("shared"), tmp_path / "again", 1, 2)
        codes = [machine.wait() for machine in again]
    assert codes == [0, 0], (tmp_path / "again.0").read_text()
    assert main.main(words("alone")) == 0
    shared, alone = (open_run(tmp_path / name / "run") for name in ("shared", "alone"))
    assert shared.finished and shared.content_hash() == alone.content_hash()
    numbers = [
        json.loads((tmp_path / name / "results" / "summary.json").read_text())
        for name in ("shared", "alone")
    ]
    for summary in numbers:
        del summary["provenance"], summary["sha256"]  # the command and its arguments
    assert numbers[0] == numbers[1]
